//! What a client is told beside the answer.

use serde_json::json;

use super::harness::{Server, merge_patch};

#[tokio::test]
async fn whoever_writes_what_nobody_follows_is_told() {
    let server = Server::start().await;
    let path = "/apis/networking.k8s.io/v1/namespaces/default/networkpolicies";
    let policy = json!({"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": {"name": "closed"},
        "spec": {"podSelector": {}, "policyTypes": ["Ingress"]}});
    let expected = "299 - \"this cluster does not enforce network policies: whoever could reach a pod still can\"";
    let made = server.post(path, &policy).await;
    made.expect(201);
    assert_eq!(made.warnings(), [expected]);
    let path = format!("{path}/closed");
    let open = server.patch(&path, merge_patch(), &json!({"spec": {"policyTypes": ["Egress"]}})).await;
    open.expect(200);
    assert_eq!(open.warnings(), [expected]);
    assert_eq!(server.get(&path).await.warnings(), Vec::<String>::new());
}
