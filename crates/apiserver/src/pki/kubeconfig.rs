use base64::{Engine, prelude::BASE64_STANDARD};
use serde_json::{Value, json};

use super::Leaf;

/// A kubeconfig with one cluster, one user and one context, all of the same name, with everything inline.
pub fn kubeconfig(name: &str, server: &str, authority_pem: &str, user: &Leaf) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{
            "name": name,
            "cluster": { "server": server, "certificate-authority-data": BASE64_STANDARD.encode(authority_pem) },
        }],
        "users": [{
            "name": name,
            "user": {
                "client-certificate-data": BASE64_STANDARD.encode(&user.certificate_pem),
                "client-key-data": BASE64_STANDARD.encode(&user.key_pem),
            },
        }],
        "contexts": [{ "name": name, "context": { "cluster": name, "user": name } }],
        "current-context": name,
    })
}
