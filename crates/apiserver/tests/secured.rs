//! The whole chain with its security: over TLS, as kubectl comes, and in process with rights of one's own.

mod harness;

use std::sync::Arc;

use harness::{
    Server,
    secured::{Secured, start},
};
use knarr_apiserver::{contract::UserInfo, pki};
use rustls_pki_types::ServerName;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_util::sync::CancellationToken;

fn user(name: &str, group: &str) -> UserInfo {
    UserInfo { name: name.into(), groups: vec![group.into()], ..UserInfo::default() }
}

#[tokio::test]
async fn rights_are_asked_and_refusals_named() {
    let secured = start().await;
    let admin = Server::of(secured.server.clone(), user("admin", "system:masters"));
    let nobody = Server::of(secured.server.clone(), user("nobody", "none"));
    let maps = "/api/v1/namespaces/default/configmaps";
    let body = json!({"metadata": {"name": "a"}});
    assert_eq!(
        nobody.post(maps, &body).await.status(403, "Forbidden")["message"],
        "configmaps is forbidden: User \"nobody\" cannot create resource \"configmaps\" in API group \"\" in the \
         namespace \"default\""
    );
    assert_eq!(
        nobody.get("/metrics").await.status(403, "Forbidden")["message"],
        "forbidden: User \"nobody\" cannot get path \"/metrics\""
    );
    admin.post(maps, &body).await.expect(201);
    admin.post("/api/v1/namespaces/missing/configmaps", &body).await.status(404, "NotFound");
    // Whoever may impersonate is somebody else from then on.
    let headers = [("impersonate-user", "nobody")];
    admin.send("GET", maps, &headers, Vec::new()).await.status(403, "Forbidden");
    nobody.send("GET", maps, &headers, Vec::new()).await.status(403, "Forbidden");

    let granted = "/apis/rbac.authorization.k8s.io/v1/namespaces/default/rolebindings";
    let binding = json!({"metadata": {"name": "b"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "view"},
        "subjects": [{"kind": "User", "apiGroup": "rbac.authorization.k8s.io", "name": "nobody"}]});
    admin.post(granted, &binding).await.expect(201);
    nobody.get(&format!("{maps}/a")).await.expect(200);
    nobody.delete(&format!("{maps}/a")).await.status(403, "Forbidden");

    let review =
        json!({"spec": {"resourceAttributes": {"verb": "get", "resource": "configmaps", "namespace": "default"}}});
    let reviewed = nobody.post("/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", &review).await.expect(201);
    assert_eq!(reviewed["status"]["allowed"], true);
    assert!(admin.get("/openid/v1/jwks").await.expect(200)["keys"][0].is_object());
}

