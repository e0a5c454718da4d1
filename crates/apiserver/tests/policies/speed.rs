//! What policies cost.

use std::time::Instant;

use serde_json::{Value, json};

use super::{MAPS, harness::*, make, map, rules};

const WRITES: u32 = 1_000;

async fn measure(what: &str, count: usize, resources: &[&str], validations: Value) {
    let server = Server::start().await;
    for i in 0..count {
        let name = format!("p{i}");
        let spec = json!({"matchConstraints": rules("", resources), "validations": validations});
        make(&server, "validatingadmissionpolicies", "ValidatingAdmissionPolicy", &name, spec).await;
        let binding = json!({"policyName": name, "validationActions": ["Deny"]});
        make(&server, "validatingadmissionpolicybindings", "ValidatingAdmissionPolicyBinding", &name, binding).await;
    }
    let began = Instant::now();
    for i in 0..WRITES {
        server.post(MAPS, &map(&format!("m{i}"), json!({"a": "b"}))).await.expect(201);
    }
    println!("{what}: {:?} a write", began.elapsed() / WRITES);
}

/// `cargo test -p knarr-apiserver --release --test policies -- --ignored --nocapture speed`
#[tokio::test]
#[ignore = "a measurement"]
async fn speed() {
    let one = json!([{"expression": "object.data.a == 'b' && request.operation == 'CREATE'"}]);
    measure("no policy", 0, &[], json!([])).await;
    measure("100 policies for others", 100, &["secrets"], one.clone()).await;
    measure("one policy", 1, &["configmaps"], one.clone()).await;
    measure("10 policies", 10, &["configmaps"], one).await;
}
