use http::StatusCode;
use serde_json::Value;

use super::Host;

fn forbidden(user: &str, subresources: &str) -> (StatusCode, String) {
    let what = format!("user={user}, verb=get, resource=nodes, subresource(s)=[{subresources}]");
    (StatusCode::FORBIDDEN, format!("Forbidden ({what})\n"))
}

#[tokio::test]
async fn the_api_server_and_masters_may_ask_without_a_review() {
    let host = Host::new().await;
    let admin = Some(host.authority.identity("kubernetes-admin", "system:masters"));
    assert_eq!(host.get_as(admin, "/pods").await.0, StatusCode::OK);
    let (status, pods) = host.get("/pods").await;
    let pods: Value = serde_json::from_str(&pods).unwrap();
    assert_eq!((status, pods["items"][0]["metadata"]["name"].as_str()), (StatusCode::OK, Some("p")));
    assert!(host.get("/metrics").await.1.contains("kubelet_running_pods 1\n"));
    assert_eq!(host.api.reviews(), 0);
}

#[tokio::test]
async fn nobody_in_particular_may_ask_for_nothing() {
    let host = Host::new().await;
    for path in ["/pods", "/metrics", "/healthz", "/nothing"] {
        assert_eq!(host.get_as(None, path).await, (StatusCode::UNAUTHORIZED, "Unauthorized".to_owned()), "{path}");
        let (status, _) = host.get_with("made-up", path).await;
        assert_eq!(status, StatusCode::UNAUTHORIZED, "{path}");
    }
    assert_eq!(host.api.reviews(), 1, "that a token is nobody's is remembered");
}

#[tokio::test]
async fn certificates_of_others_are_reviewed() {
    let host = Host::new().await;
    let as_user = |name: &str| Some(host.authority.identity(name, "devs"));
    assert_eq!(host.get_as(as_user("dave"), "/pods").await, forbidden("dave", "pods proxy"));
    host.api.know("", "erin", &["get proxy"]);
    assert_eq!(host.get_as(as_user("erin"), "/pods").await.0, StatusCode::OK);
    assert_eq!(host.get_as(as_user("erin"), "/healthz").await, (StatusCode::OK, "ok".to_owned()));
    // Metrics have a grain of their own, which the coarse one does not stand for.
    assert_eq!(host.get_as(as_user("erin"), "/metrics").await, forbidden("erin", "metrics"));
    assert_eq!(host.get_as(as_user(""), "/pods").await.0, StatusCode::UNAUTHORIZED);
}

/// As Prometheus scrapes: the token of a service account that may read metrics and no more.
#[tokio::test]
async fn tokens_are_reviewed_and_answers_remembered() {
    let host = Host::new().await;
    let scraper = "system:serviceaccount:monitoring:prometheus";
    host.api.know("secret", scraper, &["get metrics", "get pods"]);
    for _ in 0..3 {
        assert_eq!(host.get_with("secret", "/metrics").await.0, StatusCode::OK);
        assert_eq!(host.get_with("secret", "/metrics/resource").await.0, StatusCode::OK);
        assert_eq!(host.get_with("secret", "/pods").await.0, StatusCode::OK);
        assert_eq!(host.get_with("secret", "/stats/summary").await, forbidden(scraper, "stats"));
        assert_eq!(host.get_with("secret", "/containerLogs/d/p/a").await, forbidden(scraper, "proxy"));
    }
    // Who it is, and may it read metrics, pods, stats, and everything else.
    assert_eq!(host.api.reviews(), 5);
}

/// A name is worth as much as its certificate: by the name alone, a token's owner is nobody special.
#[tokio::test]
async fn only_certificates_need_no_review() {
    let host = Host::new().await;
    let name = "kube-apiserver-kubelet-client";
    host.api.know("secret", name, &[]);
    assert_eq!(host.get_with("secret", "/pods").await, forbidden(name, "pods proxy"));
}