#[tokio::test]
async fn rights_to_custom_resources_are_granted_like_others() {
    let secured = start().await;
    let admin = Server::of(secured.server.clone(), user("admin", "system:masters"));
    let nobody = Server::of(secured.server.clone(), user("nobody", "none"));
    let definition = json!({
        "metadata": {"name": "widgets.example.com"},
        "spec": {"group": "example.com", "scope": "Namespaced", "names": {"plural": "widgets", "kind": "Widget"},
            "versions": [{"name": "v1", "served": true, "storage": true,
                "schema": {"openAPIV3Schema": {"type": "object"}}, "subresources": {"status": {}}}]},
    });
    admin.post("/apis/apiextensions.k8s.io/v1/customresourcedefinitions", &definition).await.expect(201);
    let widgets = "/apis/example.com/v1/namespaces/default/widgets";
    let deadline = tokio::time::Instant::now() + std::time::Duration::from_secs(20);
    while admin.get(widgets).await.code() != 200 {
        assert!(tokio::time::Instant::now() < deadline, "never established");
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    let refused = nobody.get(widgets).await.status(403, "Forbidden");
    assert_eq!(
        refused["message"],
        "widgets.example.com is forbidden: User \"nobody\" cannot list resource \"widgets\" in API group \
         \"example.com\" in the namespace \"default\""
    );
    let base = "/apis/rbac.authorization.k8s.io/v1/namespaces/default";
    let role = json!({"metadata": {"name": "r"}, "rules": [
        {"apiGroups": ["example.com"], "resources": ["widgets"], "verbs": ["create", "get", "list"]}]});
    admin.post(&format!("{base}/roles"), &role).await.expect(201);
    let binding = json!({"metadata": {"name": "b"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "r"},
        "subjects": [{"kind": "User", "apiGroup": "rbac.authorization.k8s.io", "name": "nobody"}]});
    admin.post(&format!("{base}/rolebindings"), &binding).await.expect(201);
    let one = nobody.post(widgets, &json!({"metadata": {"name": "one"}})).await.expect(201);
    nobody.put(&format!("{widgets}/one/status"), &one).await.status(403, "Forbidden");
    nobody.delete(&format!("{widgets}/one")).await.status(403, "Forbidden");
}

/// Sends one request over a TLS connection of its own and gives the status line and the rest.
async fn over_tls(secured: &Secured, port: u16, leaf: Option<&pki::Leaf>, path: &str) -> (u16, String) {
    with_headers(secured, port, leaf, path, "").await
}

async fn with_headers(
    secured: &Secured,
    port: u16,
    leaf: Option<&pki::Leaf>,
    path: &str,
    headers: &str,
) -> (u16, String) {
    let config = pki::client_config(secured.pki.authority.certificate(), leaf).unwrap();
    let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
    let stream = tokio::net::TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    let mut tls = connector.connect(ServerName::try_from("localhost").unwrap(), stream).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{headers}\r\n");
    tls.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    // A server that closes without a TLS close is cut here; what it said before is what counts.
    let _ = tls.read_to_end(&mut answer).await;
    let answer = String::from_utf8_lossy(&answer).into_owned();
    let code = answer.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap_or(0);
    (code, answer)
}

#[tokio::test]
async fn certificates_say_who_comes_over_tls() {
    let secured = start().await;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let tls = pki::ApiTls::new(&secured.pki.server, secured.pki.authority.certificate()).unwrap();
    let shutdown = CancellationToken::new();
    let (server, stop) = (secured.server.clone(), shutdown.clone());
    let serving = tokio::spawn(async move { server.serve(listener, tls, stop).await });
    let admin = Some(&secured.pki.admin);
    let now = jiff::Timestamp::now();
    let masters = pki::Identity::client(pki::Subject::new("admin", Some("system:masters")));
    let foreign = pki::CertificateAuthority::generate("kubernetes", now).unwrap().issue(&masters, now).unwrap();
    let long_ago = now - jiff::SignedDuration::from_hours(24 * 400);
    let expired = secured.pki.authority.issue(&masters, long_ago).unwrap();
    let rows = [
        (Some(&foreign), "/api/v1/namespaces", 401, "Unauthorized"),
        (Some(&expired), "/api/v1/namespaces", 401, "Unauthorized"),
        (admin, "/api/v1/namespaces", 200, "NamespaceList"),
        (None, "/api/v1/namespaces", 401, "Unauthorized"),
        (None, "/readyz", 200, "ok"),
        (admin, "/version", 200, "gitVersion"),
        (None, "/version", 401, "Unauthorized"),
        (admin, "/nowhere", 404, "404 page not found"),
    ];
    for (leaf, path, code, part) in rows {
        let (actual, answer) = over_tls(&secured, port, leaf, path).await;
        assert_eq!(actual, code, "{path}: {answer}");
        assert!(answer.contains(part), "{path}: {answer}");
        assert!(answer.contains("\r\naudit-id: "), "{path}: {answer}");
    }
    shutdown.cancel();
    tokio::time::timeout(std::time::Duration::from_secs(120), serving).await.expect("the server drains").unwrap();
}

#[tokio::test]
async fn a_front_proxy_says_who_asks() {
    let secured = start().await;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let front = &secured.pki.front_proxy;
    let tls = pki::ApiTls::new(&secured.pki.server, secured.pki.authority.certificate()).unwrap();
    let headers = knarr_apiserver::aggregation::RequestHeaders::default();
    let tls = tls.with_front_proxies(front.authority.certificate_pem().as_bytes(), headers).unwrap();
    let shutdown = CancellationToken::new();
    let (server, stop) = (secured.server.clone(), shutdown.clone());
    let serving = tokio::spawn(async move { server.serve(listener, tls, stop).await });
    let now = jiff::Timestamp::now();
    let other = front.authority.issue(&pki::Identity::client(pki::Subject::new("other", None)), now).unwrap();
    let impostor =
        secured.pki.authority.issue(&pki::Identity::client(pki::Subject::new("front-proxy-client", None)), now);
    let (proxy, impostor) = (&front.client, &impostor.unwrap());
    let masters = "X-Remote-User: anna\r\nX-Remote-Group: system:masters\r\n";
    let rows = [
        ("a proxy for an administrator", Some(proxy), masters, 200),
        ("a proxy for somebody", Some(proxy), "X-Remote-User: anna\r\n", 403),
        ("a proxy for nobody", Some(proxy), "", 401),
        ("a certificate of the authority that is not allowed", Some(&other), masters, 401),
        ("a user's certificate with a proxy's headers", Some(impostor), masters, 403),
        ("nobody with a proxy's headers", None, masters, 401),
        ("an administrator's certificate", Some(&secured.pki.admin), "", 200),
    ];
    for (what, leaf, headers, code) in rows {
        let (actual, answer) = with_headers(&secured, port, leaf, "/api/v1/secrets", headers).await;
        assert_eq!(actual, code, "{what}: {answer}");
    }
    shutdown.cancel();
    tokio::time::timeout(std::time::Duration::from_secs(120), serving).await.expect("the server drains").unwrap();
}
