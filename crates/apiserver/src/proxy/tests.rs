use std::sync::Arc;

use bytes::Bytes;
use http::{Request, StatusCode, header};
use http_body_util::{BodyExt, Full};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use jiff::Timestamp;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::{Dialer, NodeAddress, node_address, split_name};
use crate::contract::Body;
use crate::pki::{ApiTls, KUBELET_CLIENT_NAME, client_config, peer_identity, server_config};
use crate::testing::{Cluster, message, pod};

#[test]
fn names_are_split_as_upstream_does() {
    for (id, expected) in [
        ("web", Some(("", "web", ""))),
        ("web:http", Some(("", "web", "http"))),
        ("web:8080", Some(("", "web", "8080"))),
        ("https:web:", Some(("https", "web", ""))),
        ("https:web:8443", Some(("https", "web", "8443"))),
        (":web:80", Some(("", "web", "80"))),
        ("ftp:web:21", None),
        ("a:b:c:d", None),
        ("", None),
    ] {
        assert_eq!(split_name(id), expected, "{id}");
    }
}

#[test]
fn nodes_are_reached_inside_first() {
    let node = |addresses: Value, port: Value| {
        json!({ "metadata": { "name": "n" }, "status": {
            "addresses": addresses, "daemonEndpoints": { "kubeletEndpoint": { "Port": port } },
        } })
    };
    let of = |kind: &str, address: &str| json!({ "type": kind, "address": address });
    for (addresses, port, expected) in [
        (json!([of("Hostname", "n"), of("InternalIP", "192.0.2.1")]), json!(null), Some(("192.0.2.1", 10250))),
        (json!([of("Hostname", "n")]), json!(10251), Some(("n", 10251))),
        (json!([of("ExternalIP", "198.51.100.1"), of("Hostname", "n")]), json!(0), Some(("198.51.100.1", 10250))),
        (json!([]), json!(null), None),
    ] {
        let expected = expected.map(|(host, port)| NodeAddress { host: host.into(), port });
        assert_eq!(node_address(&node(addresses.clone(), port)).ok(), expected, "{addresses}");
    }
}

type Answer = http::Response<Full<Bytes>>;

/// What a node answers: logs as text, errors as text, and an echo behind an upgrade.
async fn answer(mut request: Request<hyper::body::Incoming>) -> Result<Answer, std::convert::Infallible> {
    let text = |status: u16, text: String| {
        let mut answer = Answer::new(Full::from(text));
        *answer.status_mut() = StatusCode::from_u16(status).unwrap();
        answer.headers_mut().insert(header::CONTENT_TYPE, "text/plain".parse().unwrap());
        answer
    };
    let target = request.uri().to_string();
    if request.headers().contains_key(header::AUTHORIZATION) {
        return Ok(text(500, "the client's credentials came through".into()));
    }
    if request.headers().contains_key(header::UPGRADE) {
        let protocol = request.headers().get(header::SEC_WEBSOCKET_PROTOCOL).cloned();
        let path = request.uri().path().to_owned();
        let upgraded = hyper::upgrade::on(&mut request);
        tokio::spawn(async move {
            let mut stream = TokioIo::new(upgraded.await.unwrap());
            let mut word = [0; 5];
            stream.read_exact(&mut word).await.unwrap();
            let heard = std::str::from_utf8(&word).unwrap();
            stream.write_all(format!("{path} heard {heard}").as_bytes()).await.unwrap();
            stream.shutdown().await.unwrap();
        });
        let mut answer = text(101, String::new());
        answer.headers_mut().insert(header::CONNECTION, "Upgrade".parse().unwrap());
        answer.headers_mut().insert(header::UPGRADE, "websocket".parse().unwrap());
        if let Some(protocol) = protocol {
            answer.headers_mut().insert(header::SEC_WEBSOCKET_PROTOCOL, protocol);
        }
        return Ok(answer);
    }
    Ok(match target.split('?').next().unwrap() {
        "/containerLogs/team/p/main" => text(200, format!("logs {target}")),
        "/containerLogs/team/p/slow" => {
            text(400, r#"container "slow" in pod "p" is waiting to start: ContainerCreating"#.into())
        }
        "/metrics/cadvisor" => text(200, "metrics".into()),
        _ => text(404, "404 page not found".into()),
    })
}

/// A node that lets in the API server only.
async fn start_node(cluster: &Cluster) -> u16 {
    let (_, serving) = cluster.pki.node("n1", &["127.0.0.1".parse().unwrap()], Timestamp::now()).unwrap();
    let tls = server_config(&serving, cluster.pki.authority.certificate()).unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(tls));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                let Ok(stream) = acceptor.accept(stream).await else { return };
                let caller = stream.get_ref().1.peer_certificates().and_then(|chain| peer_identity(&chain[0]));
                assert_eq!(caller.unwrap().common_name, KUBELET_CLIENT_NAME);
                let connection = hyper::server::conn::http1::Builder::new()
                    .serve_connection(TokioIo::new(stream), service_fn(answer))
                    .with_upgrades();
                let _ = connection.await;
            });
        }
    });
    port
}

