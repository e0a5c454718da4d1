//! CustomResourceDefinitions through the real server: from a definition to its objects, and back to nothing.

mod churn;
mod describe;
#[path = "../harness/mod.rs"]
mod harness;
mod life;
mod names;
mod reads;
mod versions;
mod writes;

use std::time::Duration;

use harness::Server;
use serde_json::{Value, json};

const DEFINITIONS: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
const WIDGETS: &str = "/apis/example.com/v1/namespaces/default/widgets";
const ONE: &str = "/apis/example.com/v1/namespaces/default/widgets/one";

fn version(name: &str, storage: bool) -> Value {
    json!({
        "name": name, "served": true, "storage": storage,
        "schema": {"openAPIV3Schema": {"type": "object", "properties": {
            "spec": {"type": "object", "properties": {
                "replicas": {"type": "integer"},
                "color": {"type": "string"},
                "size": {"type": "string", "default": "small"},
            }},
            "status": {"type": "object", "properties": {
                "replicas": {"type": "integer"}, "selector": {"type": "string"},
            }},
        }}},
        "subresources": {"status": {}, "scale": {
            "specReplicasPath": ".spec.replicas", "statusReplicasPath": ".status.replicas",
            "labelSelectorPath": ".status.selector",
        }},
        "selectableFields": [{"jsonPath": ".spec.color"}],
        "additionalPrinterColumns": [{"name": "Color", "type": "string", "jsonPath": ".spec.color"}],
    })
}

fn definition(plural: &str, kind: &str) -> Value {
    json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": format!("{plural}.example.com")},
        "spec": {
            "group": "example.com", "scope": "Namespaced", "versions": [version("v1", true)],
            "names": {"plural": plural, "singular": kind.to_lowercase(), "kind": kind, "shortNames": [&plural[..2]],
                "categories": ["all"]},
        },
    })
}

fn widget(name: &str, spec: Value) -> Value {
    json!({"apiVersion": "example.com/v1", "kind": "Widget", "metadata": {"name": name}, "spec": spec})
}

fn condition<'a>(definition: &'a Value, kind: &str) -> &'a Value {
    let conditions = definition["status"]["conditions"].as_array().unwrap();
    conditions.iter().find(|condition| condition["type"] == kind).unwrap_or(&Value::Null)
}

/// Asks until the answer is as it should be.
async fn until(server: &Server, path: &str, what: impl Fn(u16, &Value) -> bool) -> Value {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(20);
    loop {
        let answer = server.get(path).await;
        let body = serde_json::from_str(&answer.text()).unwrap_or(Value::Null);
        if what(answer.code(), &body) {
            return body;
        }
        assert!(tokio::time::Instant::now() < deadline, "GET {path}: {}", answer.text());
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

async fn establish(server: &Server, definition: &Value) -> Value {
    server.post(DEFINITIONS, definition).await.expect(201);
    let path = format!("{DEFINITIONS}/{}", definition["metadata"]["name"].as_str().unwrap());
    until(server, &path, |_, definition| condition(definition, "Established")["status"] == "True").await
}
