//! Policies that say yes or no.

use serde_json::{Value, json};

use super::{DEPLOYMENTS, GROUP, MAPS, bind, deployment, harness::*, make, map, rules, validating};

const WHO: &str = "ValidatingAdmissionPolicy 'p' with binding 'b' denied request";

fn said(refused: &Value) -> &str {
    refused["message"].as_str().unwrap()
}

#[tokio::test]
async fn a_deployment_is_validated() {
    let server = Server::start().await;
    let spec = json!({"matchConstraints": rules("apps", &["deployments"]), "validations": [{
        "expression": "object.spec.replicas > 1", "messageExpression": "'wants replicas > 1, got ' + string(object.spec.replicas)"}]});
    make(&server, "validatingadmissionpolicies", "ValidatingAdmissionPolicy", "p", spec).await;
    server.post(DEPLOYMENTS, &deployment("unbound", 1)).await.expect(201);
    bind(&server, json!(["Deny"]), json!({})).await;
    let refused = server.post(DEPLOYMENTS, &deployment("marker", 1)).await.status(422, "Invalid");
    let why = format!("{WHO}: wants replicas > 1, got 1");
    assert_eq!(said(&refused), format!("deployments.apps \"marker\" is forbidden: {why}"));
    let details = json!({"name": "marker", "group": "apps", "kind": "deployments", "causes": [{"message": why}]});
    assert_eq!(refused["details"], details);
    server.post(DEPLOYMENTS, &deployment("replicated", 2)).await.expect(201);
    let mut set = deployment("set", 1);
    set["kind"] = "ReplicaSet".into();
    server.post("/apis/apps/v1/namespaces/default/replicasets", &set).await.expect(201);
    // The old object is seen, and a policy that is gone is of no consequence.
    let one = json!({"spec": {"replicas": 1}});
    server.patch(&format!("{DEPLOYMENTS}/replicated"), merge_patch(), &one).await.expect(422);
    server.delete(&format!("{GROUP}/validatingadmissionpolicies/p")).await.expect(200);
    server.get(&format!("{GROUP}/validatingadmissionpolicies")).await.expect(200);
    server.patch(&format!("{DEPLOYMENTS}/replicated"), merge_patch(), &one).await.expect(200);
}

#[tokio::test]
async fn expressions_refer_to_variables() {
    let server = Server::start().await;
    let variables = json!([
        {"name": "replicas", "expression": "object.spec.replicas"},
        {"name": "oddReplicas", "expression": "variables.replicas % 2 == 1"},
    ]);
    let spec = json!({"matchConstraints": rules("apps", &["deployments"]), "variables": variables, "validations": [
        {"expression": "variables.replicas > 1"},
        {"expression": "variables.oddReplicas", "reason": "Forbidden"}]});
    make(&server, "validatingadmissionpolicies", "ValidatingAdmissionPolicy", "p", spec).await;
    bind(&server, json!(["Deny"]), json!({})).await;
    let refused = server.post(DEPLOYMENTS, &deployment("one", 1)).await.status(422, "Invalid");
    assert!(said(&refused).ends_with("denied request: failed expression: variables.replicas > 1"), "{refused}");
    let refused = server.post(DEPLOYMENTS, &deployment("two", 2)).await.status(403, "Forbidden");
    assert!(said(&refused).ends_with("denied request: failed expression: variables.oddReplicas"), "{refused}");
    server.post(DEPLOYMENTS, &deployment("three", 3)).await.expect(201);
}

#[tokio::test]
async fn failures_refuse_or_are_ignored_as_the_policy_says() {
    for (policy, code) in [("Fail", 422), ("Ignore", 201)] {
        for (more, why) in [
            (json!({}), "expression 'object.missing == 1' resulted in error: no such key: missing"),
            (
                json!({"matchConditions": [{"name": "c", "expression": "object.lost == 1"}]}),
                "expression 'object.lost == 1' resulted in error: no such key: lost",
            ),
            (
                json!({"paramKind": {"apiVersion": "a.example.com/v1", "kind": "Missing"}}),
                "failed to configure policy: failed to find resource referenced by paramKind: \
                 'a.example.com/v1, Kind=Missing'",
            ),
        ] {
            let server = Server::start().await;
            let more = super::with(more, json!({"failurePolicy": policy}));
            validating(&server, json!([{"expression": "object.missing == 1"}]), more).await;
            bind(&server, json!(["Deny"]), json!({})).await;
            let answer = server.post(MAPS, &map("one", json!({}))).await.expect(code);
            if code != 201 {
                assert!(said(&answer).ends_with(&format!("denied request: {why}")), "{answer}");
            }
        }
    }
}

