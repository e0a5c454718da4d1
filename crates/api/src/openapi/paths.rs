//! What can be asked at which path.

mod parameters;

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::{
    Edition,
    custom::definition_name,
    schemas::{PATCH, Shown, Used},
};
use crate::{
    registry::{Resource, Subresource, Verb},
    schema,
};

/// Content types of answers.
const PRODUCES: &[&str] = &["application/json", "application/vnd.kubernetes.protobuf", "application/yaml"];
const STREAMS: &[&str] = &["application/json;stream=watch", "application/vnd.kubernetes.protobuf;stream=watch"];
const PATCHES: &[&str] = &[
    "application/apply-patch+yaml",
    "application/json-patch+json",
    "application/merge-patch+json",
    "application/strategic-merge-patch+json",
];

/// Custom resources have no protobuf, and no merge keys that only built-in types have.
const CUSTOM_PRODUCES: &[&str] = &["application/json", "application/yaml"];
const CUSTOM_STREAMS: &[&str] = &["application/json;stream=watch"];
const CUSTOM_PATCHES: &[&str] =
    &["application/apply-patch+yaml", "application/json-patch+json", "application/merge-patch+json"];

/// Every path of the resources, with its operations.
pub(super) fn of(
    resources: &[&'static Resource],
    is_custom: bool,
    edition: Edition,
    used: &mut Used,
) -> BTreeMap<String, Value> {
    let mut paths = BTreeMap::new();
    for &resource in resources {
        let base = match resource.group {
            "" => format!("/api/{}", resource.version),
            group => format!("/apis/{group}/{}", resource.version),
        };
        let mut discovery = Builder { edition, used, resource, is_custom, scope: Scope::Discovery };
        let answer = discovery.discovery();
        paths.entry(format!("{base}/")).or_insert(answer);
        let (scope, collection) = match resource.namespaced {
            true => (Scope::Namespaced, format!("{base}/namespaces/{{namespace}}/{}", resource.plural)),
            false => (Scope::Cluster, format!("{base}/{}", resource.plural)),
        };
        let mut builder = Builder { edition, used, resource, is_custom, scope };
        builder.collection(&mut paths, &collection);
        builder.item(&mut paths, &format!("{collection}/{{name}}"));
        for subresource in resource.subresources {
            builder.subresource(&mut paths, &format!("{collection}/{{name}}/{}", subresource.name), subresource);
        }
        if resource.namespaced && resource.allows(Verb::List) {
            builder.scope = Scope::AllNamespaces;
            let list = builder.operation("get", "list", resource.kind, None);
            insert(&mut paths, &format!("{base}/{}", resource.plural), "get", list);
        }
    }
    paths
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Scope {
    Discovery,
    Cluster,
    Namespaced,
    AllNamespaces,
}

struct Builder<'a> {
    edition: Edition,
    used: &'a mut Used,
    resource: &'static Resource,
    is_custom: bool,
    scope: Scope,
}

fn insert(paths: &mut BTreeMap<String, Value>, path: &str, method: &str, operation: Value) {
    paths.entry(path.to_owned()).or_insert_with(|| json!({}))[method] = operation;
}

impl Builder<'_> {
    fn collection(&mut self, paths: &mut BTreeMap<String, Value>, path: &str) {
        for (verb, method, action) in [
            (Verb::List, "get", "list"),
            (Verb::Create, "post", "post"),
            (Verb::DeleteCollection, "delete", "deletecollection"),
        ] {
            if self.resource.allows(verb) {
                let operation = self.operation(method, action, self.resource.kind, None);
                insert(paths, path, method, operation);
            }
        }
    }

    fn item(&mut self, paths: &mut BTreeMap<String, Value>, path: &str) {
        for (verb, method) in
            [(Verb::Get, "get"), (Verb::Update, "put"), (Verb::Patch, "patch"), (Verb::Delete, "delete")]
        {
            if self.resource.allows(verb) {
                let operation = self.operation(method, method, self.resource.kind, None);
                insert(paths, path, method, operation);
            }
        }
    }

    fn subresource(&mut self, paths: &mut BTreeMap<String, Value>, path: &str, subresource: &'static Subresource) {
        let connects = subresource.kind.ends_with("Options");
        for verb in subresource.verbs {
            let method = match verb {
                Verb::Get => "get",
                Verb::Update => "put",
                Verb::Patch => "patch",
                Verb::Create => "post",
                Verb::Delete => "delete",
                Verb::List | Verb::Watch | Verb::DeleteCollection => continue,
            };
            let action = if connects { "connect" } else { method };
            let operation = self.operation(method, action, subresource.kind, Some(subresource));
            insert(paths, path, method, operation);
        }
    }

    fn discovery(&mut self) -> Value {
        let list = schema::of("", "v1", "APIResourceList").map(Shown::Type);
        let responses = self.responses(list.as_ref(), PRODUCES, &["200"]);
        json!({"get": {
            "tags": [self.tag()],
            "description": "get available resources",
            "operationId": format!("get{}APIResources", self.tag_in_camel_case()),
            "responses": responses,
        }})
    }

    fn operation(&mut self, method: &str, action: &str, kind: &str, subresource: Option<&Subresource>) -> Value {
        let (group, version) =
            subresource.map_or((self.resource.group, self.resource.version), |s| (s.group, s.version));
        let object = self.shown(group, version, kind);
        let status = schema::of("", "v1", "Status").map(Shown::Type);
        let list_kind = if kind == self.resource.kind { self.resource.list_kind() } else { format!("{kind}List") };
        let list = self.shown(group, version, &list_kind);
        let (answer, codes): (_, &[&str]) = match action {
            "list" => (list, &["200"]),
            "post" => (object.clone(), &["200", "201", "202"]),
            "put" | "patch" => (object.clone(), &["200", "201"]),
            "delete" => (status, &["200", "202"]),
            "deletecollection" => (status, &["200"]),
            "connect" => (None, &["200"]),
            _ => (object.clone(), &["200"]),
        };
        let (produces, streams, patches) = match self.is_custom {
            true => (CUSTOM_PRODUCES, CUSTOM_STREAMS, CUSTOM_PATCHES),
            false => (PRODUCES, STREAMS, PATCHES),
        };
        let mut operation = Map::new();
        let mut put = |key: &str, value: Value| drop(operation.insert(key.to_owned(), value));
        put("tags", json!([self.tag()]));
        put("description", Value::from(describe(action, kind, subresource)));
        put("operationId", Value::from(self.operation_id(method, action, kind, subresource)));
        put("x-kubernetes-action", Value::from(action));
        put("x-kubernetes-group-version-kind", json!({"group": group, "version": version, "kind": kind}));
        let mut parameters = self.parameters(action, subresource);
        let content: Vec<&str> = match action {
            "list" => produces.iter().chain(streams).copied().collect(),
            "connect" => vec!["*/*"],
            _ => produces.to_vec(),
        };
        let body = match action {
            "post" | "put" => object.map(|object| self.used.refer(&object, self.edition)),
            "patch" => Some(self.edition.reference(PATCH)),
            "delete" | "deletecollection" => {
                schema::of("", "v1", "DeleteOptions").map(|options| self.used.reference(options, self.edition))
            }
            _ => None,
        };
        let consumes = if action == "patch" { patches } else { &["*/*"][..] };
        let required = !action.starts_with("delete");
        match (self.edition, body) {
            (Edition::V3, Some(body)) => {
                let content: Map<String, Value> =
                    consumes.iter().map(|kind| ((*kind).to_owned(), json!({"schema": body.clone()}))).collect();
                put("requestBody", json!({"content": content, "required": required}));
            }
            (Edition::V2, body) => {
                if let Some(body) = body {
                    parameters.push(json!({"name": "body", "in": "body", "required": required, "schema": body}));
                }
                put("consumes", json!(consumes));
                put("produces", json!(content));
                put("schemes", json!(["https"]));
            }
            (Edition::V3, None) => {}
        }
        put("parameters", Value::Array(parameters));
        put("responses", self.responses(answer.as_ref(), &content, codes));
        Value::Object(operation)
    }

    /// What is known of a kind: a type of the API's own, or the definition of a custom resource.
    fn shown(&self, group: &str, version: &str, kind: &str) -> Option<Shown> {
        if self.is_custom && group == self.resource.group {
            return Some(Shown::Custom(definition_name(group, version, kind)));
        }
        schema::of(group, version, kind).map(Shown::Type)
    }

    fn responses(&mut self, answer: Option<&Shown>, content: &[&str], codes: &[&str]) -> Value {
        let schema = match answer {
            Some(answer) => self.used.refer(answer, self.edition),
            None => json!({"type": "string"}),
        };
        let mut responses = Map::new();
        for &code in codes {
            let description = match code {
                "201" => "Created",
                "202" => "Accepted",
                _ => "OK",
            };
            let response = match self.edition {
                Edition::V2 => json!({"description": description, "schema": schema.clone()}),
                Edition::V3 => {
                    let content: Map<String, Value> =
                        content.iter().map(|kind| ((*kind).to_owned(), json!({"schema": schema.clone()}))).collect();
                    json!({"description": description, "content": content})
                }
            };
            responses.insert(code.to_owned(), response);
        }
        responses.insert("401".to_owned(), json!({"description": "Unauthorized"}));
        Value::Object(responses)
    }

    /// `core_v1`, `apps_v1`, `rbacAuthorization_v1`.
    fn tag(&self) -> String {
        let group = self.resource.group.strip_suffix(".k8s.io").unwrap_or(self.resource.group);
        let mut words = if group.is_empty() { "core" } else { group }.split(['.', '-']);
        let first = words.next().unwrap_or_default().to_owned();
        let group = words.fold(first, |text, word| text + &capitalised(word));
        format!("{group}_{}", self.resource.version)
    }

    fn tag_in_camel_case(&self) -> String {
        self.tag().split('_').map(capitalised).collect()
    }

    /// As `readCoreV1NamespacedPodStatus`.
    fn operation_id(&self, method: &str, action: &str, kind: &str, subresource: Option<&Subresource>) -> String {
        let verb = match action {
            "get" => "read".to_owned(),
            "post" => "create".to_owned(),
            "put" => "replace".to_owned(),
            "deletecollection" => "deleteCollection".to_owned(),
            "connect" => format!("connect{}", capitalised(method)),
            other => other.to_owned(),
        };
        let scope = if self.scope == Scope::Namespaced { "Namespaced" } else { "" };
        let kind = if subresource.is_some() { self.resource.kind } else { kind };
        let subresource = subresource.map(|sub| capitalised(sub.name)).unwrap_or_default();
        let everywhere = if self.scope == Scope::AllNamespaces { "ForAllNamespaces" } else { "" };
        format!("{verb}{}{scope}{kind}{subresource}{everywhere}", self.tag_in_camel_case())
    }
}

fn capitalised(word: &str) -> String {
    let mut letters = word.chars();
    letters.next().map(|first| first.to_uppercase().chain(letters).collect()).unwrap_or_default()
}

fn describe(action: &str, kind: &str, subresource: Option<&Subresource>) -> String {
    let what = match subresource {
        Some(sub) => format!("{} of the specified {kind}", sub.name),
        None => format!("the specified {kind}"),
    };
    match action {
        "list" => format!("list or watch objects of kind {kind}"),
        "post" if subresource.is_none() => format!("create a {kind}"),
        "post" => format!("create {what}"),
        "put" => format!("replace {what}"),
        "patch" => format!("partially update {what}"),
        "delete" => format!("delete a {kind}"),
        "deletecollection" => format!("delete collection of {kind}"),
        "connect" => format!("connect requests to {what}"),
        _ => format!("read {what}"),
    }
}
