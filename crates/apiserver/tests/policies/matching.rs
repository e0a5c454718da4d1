//! Which requests a policy hears of.

use serde_json::{Value, json};

use super::{MAPS, bind, deployment, harness::*, map, rules, validating};

async fn refusing(constraints: Value, binding: Value) -> Server {
    let server = Server::start().await;
    validating(&server, json!([{"expression": "false"}]), json!({"matchConstraints": constraints})).await;
    bind(&server, json!(["Deny"]), binding).await;
    server
}

#[tokio::test]
async fn rules_exclusions_names_and_selectors_say_who_is_judged() {
    let all = rules("", &["configmaps"]);
    let more = |key: &str, value: Value| {
        let mut rules = all.clone();
        rules[key] = value;
        rules
    };
    let named = json!([{"operations": ["*"], "apiGroups": [""], "apiVersions": ["v1"], "resources": ["configmaps"],
        "resourceNames": ["one"]}]);
    let other = json!([{"operations": ["*"], "apiGroups": [""], "apiVersions": ["v1"], "resources": ["configmaps"],
        "resourceNames": ["two"]}]);
    let labelled = json!({"matchLabels": {"a": "b"}});
    for (constraints, binding, code) in [
        (all.clone(), json!({}), 422),
        (rules("", &["secrets"]), json!({}), 201),
        (more("resourceRules", named.clone()), json!({}), 422),
        (more("resourceRules", other.clone()), json!({}), 201),
        (more("excludeResourceRules", named), json!({}), 201),
        (more("excludeResourceRules", other.clone()), json!({}), 422),
        (more("objectSelector", labelled.clone()), json!({}), 201),
        (all.clone(), json!({"matchResources": {"objectSelector": labelled}}), 201),
        (all.clone(), json!({"matchResources": {"resourceRules": other}}), 201),
        (all.clone(), json!({"matchResources": {}}), 422),
    ] {
        let server = refusing(constraints.clone(), binding.clone()).await;
        let made = server.post(MAPS, &map("one", json!({}))).await;
        assert_eq!(made.code(), code, "{constraints} {binding}");
    }
}

#[tokio::test]
async fn namespaces_are_selected_by_policy_and_binding() {
    let selecting = json!({"namespaceSelector": {"matchLabels": {"watched": "yes"}}});
    let mut constraints = rules("", &["configmaps"]);
    constraints["namespaceSelector"] = selecting["namespaceSelector"].clone();
    for (constraints, binding) in
        [(constraints, json!({})), (rules("", &["configmaps"]), json!({"matchResources": selecting}))]
    {
        let server = refusing(constraints, binding).await;
        for (name, labels) in [("default", json!({})), ("watched", json!({"watched": "yes"}))] {
            let namespace = json!({"metadata": {"name": name, "labels": labels}});
            server.post("/api/v1/namespaces", &namespace).await.expect(201);
        }
        server.post(MAPS, &map("one", json!({}))).await.expect(201);
        server.post("/api/v1/namespaces/watched/configmaps", &map("one", json!({}))).await.expect(422);
    }
}

#[tokio::test]
async fn equivalent_versions_are_seen_as_the_rule_names_them() {
    let autoscaler = json!({"metadata": {"name": "h"}, "spec": {"maxReplicas": 3, "targetCPUUtilizationPercentage": 50,
        "scaleTargetRef": {"kind": "Deployment", "name": "d", "apiVersion": "apps/v1"}}});
    let path = "/apis/autoscaling/v1/namespaces/default/horizontalpodautoscalers";
    for (policy, code) in [("Equivalent", 422), ("Exact", 201)] {
        let server = Server::start().await;
        let constraints = json!({"matchPolicy": policy, "resourceRules": [{"operations": ["CREATE"],
            "apiGroups": ["autoscaling"], "apiVersions": ["v2"], "resources": ["horizontalpodautoscalers"]}]});
        let expression =
            "!(has(object.spec.metrics) && request.kind.version == 'v2' && request.requestKind.version == 'v1')";
        validating(&server, json!([{"expression": expression}]), json!({"matchConstraints": constraints})).await;
        bind(&server, json!(["Deny"]), json!({})).await;
        server.post(path, &autoscaler).await.expect(code);
    }
}

#[tokio::test]
async fn deletions_dry_runs_and_subresources_are_judged() {
    let server = Server::start().await;
    let deployments = "/apis/apps/v1/namespaces/default/deployments";
    server.post(deployments, &deployment("d", 1)).await.expect(201);
    server.post(MAPS, &map("one", json!({"keep": "yes"}))).await.expect(201);
    let constraints = json!({"resourceRules": [
        {"operations": ["CREATE", "DELETE"], "apiGroups": [""], "apiVersions": ["v1"], "resources": ["configmaps"]},
        {"operations": ["UPDATE"], "apiGroups": ["apps"], "apiVersions": ["v1"], "resources": ["deployments/scale"]}]});
    let expression = "request.operation == 'DELETE' ? (object == null && oldObject.data.keep != 'yes') : \
                      request.operation == 'CREATE' ? !request.dryRun : \
                      object.kind == 'Scale' && object.spec.replicas < 5";
    validating(&server, json!([{"expression": expression}]), json!({"matchConstraints": constraints})).await;
    bind(&server, json!(["Deny"]), json!({})).await;
    server.delete(&format!("{MAPS}/one")).await.expect(422);
    server.post(&format!("{MAPS}?dryRun=All"), &map("two", json!({}))).await.expect(422);
    server.post(MAPS, &map("two", json!({"keep": "no"}))).await.expect(201);
    server.delete(&format!("{MAPS}/two")).await.expect(200);
    let scale = format!("{deployments}/d/scale");
    server.patch(&scale, merge_patch(), &json!({"spec": {"replicas": 7}})).await.expect(422);
    server.patch(&scale, merge_patch(), &json!({"spec": {"replicas": 3}})).await.expect(200);
}
