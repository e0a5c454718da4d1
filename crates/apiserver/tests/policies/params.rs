//! Parameters of policies: built-in and custom, named and selected.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::{MAPS, bind, harness::*, map, mutating, validating};

const CONFIG: &str = "/api/v1/namespaces/config/configmaps";

fn limit(name: &str, value: &str, labels: Value) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "labels": labels}, "data": {"max": value}})
}

/// Defines Rules, which lie in no namespace, and waits until they are served.
pub async fn define(server: &Server, properties: Value) {
    let schema = json!({"type": "object", "properties": properties});
    let definition = json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": "rules.example.com"}, "spec": {"group": "example.com", "scope": "Cluster",
            "names": {"plural": "rules", "kind": "Rule"}, "versions": [{"name": "v1", "served": true, "storage": true,
                "schema": {"openAPIV3Schema": schema}}]}});
    server.post("/apis/apiextensions.k8s.io/v1/customresourcedefinitions", &definition).await.expect(201);
    let deadline = Instant::now() + Duration::from_secs(20);
    while server.get("/apis/example.com/v1/rules").await.code() != 200 {
        assert!(Instant::now() < deadline, "the definition is not established");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

async fn limited(reference: Value) -> Server {
    let server = Server::start().await;
    let kind = json!({"paramKind": {"apiVersion": "v1", "kind": "ConfigMap"}});
    let expression = "params == null || size(object.data) <= int(params.data.max)";
    validating(&server, json!([{"expression": expression, "messageExpression": "'at most ' + params.data.max"}]), kind)
        .await;
    server.post(CONFIG, &limit("two", "2", json!({"use": "yes"}))).await.expect(201);
    server.post(CONFIG, &limit("one", "1", json!({"use": "yes"}))).await.expect(201);
    server.post(CONFIG, &limit("none", "0", json!({}))).await.expect(201);
    bind(&server, json!(["Deny"]), json!({"paramRef": reference})).await;
    server
}

#[tokio::test]
async fn parameters_are_named_or_selected() {
    let three = map("three", json!({"a": "1", "b": "2", "c": "3"}));
    let one = map("few", json!({"a": "1"}));
    let config = |more: Value| super::with(json!({"namespace": "config", "parameterNotFoundAction": "Deny"}), more);
    let denied = "ValidatingAdmissionPolicy 'p' with binding 'b' denied request: ";
    let missing = "failed to configure binding: no params found for policy binding with `Deny` parameterNotFoundAction";
    let allowing = json!({"name": "missing", "namespace": "config", "parameterNotFoundAction": "Allow"});
    for (reference, object, expected) in [
        (config(json!({"name": "two"})), &three, Some("at most 2")),
        (config(json!({"name": "two"})), &one, None),
        (config(json!({"selector": {"matchLabels": {"use": "yes"}}})), &one, None),
        (config(json!({"selector": {"matchLabels": {"use": "yes"}}})), &three, Some("at most 1")),
        (config(json!({"selector": {}})), &one, Some("at most 0")),
        (config(json!({"name": "missing"})), &one, Some(missing)),
        (allowing, &three, None),
        // Without a namespace of its own a reference is to that of the request.
        (json!({"name": "two", "parameterNotFoundAction": "Deny"}), &one, Some(missing)),
    ] {
        let server = limited(reference.clone()).await;
        let answer = server.post(MAPS, object).await;
        match expected {
            None => drop(answer.expect(201)),
            Some(why) => {
                let refused = answer.expect(422);
                let message = refused["message"].as_str().unwrap();
                assert!(message.ends_with(&format!("{denied}{why}")), "{reference}: {message}");
            }
        }
    }
}

#[tokio::test]
async fn parameters_may_be_custom_resources_of_the_whole_cluster() {
    let server = Server::start().await;
    define(&server, json!({"prefix": {"type": "string"}})).await;
    let kind = json!({"paramKind": {"apiVersion": "example.com/v1", "kind": "Rule"}});
    let expression = "object.metadata.name.startsWith(params.prefix)";
    validating(&server, json!([{"expression": expression}]), kind).await;
    bind(&server, json!(["Deny"]), json!({"paramRef": {"name": "r", "parameterNotFoundAction": "Deny"}})).await;
    let rule = json!({"apiVersion": "example.com/v1", "kind": "Rule", "metadata": {"name": "r"}, "prefix": "a-"});
    server.post("/apis/example.com/v1/rules", &rule).await.expect(201);
    server.post(MAPS, &map("b", json!({}))).await.expect(422);
    server.post(MAPS, &map("a-b", json!({}))).await.expect(201);
}

#[tokio::test]
async fn mutations_see_parameters_too() {
    let server = Server::start().await;
    let source = "Object{data: {'from': params == null ? 'nobody' : params.data.max}}";
    let kind = json!({"paramKind": {"apiVersion": "v1", "kind": "ConfigMap"}});
    mutating(&server, "m", json!([super::apply(source)]), kind).await;
    let made = server.post(MAPS, &map("one", json!({}))).await.expect(201);
    assert_eq!(made["data"]["from"], "nobody");
}
