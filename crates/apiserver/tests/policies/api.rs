//! Policies and bindings as objects: what upstream's conformance tests ask of their API.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::{GROUP, apply, harness::*, rules};

/// The four kinds, each with a spec, and a change of it that counts for its generation.
fn kinds() -> [(&'static str, Value, Value); 4] {
    let fails = json!({"failurePolicy": "Ignore"});
    let bound = json!({"policyName": "replicalimit-policy.example.com"});
    [
        (
            "validatingadmissionpolicies",
            json!({"matchConstraints": rules("apps", &["deployments"]), "validations": [
                {"expression": "object.spec.replicas <= 100"}]}),
            fails.clone(),
        ),
        (
            "validatingadmissionpolicybindings",
            super::with(bound.clone(), json!({"validationActions": ["Deny"]})),
            json!({}),
        ),
        (
            "mutatingadmissionpolicies",
            json!({"matchConstraints": rules("apps", &["deployments"]), "reinvocationPolicy": "Never", "mutations": [
                apply("Object{metadata: Object.metadata{annotations: {'my-foo-annotation': 'myAnnotationValue'}}}")]}),
            fails,
        ),
        ("mutatingadmissionpolicybindings", bound, json!({})),
    ]
}

#[tokio::test]
async fn all_kinds_are_discovered_and_have_all_operations() {
    let server = Server::start().await;
    let groups = server.get("/apis").await.expect(200);
    assert!(groups["groups"].as_array().unwrap().iter().any(|group| group["name"] == "admissionregistration.k8s.io"));
    let resources = server.get(GROUP).await.expect(200);
    for (plural, spec, change) in kinds() {
        assert!(resources["resources"].as_array().unwrap().iter().any(|resource| resource["name"] == plural));
        let path = format!("{GROUP}/{plural}");
        let template = json!({"metadata": {"generateName": "e2e-example-", "labels": {"test": "yes"}}, "spec": spec});
        let mut made = Value::Null;
        for _ in 0..3 {
            made = server.post(&path, &template).await.expect(201);
        }
        let one = format!("{path}/{}", made["metadata"]["name"].as_str().unwrap());
        assert_eq!(server.get(&one).await.expect(200)["metadata"]["uid"], made["metadata"]["uid"]);
        let patch = json!({"metadata": {"annotations": {"patched": "true"}}, "spec": change});
        let mut patched = server.patch(&one, merge_patch(), &patch).await.expect(200);
        assert_eq!(patched["metadata"]["annotations"]["patched"], "true");
        let changes = change.as_object().unwrap();
        assert_eq!(patched["metadata"]["generation"], if changes.is_empty() { 1 } else { 2 }, "{plural}");
        patched["metadata"]["annotations"]["updated"] = "true".into();
        let mut updated = server.put(&one, &patched).await;
        while updated.code() == 409 {
            // Its status was written meanwhile.
            patched = server.get(&one).await.expect(200);
            patched["metadata"]["annotations"]["updated"] = "true".into();
            updated = server.put(&one, &patched).await;
        }
        assert_eq!(updated.expect(200)["metadata"]["annotations"]["updated"], "true");
        server.delete(&one).await.expect(200);
        server.get(&one).await.status(404, "NotFound");
        let left = server.get(&format!("{path}?labelSelector=test%3Dyes")).await.expect(200);
        assert_eq!(left["items"].as_array().unwrap().len(), 2);
        server.delete(&format!("{path}?labelSelector=test%3Dyes")).await.expect(200);
        let left = server.get(&path).await.expect(200);
        assert!(left["items"].as_array().unwrap().is_empty());
    }
}

#[tokio::test]
async fn the_status_of_a_validating_policy_is_a_subresource() {
    let server = Server::start().await;
    let (plural, spec, _) = kinds().into_iter().next().unwrap();
    let policy = json!({"metadata": {"name": "p"}, "spec": spec, "status": {"observedGeneration": 7}});
    let path = format!("{GROUP}/{plural}");
    let made = server.post(&path, &policy).await;
    assert!(made.warnings().is_empty());
    assert_eq!(made.expect(201)["status"], json!({}));
    let status = json!({"status": {"observedGeneration": 1, "typeChecking": {}, "conditions": [{"type": "Ready",
        "status": "True", "reason": "a", "message": "b", "lastTransitionTime": "2024-01-01T00:00:00Z"}]}});
    let changed = server.patch(&format!("{path}/p/status"), merge_patch(), &status).await.expect(200);
    assert_eq!(changed["status"]["conditions"][0]["type"], "Ready");
    assert_eq!(server.get(&format!("{path}/p/status")).await.expect(200)["status"]["observedGeneration"], 1);
}

/// What was found out about a policy with one validation.
async fn type_checked(server: &Server, name: &str, resources: Value, validation: Value) -> Value {
    let spec = json!({"matchConstraints": resources, "validations": [validation]});
    super::make(server, "validatingadmissionpolicies", "ValidatingAdmissionPolicy", name, spec).await;
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        let policy = server.get(&format!("{GROUP}/validatingadmissionpolicies/{name}")).await.expect(200);
        let status = &policy["status"];
        if status["typeChecking"].is_object() {
            assert_eq!(status["observedGeneration"], policy["metadata"]["generation"]);
            return status["typeChecking"]["expressionWarnings"].clone();
        }
        assert!(Instant::now() < deadline, "{policy}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn expressions_are_type_checked() {
    let server = Server::start().await;
    let deployments = rules("apps", &["deployments"]);
    let fine = json!({"expression": "object.spec.replicas > 1"});
    assert_eq!(type_checked(&server, "fine", deployments.clone(), fine).await, Value::Null);
    let confused = json!({"expression": "object.spec.replicas > '1'",
        "messageExpression": "'wants replicas > 1, got ' + object.spec.replicas"});
    let warnings = type_checked(&server, "confused", deployments, confused).await;
    for (i, (field, overload)) in [
        ("expression", "found no matching overload for '_>_' applied to '(int, string)'"),
        ("messageExpression", "found no matching overload for '_+_' applied to '(string, int)'"),
    ]
    .into_iter()
    .enumerate()
    {
        assert_eq!(warnings[i]["fieldRef"], format!("spec.validations[0].{field}"));
        let warning = warnings[i]["warning"].as_str().unwrap();
        assert!(warning.starts_with("apps/v1, Kind=Deployment: ") && warning.contains(overload), "{warning}");
    }
}

#[tokio::test]
async fn custom_kinds_are_type_checked_too() {
    let server = Server::start().await;
    super::params::define(&server, json!({"prefix": {"type": "string"}})).await;
    let constraints = json!({"resourceRules": [{"operations": ["*"], "apiGroups": ["example.com"],
        "apiVersions": ["v1"], "resources": ["rules"]}]});
    let confused = json!({"expression": "object.prefix > 1 || object.metadata.name == ''"});
    let warnings = type_checked(&server, "confused", constraints, confused).await;
    let warning = warnings[0]["warning"].as_str().unwrap();
    assert!(
        warning.starts_with("example.com/v1, Kind=Rule: ERROR: <input>:1:15: found no matching overload"),
        "{warning}"
    );
}
