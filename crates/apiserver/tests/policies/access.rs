//! Who may name parameters.

use knarr_apiserver::contract::UserInfo;
use serde_json::{Value, json};

use super::{GROUP, harness::*, rules};

const WRITERS: &str = "/apis/rbac.authorization.k8s.io/v1";

/// A server on which `writer` may write policies and bindings, and read one ConfigMap.
async fn restricted() -> (Server, Server) {
    let secured = secured::start().await;
    let user =
        |name: &str, group: &str| UserInfo { name: name.into(), groups: vec![group.into()], ..UserInfo::default() };
    let root = Server::of(secured.server.clone(), user("root", "system:masters"));
    let role = json!({"metadata": {"name": "writers"}, "rules": [
        {"apiGroups": ["admissionregistration.k8s.io"], "resources": ["*"], "verbs": ["*"]},
        {"apiGroups": [""], "resources": ["configmaps"], "resourceNames": ["one"], "verbs": ["get"]}]});
    root.post(&format!("{WRITERS}/clusterroles"), &role).await.expect(201);
    let binding = json!({"metadata": {"name": "writers"}, "subjects": [{"kind": "User", "name": "writer",
        "apiGroup": "rbac.authorization.k8s.io"}], "roleRef": {"kind": "ClusterRole", "name": "writers",
        "apiGroup": "rbac.authorization.k8s.io"}});
    root.post(&format!("{WRITERS}/clusterrolebindings"), &binding).await.expect(201);
    root.get(&format!("{WRITERS}/clusterrolebindings/writers")).await.expect(200);
    let writer = Server::of(secured.server.clone(), user("writer", "system:authenticated"));
    (root, writer)
}

fn policy(name: &str, kind: &str) -> Value {
    json!({"metadata": {"name": name}, "spec": {"matchConstraints": rules("", &["configmaps"]),
        "paramKind": {"apiVersion": "v1", "kind": kind}, "validations": [{"expression": "true"}]}})
}

#[tokio::test]
async fn nobody_names_parameters_that_they_may_not_read() {
    let (root, writer) = restricted().await;
    let policies = format!("{GROUP}/validatingadmissionpolicies");
    let refused = writer.post(&policies, &policy("p", "Secret")).await.status(422, "Invalid");
    let why = "spec.paramKind: Forbidden: user writer must have \"get\" permission on all objects of the referenced \
               paramKind (kind=Secret, apiVersion=v1)";
    assert!(refused["message"].as_str().unwrap().ends_with(why), "{refused}");
    root.post(&policies, &policy("p", "ConfigMap")).await.expect(201);
    // What was there already stays.
    let label = json!({"metadata": {"labels": {"a": "b"}}});
    writer.patch(&format!("{policies}/p"), merge_patch(), &label).await.expect(200);
    for (reference, verb) in [
        (json!({"name": "one", "namespace": "default"}), None),
        (json!({"name": "two", "namespace": "default"}), Some("get")),
        (json!({"selector": {}, "namespace": "default"}), Some("list")),
    ] {
        let reference = super::with(reference, json!({"parameterNotFoundAction": "Deny"}));
        let binding = json!({"metadata": {"generateName": "b-"}, "spec": {"policyName": "p",
            "validationActions": ["Deny"], "paramRef": reference}});
        let answer = writer.post(&format!("{GROUP}/validatingadmissionpolicybindings"), &binding).await;
        let Some(verb) = verb else {
            answer.expect(201);
            continue;
        };
        let refused = answer.status(422, "Invalid");
        let why = format!(
            "spec.paramRef: Forbidden: user writer does not have \"{verb}\" permission on the object referenced by paramRef"
        );
        assert!(refused["message"].as_str().unwrap().ends_with(&why), "{refused}");
    }
}