#[tokio::test]
async fn who_is_refused_hears_the_warnings_too() {
    let server = Server::start().await;
    validating(&server, json!([{"expression": "false", "message": "odd"}]), json!({})).await;
    bind(&server, json!(["Warn"]), json!({})).await;
    let strict = json!({"matchConstraints": rules("", &["configmaps"]), "validations": [{"expression": "false"}]});
    make(&server, "validatingadmissionpolicies", "ValidatingAdmissionPolicy", "strict", strict).await;
    let binding = json!({"policyName": "strict", "validationActions": ["Deny"]});
    make(&server, "validatingadmissionpolicybindings", "ValidatingAdmissionPolicyBinding", "strict", binding).await;
    let mut wrong = map("one", json!({}));
    wrong["bogus"] = json!(1);
    let refused = server.post(&format!("{MAPS}?fieldValidation=Warn"), &wrong).await;
    refused.status(422, "Invalid");
    let odd = "299 - \"Validation failed for ValidatingAdmissionPolicy 'p' with binding 'b': odd\"";
    assert_eq!(refused.warnings(), ["299 - \"unknown field \\\"bogus\\\"\"", odd]);
}

#[tokio::test]
async fn warnings_and_metrics_tell_of_what_is_not_denied() {
    let server = Server::start().await;
    validating(&server, json!([{"expression": "false", "message": "no"}, {"expression": "true"}]), json!({})).await;
    bind(&server, json!(["Warn", "Audit"]), json!({})).await;
    let made = server.post(MAPS, &map("one", json!({}))).await;
    made.expect(201);
    let expected = "299 - \"Validation failed for ValidatingAdmissionPolicy 'p' with binding 'b': no\"";
    assert_eq!(made.warnings(), [expected]);
    let metrics = server.get("/metrics").await.text();
    for action in ["audit", "warn"] {
        let line = format!(
            "apiserver_validating_admission_policy_check_total{{policy=\"p\",policy_binding=\"b\",\
             error_type=\"invalid_error\",enforcement_action=\"{action}\"}} 1"
        );
        assert!(metrics.contains(&line), "{metrics}");
    }
}

#[tokio::test]
async fn requests_and_who_makes_them_are_seen() {
    for (expression, is_allowed) in [
        ("request.operation == 'CREATE' && request.kind.kind == 'ConfigMap' && oldObject == null", true),
        ("request.userInfo.username == 'nobody'", false),
        ("request.dryRun == false && request.namespace == 'default' && request.name == 'one'", true),
        ("authorizer.group('').resource('configmaps').namespace('default').check('create').allowed()", true),
        ("authorizer.requestResource.check('delete').allowed()", true),
        ("object.metadata.name == 'one' && has(object.data) && object.data.a == 'b'", true),
    ] {
        let server = Server::start().await;
        validating(&server, json!([{"expression": expression}]), json!({})).await;
        bind(&server, json!(["Deny"]), json!({})).await;
        let code = if is_allowed { 201 } else { 422 };
        server.post(MAPS, &map("one", json!({"a": "b"}))).await.expect(code);
    }
}

#[tokio::test]
async fn too_much_is_never_evaluated() {
    let server = Server::start().await;
    let list = "[1,2,3,4,5,6,7,8,9,10]";
    let nested = |inner: &str, name: &str| format!("{list}.all({name}, {inner})");
    let expensive = ["a", "b", "c", "d", "e", "f", "g"].iter().fold("true".to_owned(), |all, name| nested(&all, name));
    validating(&server, json!([{"expression": expensive}]), json!({})).await;
    bind(&server, json!(["Deny"]), json!({})).await;
    let refused = server.post(MAPS, &map("one", json!({}))).await.expect(422);
    assert!(said(&refused).ends_with("operation cancelled: actual cost limit exceeded"), "{refused}");
}

#[tokio::test]
async fn policies_cannot_lock_anybody_out() {
    let server = Server::start().await;
    let everything = json!({"matchConstraints": {"resourceRules": [{"operations": ["*"], "apiGroups": ["*"],
        "apiVersions": ["*"], "resources": ["*/*"]}]}});
    validating(&server, json!([{"expression": "false"}]), everything).await;
    bind(&server, json!(["Deny"]), json!({})).await;
    server.post(MAPS, &map("one", json!({}))).await.expect(422);
    server.delete(&format!("{GROUP}/validatingadmissionpolicybindings/b")).await.expect(200);
    server.get(&format!("{GROUP}/validatingadmissionpolicybindings")).await.expect(200);
    server.post(MAPS, &map("one", json!({}))).await.expect(201);
}
