//! Which requests a webhook hears of.

use serde_json::{Value, json};

use super::{MAPS, VALIDATING, configure, harness::*, hook::*, map, webhook};

const REFUSES: &str = "refused";

async fn refusing() -> Hook {
    Hook::start(|_, _| Reply::Review(json!({"allowed": false, "status": {"message": REFUSES}}))).await
}

fn labelled(kind: &str, name: &str, labels: Value) -> Value {
    json!({"apiVersion": "v1", "kind": kind, "metadata": {"name": name, "labels": labels}})
}

#[tokio::test]
async fn namespaces_are_selected_by_their_labels_and_so_are_they_themselves() {
    let hook = refusing().await;
    let server = Server::start().await;
    for (name, labels) in [("default", json!({})), ("watched", json!({"watched": "yes"}))] {
        server.post("/api/v1/namespaces", &labelled("Namespace", name, labels)).await.expect(201);
    }
    let selecting = json!({"namespaceSelector": {"matchLabels": {"watched": "yes"}},
        "rules": [{"operations": ["CREATE", "UPDATE"], "apiGroups": ["*"], "apiVersions": ["*"],
            "resources": ["configmaps", "namespaces", "persistentvolumes"]}]});
    configure(&server, VALIDATING, "a", json!([webhook("a", hook.at("/"), selecting)])).await;
    server.post(MAPS, &map("one", json!({}))).await.expect(201);
    server.post("/api/v1/namespaces/watched/configmaps", &map("one", json!({}))).await.expect(400);
    server.post("/api/v1/namespaces", &labelled("Namespace", "other", json!({}))).await.expect(201);
    server.post("/api/v1/namespaces", &labelled("Namespace", "more", json!({"watched": "yes"}))).await.expect(400);
    let joins = json!({"metadata": {"labels": {"watched": "yes"}}});
    server.patch("/api/v1/namespaces/other", merge_patch(), &joins).await.expect(400);
    // What lies in no namespace is never spared by it.
    let volume = json!({"metadata": {"name": "v"}, "spec": {"capacity": {"storage": "1Gi"},
        "accessModes": ["ReadWriteOnce"], "hostPath": {"path": "/x"}}});
    server.post("/api/v1/persistentvolumes", &volume).await.expect(400);
}

#[tokio::test]
async fn objects_are_selected_by_what_they_are_or_were() {
    let hook = refusing().await;
    let server = Server::start().await;
    server.post(MAPS, &labelled("ConfigMap", "old", json!({"judged": "yes"}))).await.expect(201);
    server.post(MAPS, &labelled("ConfigMap", "free", json!({}))).await.expect(201);
    let selecting = json!({"objectSelector": {"matchExpressions": [{"key": "judged", "operator": "Exists"}]}});
    configure(&server, VALIDATING, "a", json!([webhook("a", hook.at("/"), selecting)])).await;
    let no_label = json!({"metadata": {"labels": {"judged": null}}});
    server.patch(&format!("{MAPS}/old"), merge_patch(), &no_label).await.expect(400);
    let label = json!({"metadata": {"labels": {"judged": "now"}}});
    server.patch(&format!("{MAPS}/free"), merge_patch(), &label).await.expect(400);
    server.patch(&format!("{MAPS}/free"), merge_patch(), &json!({"data": {"a": "b"}})).await.expect(200);
    server.delete(&format!("{MAPS}/old")).await.expect(400);
    server.delete(&format!("{MAPS}/free")).await.expect(200);
}

#[tokio::test]
async fn equivalent_versions_are_seen_as_the_rule_names_them() {
    let hook = Hook::start(|_, _| patch(json!([{"op": "add", "path": "/spec/maxReplicas", "value": 9}]))).await;
    let autoscaler = json!({"metadata": {"name": "h"}, "spec": {"maxReplicas": 3, "targetCPUUtilizationPercentage": 50,
        "scaleTargetRef": {"kind": "Deployment", "name": "d", "apiVersion": "apps/v1"}}});
    let rules = |version: &str, policy: &str| {
        json!({"matchPolicy": policy, "rules": [{"operations": ["CREATE"], "apiGroups": ["autoscaling"],
            "apiVersions": [version], "resources": ["horizontalpodautoscalers"]}]})
    };
    let path = "/apis/autoscaling/v1/namespaces/default/horizontalpodautoscalers";
    for (version, policy, is_asked) in [("v2", "Equivalent", true), ("v2", "Exact", false), ("v1", "Exact", true)] {
        let server = Server::start().await;
        let hooks = json!([webhook("a", hook.at("/"), rules(version, policy))]);
        configure(&server, super::MUTATING, "a", hooks).await;
        let made = server.post(path, &autoscaler).await.expect(201);
        assert_eq!(made["spec"]["maxReplicas"], if is_asked { 9 } else { 3 }, "{version} {policy}");
        assert_eq!(made["spec"]["targetCPUUtilizationPercentage"], 50);
        let asked = hook.asked();
        assert_eq!(asked.len(), usize::from(is_asked), "{version} {policy}");
        for (_, asked) in asked {
            assert_eq!(asked["kind"]["version"], version);
            assert_eq!(asked["object"]["apiVersion"], format!("autoscaling/{version}"));
            assert_eq!(asked["requestKind"]["version"], "v1");
            assert_eq!(asked["object"]["spec"].get("metrics").is_some(), version == "v2");
        }
    }
}

#[tokio::test]
async fn a_configuration_counts_when_it_changes_and_when_it_goes() {
    let hook = refusing().await;
    let server = Server::start().await;
    let other = json!({"rules": [{"operations": ["CREATE"], "apiGroups": [""], "apiVersions": ["v1"],
        "resources": ["secrets"]}]});
    configure(&server, VALIDATING, "a", json!([webhook("a", hook.at("/"), other)])).await;
    server.post(MAPS, &map("one", json!({}))).await.expect(201);
    let maps = json!([{"op": "replace", "path": "/webhooks/0/rules/0/resources/0", "value": "configmaps"}]);
    server.patch(&format!("{VALIDATING}/a"), json_patch(), &maps).await.expect(200);
    server.get(VALIDATING).await.expect(200);
    server.post(MAPS, &map("two", json!({}))).await.expect(400);
    server.delete(&format!("{VALIDATING}/a")).await.expect(200);
    server.get(VALIDATING).await.expect(200);
    server.post(MAPS, &map("two", json!({}))).await.expect(201);
}
