//! Server-side apply, one file a question: who owns a field, when is that a conflict, what does a merge make of the
//! object, which laws hold of all of it, and what does it cost.

mod conflicts;
mod every_kind;
mod laws;
mod merging;
mod owners;
mod speed;

use serde_json::{Value, json};

use super::*;
use crate::schema;

fn writer(kind: &str, manager: &'static str) -> Writer<'static> {
    let (group, version) = match kind {
        "Deployment" => ("apps", "v1"),
        _ => ("", "v1"),
    };
    Writer {
        schema: schema::of(group, version, kind),
        manager,
        subresource: "",
        now: "2026-01-02T03:04:05Z".parse().unwrap(),
        reset: reset_fields(true, ""),
    }
}

fn request<'a>(writer: Writer<'a>, live: Option<&'a Value>, config: &'a Value) -> ApplyRequest<'a> {
    ApplyRequest { writer, live, config, force: false }
}

fn deployment(spec: Value) -> Value {
    json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "d", "namespace": "n"}, "spec": spec})
}

fn fields<'a>(object: &'a Value, manager: &str) -> &'a Value {
    let entries = object["metadata"]["managedFields"].as_array().unwrap();
    let entry = entries.iter().find(|e| e["manager"] == manager);
    entry.map_or(&Value::Null, |e| &e["fieldsV1"])
}
