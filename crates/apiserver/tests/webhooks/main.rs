//! Webhooks through the real server: each test is its own webhook, on loopback and with its own authority.

mod conditions;
mod conversion;
mod failing;
#[path = "../harness/mod.rs"]
mod harness;
mod hook;
mod matching;
mod mutating;
mod validating;

use harness::Server;
use serde_json::{Value, json};

const MUTATING: &str = "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations";
const VALIDATING: &str = "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations";
const MAPS: &str = "/api/v1/namespaces/default/configmaps";

/// A webhook for ConfigMaps; `more` overrides what is there.
fn webhook(name: &str, client: Value, more: Value) -> Value {
    let mut webhook = json!({
        "name": format!("{name}.example.com"), "clientConfig": client, "sideEffects": "None",
        "admissionReviewVersions": ["v1", "v1beta1"], "timeoutSeconds": 5,
        "rules": [{"operations": ["*"], "apiGroups": [""], "apiVersions": ["v1"], "resources": ["configmaps"]}],
    });
    for (key, value) in more.as_object().into_iter().flatten() {
        webhook[key] = value.clone();
    }
    webhook
}

/// Makes a configuration and waits until it counts, as the caches go.
async fn configure(server: &Server, path: &str, name: &str, webhooks: Value) {
    let kind = if path == MUTATING { "MutatingWebhookConfiguration" } else { "ValidatingWebhookConfiguration" };
    let configuration = json!({"apiVersion": "admissionregistration.k8s.io/v1", "kind": kind,
        "metadata": {"name": name}, "webhooks": webhooks});
    server.post(path, &configuration).await.expect(201);
    // A read waits for every write that was acknowledged.
    server.get(&format!("{path}/{name}")).await.expect(200);
}

fn map(name: &str, data: Value) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data})
}
