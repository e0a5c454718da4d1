//! CustomResourceDefinitions through the real server: from a definition to its objects, and back to nothing.

mod harness;

use std::time::Duration;

use harness::{Server, merge_patch};
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

#[tokio::test]
async fn a_definition_is_established_serves_its_objects_and_is_emptied_when_it_goes() {
    let server = Server::start().await;
    server.get(WIDGETS).await.is_text(404, "404 page not found\n");
    let established = establish(&server, &definition("widgets", "Widget")).await;
    assert_eq!(established["status"]["acceptedNames"]["plural"], "widgets");
    assert_eq!(established["status"]["storedVersions"], json!(["v1"]));
    assert_eq!(condition(&established, "NamesAccepted")["reason"], "NoConflicts");

    let made = server.post(WIDGETS, &widget("one", json!({"color": "red"}))).await.expect(201);
    assert_eq!(made["metadata"]["generation"], 1);
    assert_eq!(made["spec"], json!({"color": "red", "size": "small"}));
    assert_eq!(server.get(ONE).await.expect(200), made);
    let list = server.get(WIDGETS).await.expect(200);
    assert_eq!((&list["kind"], list["items"].as_array().unwrap().len()), (&json!("WidgetList"), 1));

    // An instance with a finalizer holds its definition.
    let held = json!({"metadata": {"finalizers": ["example.com/hold"]}});
    server.patch(ONE, merge_patch(), &held).await.expect(200);
    server.post(WIDGETS, &widget("two", json!({}))).await.expect(201);
    let path = format!("{DEFINITIONS}/widgets.example.com");
    server.delete(&path).await.expect(200);
    let two = format!("{WIDGETS}/two");
    until(&server, &two, |code, _| code == 404).await;
    let one = server.get(ONE).await.expect(200);
    assert!(one["metadata"]["deletionTimestamp"].is_string());
    let going = server.get(&path).await.expect(200);
    assert_eq!(condition(&going, "Terminating")["reason"], "InstanceDeletionInProgress");
    let refused = server.post(WIDGETS, &widget("three", json!({}))).await.status(405, "MethodNotAllowed");
    assert_eq!(refused["message"], "create not allowed while custom resource definition is terminating");

    server.patch(ONE, merge_patch(), &json!({"metadata": {"finalizers": null}})).await.expect(200);
    until(&server, &path, |code, _| code == 404).await;
    until(&server, WIDGETS, |code, body| code == 404 && body.is_null()).await;
}
