use http::StatusCode;
use serde_json::Value;

use super::Host;

#[tokio::test]
async fn only_the_api_server_may_ask() {
    let host = Host::new().await;
    let stranger = || Some(host.authority.identity("system:node:n2", "system:nodes"));
    let admin = || Some(host.authority.identity("kubernetes-admin", "system:masters"));
    assert_eq!(host.get_as(None, "/pods").await, (StatusCode::UNAUTHORIZED, "Unauthorized".to_owned()));
    assert_eq!(host.get_as(stranger(), "/pods").await.0, StatusCode::FORBIDDEN);
    assert_eq!(host.get_as(admin(), "/pods").await.0, StatusCode::OK);
    assert_eq!(host.get_as(None, "/healthz").await, (StatusCode::OK, "ok".to_owned()));
    let (status, pods) = host.get("/pods").await;
    let pods: Value = serde_json::from_str(&pods).unwrap();
    assert_eq!((status, pods["items"][0]["metadata"]["name"].as_str()), (StatusCode::OK, Some("p")));
    assert!(host.get("/metrics").await.1.contains("kubelet_running_pods 1\n"));
}
