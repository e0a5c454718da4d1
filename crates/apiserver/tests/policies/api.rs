//! Policies and bindings as objects: what upstream's conformance tests ask of their API.

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
        let updated = server.put(&one, &patched).await.expect(200);
        assert_eq!(updated["metadata"]["annotations"]["updated"], "true");
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
