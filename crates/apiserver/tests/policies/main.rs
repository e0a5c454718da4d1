//! Admission policies through the real server.

mod access;
mod api;
mod audit;
#[path = "../harness/mod.rs"]
mod harness;
mod matching;
mod mutating;
mod params;
mod speed;
mod validating;

use harness::Server;
use serde_json::{Value, json};

const GROUP: &str = "/apis/admissionregistration.k8s.io/v1";
const MAPS: &str = "/api/v1/namespaces/default/configmaps";
const DEPLOYMENTS: &str = "/apis/apps/v1/namespaces/default/deployments";

/// Makes an object of the group and waits until it counts, as the caches go.
async fn make(server: &Server, plural: &str, kind: &str, name: &str, spec: Value) -> Value {
    let object = json!({"apiVersion": "admissionregistration.k8s.io/v1", "kind": kind, "metadata": {"name": name},
        "spec": spec});
    let made = server.post(&format!("{GROUP}/{plural}"), &object).await.expect(201);
    // A read waits for every write that was acknowledged.
    server.get(&format!("{GROUP}/{plural}/{name}")).await.expect(200);
    made
}

fn with(mut spec: Value, more: Value) -> Value {
    for (key, value) in more.as_object().into_iter().flatten() {
        spec[key] = value.clone();
    }
    spec
}

/// Rules for all of some resources.
fn rules(group: &str, resources: &[&str]) -> Value {
    json!({"resourceRules": [{"operations": ["CREATE", "UPDATE"], "apiGroups": [group], "apiVersions": ["v1"],
        "resources": resources}]})
}

/// A validating policy for ConfigMaps, called `p`.
async fn validating(server: &Server, validations: Value, more: Value) {
    let spec = json!({"matchConstraints": rules("", &["configmaps"]), "validations": validations});
    make(server, "validatingadmissionpolicies", "ValidatingAdmissionPolicy", "p", with(spec, more)).await;
}

/// A binding of the policy `p`, called `b`.
async fn bind(server: &Server, actions: Value, more: Value) {
    let spec = with(json!({"policyName": "p", "validationActions": actions}), more);
    make(server, "validatingadmissionpolicybindings", "ValidatingAdmissionPolicyBinding", "b", spec).await;
}

/// A mutating policy for ConfigMaps, bound under its own name.
async fn mutating(server: &Server, name: &str, mutations: Value, more: Value) {
    let spec = json!({"matchConstraints": rules("", &["configmaps"]), "mutations": mutations,
        "reinvocationPolicy": "Never"});
    make(server, "mutatingadmissionpolicies", "MutatingAdmissionPolicy", name, with(spec, more)).await;
    let binding = json!({"policyName": name});
    make(server, "mutatingadmissionpolicybindings", "MutatingAdmissionPolicyBinding", name, binding).await;
}

fn apply(source: &str) -> Value {
    json!({"patchType": "ApplyConfiguration", "applyConfiguration": {"expression": source}})
}

fn patch(source: &str) -> Value {
    json!({"patchType": "JSONPatch", "jsonPatch": {"expression": source}})
}

fn map(name: &str, data: Value) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data})
}

fn deployment(name: &str, replicas: i64) -> Value {
    json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name}, "spec": {"replicas": replicas,
        "selector": {"matchLabels": {"app": "nginx"}}, "template": {"metadata": {"labels": {"app": "nginx"}},
            "spec": {"containers": [{"name": "nginx", "image": "nginx"}]}}}})
}