async fn cluster_with_node() -> (Cluster, u16) {
    let cluster = Cluster::start().await;
    cluster.namespace("team").await;
    let port = start_node(&cluster).await;
    cluster.make("/api/v1/nodes", json!({ "metadata": { "name": "n1" } })).await;
    let status = json!({ "status": {
        "addresses": [{ "type": "InternalIP", "address": "127.0.0.1" }],
        "daemonEndpoints": { "kubeletEndpoint": { "Port": port } },
    } });
    let (code, answer) = cluster.send(&crate::testing::admin(), "PATCH", "/api/v1/nodes/n1/status", status).await;
    assert_eq!(code, 200, "{answer}");
    let containers = json!([{ "name": "main", "image": "x" }, { "name": "slow", "image": "x" }]);
    cluster.make("/api/v1/namespaces/team/pods", pod("p", json!({ "nodeName": "n1", "containers": containers }))).await;
    cluster.settle().await;
    (cluster, port)
}

#[tokio::test]
async fn logs_come_from_the_node() {
    let (cluster, port) = cluster_with_node().await;
    let root = crate::testing::admin();
    let log = "/api/v1/namespaces/team/pods/p/log";
    let (code, answer) = cluster.get(&root, &format!("{log}?container=main&tailLines=3&follow=true")).await;
    assert_eq!((code, answer), (200, json!("logs /containerLogs/team/p/main?tailLines=3&follow=true")));
    let (code, answer) = cluster.get(&root, &format!("{log}?container=slow")).await;
    assert_eq!(
        (code, message(&answer)),
        (400, r#"container "slow" in pod "p" is waiting to start: ContainerCreating"#)
    );
    let (code, answer) = cluster.get(&root, log).await;
    assert_eq!(
        (code, message(&answer)),
        (400, "a container name must be specified for pod p, choose one of: [main slow]")
    );
    for (path, expected) in [
        ("/api/v1/nodes/n1/proxy/metrics/cadvisor".to_owned(), 200),
        (format!("/api/v1/nodes/n1:{port}/proxy/metrics/cadvisor"), 200),
        ("/api/v1/nodes/n1:22/proxy/".to_owned(), 400),
        ("/api/v1/nodes/n1/proxy/nothing".to_owned(), 404),
        ("/api/v1/nodes/n2/proxy/".to_owned(), 404),
    ] {
        let (code, answer) = cluster.get(&root, &path).await;
        assert_eq!(code, expected, "{path}: {answer}");
    }
}

/// From a TLS client, through the API server's own port, to the node's, and back.
#[tokio::test]
async fn upgraded_connections_are_joined() {
    let (cluster, _) = cluster_with_node().await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let tls = ApiTls::new(&cluster.pki.server, cluster.pki.authority.certificate()).unwrap();
    let (api, shutdown) = (cluster.api.clone(), CancellationToken::new());
    let stop = shutdown.clone();
    tokio::spawn(async move { api.serve(listener, tls, stop).await });

    let authority = cluster.pki.authority.certificate();
    let dial = async |leaf| Dialer::new(client_config(authority, leaf).unwrap()).node("127.0.0.1", port).await.unwrap();
    let request = |subresource: &str, protocol: &str| {
        let mut request =
            Request::get(format!("/api/v1/namespaces/team/pods/p/{subresource}&container=main")).header("host", "a");
        request = request.header("connection", "Upgrade").header("upgrade", "websocket");
        request = request.header("sec-websocket-version", "13").header("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==");
        if !protocol.is_empty() {
            request = request.header("sec-websocket-protocol", protocol);
        }
        request.body(empty()).unwrap()
    };
    let exec = "exec?command=cat&stdin=true";
    let refused = dial(None).await.send_request(request(exec, "v5.channel.k8s.io")).await.unwrap();
    assert_eq!(refused.status(), 401, "nobody in particular may not exec");

    for (subresource, protocol, path) in [
        (exec, "v5.channel.k8s.io", "/exec/team/p/main"),
        (exec, "base64.channel.k8s.io", "/exec/team/p/main"),
        ("log?follow=true", "binary.k8s.io", "/containerLogs/team/p/main"),
        ("log?follow=true", "", "/containerLogs/team/p/main"),
    ] {
        let asked = request(subresource, protocol);
        let mut answer = dial(Some(&cluster.pki.admin)).await.send_request(asked).await.unwrap();
        assert_eq!(answer.status(), 101, "{subresource}");
        let agreed = answer.headers().get(header::SEC_WEBSOCKET_PROTOCOL).map_or("", |value| value.to_str().unwrap());
        assert_eq!(agreed, protocol);
        let mut stream = TokioIo::new(hyper::upgrade::on(&mut answer).await.unwrap());
        stream.write_all(b"hello").await.unwrap();
        let mut heard = String::new();
        stream.read_to_string(&mut heard).await.unwrap();
        assert_eq!(heard, format!("{path} heard hello"));
    }
    shutdown.cancel();
}

fn empty() -> Body {
    Full::new(Bytes::new()).map_err(|never| match never {}).boxed_unsync()
}
