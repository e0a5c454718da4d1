//! Policies that change objects.

use serde_json::json;

use super::{DEPLOYMENTS, MAPS, apply, bind, deployment, harness::*, map, mutating, patch, rules, validating};

#[tokio::test]
async fn a_deployment_is_mutated() {
    let server = Server::start().await;
    let labels = "Object{metadata: Object.metadata{annotations: {'mutated-by': 'admission-policy'}}}";
    let sidecar = "Object{spec: Object.spec{template: Object.spec.template{spec: Object.spec.template.spec{\
                   initContainers: [Object.spec.template.spec.initContainers{name: 'mesh', image: 'mesh', \
                   restartPolicy: 'Always'}]}}}}";
    let constraints = json!({"matchConstraints": rules("apps", &["deployments"])});
    mutating(&server, "m", json!([apply(labels), apply(sidecar)]), constraints).await;
    let made = server.post(DEPLOYMENTS, &deployment("d", 2)).await.expect(201);
    assert_eq!(made["metadata"]["annotations"]["mutated-by"], "admission-policy");
    let containers = &made["spec"]["template"]["spec"]["initContainers"];
    // What was added has its defaults.
    assert_eq!(
        (&containers[0]["name"], &containers[0]["terminationMessagePath"]),
        (&json!("mesh"), &json!("/dev/termination-log"))
    );
    assert_eq!(made["spec"]["template"]["spec"]["containers"][0]["name"], "nginx");
}

#[tokio::test]
async fn patches_come_one_after_the_other_and_are_validated() {
    let server = Server::start().await;
    let add = |key: &str, value: &str| patch(&format!("[JSONPatch{{op: 'add', path: '/data/{key}', value: {value}}}]"));
    let mutations = json!([add("first", "'1'"), add("second", "object.data.first + '2'")]);
    let conditions = json!({"matchConditions": [{"name": "c", "expression": "!has(object.data.spare)"}]});
    mutating(&server, "m", mutations, conditions).await;
    validating(&server, json!([{"expression": "object.data.size() < 4", "message": "too much"}]), json!({})).await;
    bind(&server, json!(["Deny"]), json!({})).await;
    let made = server.post(MAPS, &map("one", json!({"a": "b"}))).await.expect(201);
    assert_eq!(made["data"], json!({"a": "b", "first": "1", "second": "12"}));
    server.post(MAPS, &map("two", json!({"a": "b", "c": "d"}))).await.expect(422);
    let spared = server.post(MAPS, &map("three", json!({"spare": "me"}))).await.expect(201);
    assert_eq!(spared["data"], json!({"spare": "me"}));
    server.delete(&format!("{MAPS}/one")).await.expect(200);
    let metrics = server.get("/metrics").await.text();
    assert!(metrics.contains("apiserver_mutating_admission_policy_check_total{policy=\"m\""), "{metrics}");
}

#[tokio::test]
async fn failures_refuse_or_are_ignored_as_the_policy_says() {
    let who = "policy 'm' with binding 'm' denied request";
    for (mutation, why) in [
        (apply("Object{data: {'a': object.data.missing}}"), "resulted in error: no such key: missing"),
        (patch("[JSONPatch{op: 'remove', path: '/data/missing'}]"), "JSONPath: error in remove for path"),
        (apply("Object{nonsense: 1}"), ".nonsense: field not declared in schema"),
    ] {
        let server = Server::start().await;
        mutating(&server, "m", json!([mutation]), json!({})).await;
        let refused = server.post(MAPS, &map("one", json!({"a": "b"}))).await.status(403, "Invalid");
        let message = refused["message"].as_str().unwrap();
        assert!(message.starts_with(who) && message.contains(why), "{message}");
        let server = Server::start().await;
        mutating(&server, "m", json!([mutation]), json!({"failurePolicy": "Ignore"})).await;
        let made = server.post(MAPS, &map("one", json!({"a": "b"}))).await.expect(201);
        assert_eq!(made["data"], json!({"a": "b"}));
    }
}

#[tokio::test]
async fn who_wants_to_looks_again_at_what_others_changed_later() {
    let server = Server::start().await;
    let seen = |name: &str| {
        apply(&format!(
            "Object{{data: {{'{name}': (has(object.data.{name}) ? object.data.{name} : '') + (has(object.data.last) ? 'after' : 'before')}}}}"
        ))
    };
    mutating(&server, "a-once", json!([seen("once")]), json!({})).await;
    mutating(&server, "b-again", json!([seen("again")]), json!({"reinvocationPolicy": "IfNeeded"})).await;
    mutating(&server, "c-last", json!([apply("Object{data: {'last': 'yes'}}")]), json!({})).await;
    let made = server.post(MAPS, &map("one", json!({"a": "b"}))).await.expect(201);
    assert_eq!((&made["data"]["once"], &made["data"]["again"]), (&json!("before"), &json!("beforeafter")));
}

#[tokio::test]
async fn what_the_server_owns_stays_its_own() {
    let server = Server::start().await;
    let constraints = json!({"matchConstraints": rules("", &["namespaces"])});
    let source =
        "Object{metadata: Object.metadata{labels: {'seen': 'yes'}}, status: Object.status{phase: 'Terminating'}}";
    mutating(&server, "m", json!([apply(source)]), constraints).await;
    let made = server.post("/api/v1/namespaces", &json!({"metadata": {"name": "n"}})).await.expect(201);
    assert_eq!((&made["metadata"]["labels"]["seen"], &made["status"]["phase"]), (&json!("yes"), &json!("Active")));
}
