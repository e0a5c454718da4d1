//! What a request may say beside its body: the parameters of paths and queries.

use serde_json::{Value, json};

use super::{Builder, Edition, Scope};
use crate::registry::Subresource;

impl Builder<'_> {
    pub(super) fn parameters(&self, action: &str, subresource: Option<&Subresource>) -> Vec<Value> {
        let mut parameters = Vec::new();
        let on_item = subresource.is_some() || matches!(action, "get" | "put" | "patch" | "delete");
        if on_item {
            parameters.push(self.parameter("path", "name", "string", &format!("name of the {}", self.resource.kind)));
        }
        if self.scope == Scope::Namespaced {
            let description = "object name and auth scope, such as for teams and projects";
            parameters.push(self.parameter("path", "namespace", "string", description));
        }
        let names: &[&str] = match action {
            "list" => LIST,
            "post" | "put" => WRITE,
            "patch" => &["dryRun", "fieldManager", "fieldValidation", "force"],
            "delete" => DELETE,
            "deletecollection" => DELETE_COLLECTION,
            "connect" | "get" => subresource.map_or(&[], |sub| match sub.name {
                "log" => LOG,
                "exec" | "attach" => &["command", "container", "stderr", "stdin", "stdout", "tty"],
                "portforward" => &["ports"],
                "proxy" => &["path"],
                _ => &[],
            }),
            _ => &[],
        };
        for name in names {
            let (kind, description) = describe_parameter(name);
            parameters.push(self.parameter("query", name, kind, description));
        }
        if action != "connect" {
            let (kind, description) = describe_parameter("pretty");
            parameters.push(self.parameter("query", "pretty", kind, description));
        }
        parameters
    }

    fn parameter(&self, place: &str, name: &str, kind: &str, description: &str) -> Value {
        let mut parameter = json!({"name": name, "in": place, "description": description});
        if place == "path" {
            parameter["required"] = Value::Bool(true);
        }
        match self.edition {
            Edition::V2 => {
                parameter["type"] = Value::from(kind);
                parameter["uniqueItems"] = Value::Bool(true);
            }
            Edition::V3 => parameter["schema"] = json!({"type": kind, "uniqueItems": true}),
        }
        parameter
    }
}

const LIST: &[&str] = &[
    "allowWatchBookmarks",
    "continue",
    "fieldSelector",
    "labelSelector",
    "limit",
    "resourceVersion",
    "resourceVersionMatch",
    "sendInitialEvents",
    "timeoutSeconds",
    "watch",
];
const WRITE: &[&str] = &["dryRun", "fieldManager", "fieldValidation"];
const DELETE: &[&str] = &["dryRun", "gracePeriodSeconds", "orphanDependents", "propagationPolicy"];
const DELETE_COLLECTION: &[&str] = &[
    "continue",
    "dryRun",
    "fieldSelector",
    "gracePeriodSeconds",
    "labelSelector",
    "limit",
    "orphanDependents",
    "propagationPolicy",
    "resourceVersion",
    "resourceVersionMatch",
    "sendInitialEvents",
    "timeoutSeconds",
];
const LOG: &[&str] = &[
    "container",
    "follow",
    "insecureSkipTLSVerifyBackend",
    "limitBytes",
    "previous",
    "sinceSeconds",
    "stream",
    "tailLines",
    "timestamps",
];

/// Type and meaning of a query parameter.
fn describe_parameter(name: &str) -> (&'static str, &'static str) {
    match name {
        "allowWatchBookmarks" => ("boolean", "Asks for BOOKMARK events in a watch, which tell how far it has come."),
        "command" => ("string", "The command to run, one parameter for each of its words."),
        "container" => ("string", "The container to use. Defaults to the only container of the pod."),
        "continue" => ("string", "Where a list goes on: the token that came with the chunk before."),
        "dryRun" => ("string", "`All` goes through every stage but stores nothing."),
        "fieldManager" => ("string", "The name of the one who makes these changes; at most 128 printable characters."),
        "fieldSelector" => ("string", "Restricts the objects to those whose fields match. Defaults to everything."),
        "fieldValidation" => (
            "string",
            "What to do about unknown or duplicate fields: `Ignore` drops them, `Warn` (the default) drops them and \
             sends a warning, `Strict` fails the request.",
        ),
        "follow" => ("boolean", "Keeps the stream open for what is logged from now on."),
        "force" => ("boolean", "Takes over fields that other managers own. For apply requests only."),
        "gracePeriodSeconds" => ("integer", "How long to wait before the object goes; zero means at once."),
        "insecureSkipTLSVerifyBackend" => ("boolean", "Does not verify the certificate of the node that is asked."),
        "labelSelector" => ("string", "Restricts the objects to those whose labels match. Defaults to everything."),
        "limit" => ("integer", "How many objects to answer with at most; the rest is asked for with `continue`."),
        "limitBytes" => ("integer", "How many bytes to answer with at most."),
        "orphanDependents" => ("boolean", "Deprecated: use propagationPolicy."),
        "path" => ("string", "The path below the object that the request is for."),
        "ports" => ("integer", "The ports to forward."),
        "pretty" => ("string", "If 'true', then the output is pretty printed."),
        "previous" => ("boolean", "The log of the container that ran before this one."),
        "propagationPolicy" => ("string", "What happens to dependents: `Orphan`, `Background` or `Foreground`."),
        "resourceVersion" => ("string", "The version that the answer is of, or at least of."),
        "resourceVersionMatch" => ("string", "How resourceVersion is meant: `Exact` or `NotOlderThan`."),
        "sendInitialEvents" => {
            ("boolean", "Begins a watch with the objects that are there, and a bookmark after them.")
        }
        "sinceSeconds" => ("integer", "How far back in time the log starts."),
        "stderr" => ("boolean", "Redirect the standard error stream."),
        "stdin" => ("boolean", "Redirect the standard input stream."),
        "stdout" => ("boolean", "Redirect the standard output stream."),
        "stream" => ("string", "Which of the container's streams to answer with: `All`, `Stdout` or `Stderr`."),
        "tailLines" => ("integer", "How many lines from the log's end to start with."),
        "timeoutSeconds" => ("integer", "How long the call lasts at most, whatever it does."),
        "timestamps" => ("boolean", "Begins every line with the time at which it was written."),
        "tty" => ("boolean", "Allocates a terminal for the call."),
        "watch" => ("boolean", "Answers with a stream of changes instead of a list."),
        _ => ("string", ""),
    }
}
