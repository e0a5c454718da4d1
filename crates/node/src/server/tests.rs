//! The whole server over TLS, with a scripted runtime behind it and clients that speak the real protocols.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use bytes::Bytes;
use futures::{SinkExt, StreamExt};
use http::{Request, StatusCode};
use http_body_util::{BodyExt, Empty};
use hyper_util::rt::TokioIo;
use k8s_openapi::api::core::v1::Pod;
use knarr_client::informer::Scope;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName};
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::client::TlsStream;
use tokio_tungstenite::tungstenite::{Message, client::IntoClientRequest};
use tokio_util::sync::CancellationToken;

use super::{
    Server, channels,
    exec::Streams,
    logs::wanted,
    route::{self, Path, Place},
};
use crate::{
    pod::manager::Manager,
    testing::{FakeApi, FakeRuntime, context, eventually},
};

struct Authority {
    issuer: Issuer<'static, KeyPair>,
    der: CertificateDer<'static>,
}

type Identity = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

impl Authority {
    fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let der = params.self_signed(&key).unwrap().der().clone();
        Self { issuer: Issuer::new(params, key), der }
    }

    fn identity(&self, name: &str, group: &str) -> Identity {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params.distinguished_name.push(DnType::OrganizationName, group);
        let der = params.signed_by(&key, &self.issuer).unwrap().der().clone();
        (vec![der], PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der())))
    }

    fn roots(&self) -> rustls::RootCertStore {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(self.der.clone()).unwrap();
        roots
    }

    fn server(&self) -> rustls::ServerConfig {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let (chain, key) = self.identity("node", "nodes");
        let verifier =
            rustls::server::WebPkiClientVerifier::builder_with_provider(self.roots().into(), provider.clone());
        let verifier = verifier.allow_unauthenticated().build().unwrap();
        let builder =
            rustls::ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
        builder.with_client_cert_verifier(verifier).with_single_cert(chain, key).unwrap()
    }

    fn client(&self, identity: Option<Identity>) -> rustls::ClientConfig {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder =
            rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
        let builder = builder.with_root_certificates(self.roots());
        match identity {
            Some((chain, key)) => builder.with_client_auth_cert(chain, key).unwrap(),
            None => builder.with_no_client_auth(),
        }
    }
}

/// A node with one running pod `d/p`, whose container is `a`.
struct Host {
    authority: Authority,
    address: SocketAddr,
    runtime: Arc<FakeRuntime>,
    logs: std::path::PathBuf,
    _dir: tempfile::TempDir,
    _stop: tokio_util::sync::DropGuard,
}

impl Host {
    async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (api, runtime) = (FakeApi::new(), Arc::new(FakeRuntime::new(&["app:1"])));
        let stop = CancellationToken::new();
        let (ctx, informers) = context(&api, &runtime, dir.path(), &stop);
        let manager = Manager::new(ctx.clone());
        let pods = informers.with_params::<Pod>(Scope::fields("spec.nodeName=n1"));
        let follower = manager.clone();
        tokio::spawn(async move { follower.follow(pods).await });
        let pod = json!({
            "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "namespace": "d", "uid": "u1"},
            "spec": {"nodeName": "n1", "containers": [{"name": "a", "image": "app:1"}]},
        });
        api.put("/api/v1/namespaces/d/pods/p", pod);
        let authority = Authority::new();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let server = Server::new(ctx.clone(), manager, runtime.clone());
        let (tls, ends) = (Arc::new(authority.server()), stop.clone());
        tokio::spawn(async move { server.serve(listener, tls, ends).await });
        eventually("the container runs", || runtime.running().contains_key("a").then_some(())).await;
        let logs = ctx.log_dir.join("d_p_u1/a");
        Self { authority, address, runtime, logs, _dir: dir, _stop: stop.drop_guard() }
    }

    async fn connect(&self, identity: Option<Identity>) -> TlsStream<TcpStream> {
        let connector = tokio_rustls::TlsConnector::from(Arc::new(self.authority.client(identity)));
        let stream = TcpStream::connect(self.address).await.unwrap();
        connector.connect(ServerName::try_from("localhost").unwrap(), stream).await.unwrap()
    }

    fn api_server(&self) -> Option<Identity> {
        Some(self.authority.identity("kube-apiserver-kubelet-client", "knarr:apiserver"))
    }

    async fn get_as(&self, identity: Option<Identity>, path: &str) -> (StatusCode, String) {
        let stream = TokioIo::new(self.connect(identity).await);
        let (mut sender, connection) = hyper::client::conn::http1::handshake(stream).await.unwrap();
        tokio::spawn(connection);
        let request = Request::get(path).header("host", "localhost").body(Empty::<Bytes>::new()).unwrap();
        let response = sender.send_request(request).await.unwrap();
        let status = response.status();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        (status, String::from_utf8_lossy(&body).into_owned())
    }

    async fn get(&self, path: &str) -> (StatusCode, String) {
        self.get_as(self.api_server(), path).await
    }

    /// A WebSocket as the API server's proxy opens it.
    async fn socket(&self, path: &str, protocol: &str) -> tokio_tungstenite::WebSocketStream<TlsStream<TcpStream>> {
        let mut request = format!("wss://localhost{path}").into_client_request().unwrap();
        request.headers_mut().insert("sec-websocket-protocol", protocol.parse().unwrap());
        let stream = self.connect(self.api_server()).await;
        let (socket, response) = tokio_tungstenite::client_async(request, stream).await.unwrap();
        assert_eq!(response.headers()["sec-websocket-protocol"], protocol.split(", ").next().unwrap());
        socket
    }
}

/// Everything a session sends, by channel, until it hangs up.
async fn hear<S>(socket: &mut tokio_tungstenite::WebSocketStream<S>) -> [Vec<u8>; 5]
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
{
    let mut heard: [Vec<u8>; 5] = Default::default();
    loop {
        let message = tokio::time::timeout(Duration::from_secs(120), socket.next()).await.expect("an answer in time");
        match message {
            Some(Ok(Message::Binary(bytes))) => heard[usize::from(bytes[0])].extend_from_slice(&bytes[1..]),
            Some(Ok(Message::Close(_))) | None => return heard,
            Some(Ok(_)) => {}
            Some(Err(error)) => panic!("{error}"),
        }
    }
}

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

#[tokio::test]
async fn usage_is_told_in_upstreams_shapes() {
    let host = Host::new().await;
    let (status, page) = host.get("/metrics/resource").await;
    assert_eq!(status, StatusCode::OK);
    let labels = "{container=\"a\",namespace=\"d\",pod=\"p\"}";
    for line in [
        "# TYPE container_cpu_usage_seconds_total counter".to_owned(),
        format!("container_cpu_usage_seconds_total{labels} 1.5 7000"),
        format!("container_memory_working_set_bytes{labels} 4194304 7000"),
        "pod_memory_working_set_bytes{namespace=\"d\",pod=\"p\"} 4194304 7000".to_owned(),
        "resource_scrape_error 0".to_owned(),
    ] {
        assert!(page.lines().any(|found| found == line), "{line} in\n{page}");
    }
    for name in ["container_start_time_seconds{", "node_cpu_usage_seconds_total ", "node_memory_working_set_bytes "] {
        assert!(page.lines().any(|line| line.starts_with(name)), "{name} in\n{page}");
    }
    let (status, summary) = host.get("/stats/summary").await;
    let summary: Value = serde_json::from_str(&summary).unwrap();
    assert_eq!((status, &summary["node"]["nodeName"]), (StatusCode::OK, &json!("n1")));
    assert!(summary["node"]["memory"]["workingSetBytes"].as_u64().unwrap() > 0);
    assert!(summary["node"]["fs"]["capacityBytes"].as_u64().unwrap() > 0);
    let pod = &summary["pods"][0];
    assert_eq!(pod["podRef"], json!({"name": "p", "namespace": "d", "uid": "u1"}));
    let cpu = json!({"time": "1970-01-01T00:00:07Z", "usageCoreNanoSeconds": 1_500_000_000});
    assert_eq!((&pod["containers"][0]["name"], &pod["containers"][0]["cpu"]), (&json!("a"), &cpu));
    let (_, brief) = host.get("/stats/summary?only_cpu_and_memory=true").await;
    let brief: Value = serde_json::from_str(&brief).unwrap();
    assert!(brief["node"]["fs"].is_null() && brief["pods"][0]["memory"]["workingSetBytes"] == 4 << 20);
}

#[tokio::test]
async fn logs_are_served_and_refused_with_the_reason() {
    let host = Host::new().await;
    std::fs::create_dir_all(&host.logs).unwrap();
    let text = "2026-01-01T00:00:00Z stdout F one\n2026-01-01T00:00:01Z stderr F two\n";
    std::fs::write(host.logs.join("0.log"), text).unwrap();
    for (path, status, expected) in [
        ("/containerLogs/d/p/a", StatusCode::OK, "one\ntwo\n"),
        ("/containerLogs/d/p/a?tailLines=1", StatusCode::OK, "two\n"),
        ("/containerLogs/d/p/b", StatusCode::BAD_REQUEST, "container \"b\" not found in pod \"p\""),
        ("/containerLogs/d/gone/a", StatusCode::NOT_FOUND, "pod \"gone_d\" not found"),
        (
            "/containerLogs/d/p/a?previous=true",
            StatusCode::BAD_REQUEST,
            "previous terminated container \"a\" in pod \"p\" not found",
        ),
        (
            "/containerLogs/d/p/a?tailLines=-1",
            StatusCode::BAD_REQUEST,
            "tailLines must be a number that is not negative, not \"-1\"",
        ),
    ] {
        assert_eq!(host.get(path).await, (status, expected.to_owned()), "{path}");
    }
}

#[tokio::test]
async fn exec_runs_and_tells_how_it_ended() {
    let host = Host::new().await;
    host.runtime.answer_command("ok", 0, "fine");
    host.runtime.answer_command("bad", 3, "oh");
    for (command, output, status) in
        [("ok", "fine", json!({"metadata": {}, "status": "Success"})), ("bad", "oh", channels::exit_status(3))]
    {
        let path = format!("/exec/d/p/a?command={command}&stdout=true&stderr=true");
        let mut socket = host.socket(&path, "v5.channel.k8s.io, v4.channel.k8s.io").await;
        let heard = hear(&mut socket).await;
        assert_eq!(String::from_utf8_lossy(&heard[1]), output);
        assert_eq!(serde_json::from_slice::<Value>(&heard[3]).unwrap(), status);
    }
    assert_eq!(host.get("/exec/d/p/a?stdout=1").await.1, "you must specify at least 1 command");
    assert_eq!(host.get("/exec/d/p/a?command=x").await.1, "you must specify at least 1 of stdin, stdout, stderr");
    assert_eq!(host.get("/exec/d/p/b?command=x&stdout=1").await.1, "container not found (\"b\")");
}

/// The container's exit code is its own affair: who attached has seen everything.
#[tokio::test]
async fn attach_ends_well_however_the_container_does() {
    let host = Host::new().await;
    host.runtime.answer_command("attach", 3, "oh");
    let mut socket = host.socket("/attach/d/p/a?stdout=true", "v5.channel.k8s.io").await;
    let heard = hear(&mut socket).await;
    assert_eq!(String::from_utf8_lossy(&heard[1]), "oh");
    let status: Value = serde_json::from_slice(&heard[3]).unwrap();
    assert_eq!(status, json!({"metadata": {}, "status": "Success"}));
}

#[tokio::test]
async fn exec_carries_input_and_its_end() {
    let host = Host::new().await;
    let socket = host.socket("/exec/d/p/a?command=cat&stdin=true&stdout=true", "v5.channel.k8s.io").await;
    let sent: Vec<u8> = (0..200_000_u32).flat_map(u32::to_le_bytes).collect();
    let (mut sink, stream) = socket.split();
    let sending = {
        let sent = sent.clone();
        tokio::spawn(async move {
            for chunk in sent.chunks(30_000) {
                sink.send(Message::binary([&[0], chunk].concat())).await.unwrap();
            }
            // Closes the channel of stdin, which ends `cat`.
            sink.send(Message::binary(vec![255, 0])).await.unwrap();
            sink
        })
    };
    let mut stream = stream;
    let (mut echoed, mut status) = (Vec::new(), Vec::new());
    while let Some(Ok(message)) = tokio::time::timeout(Duration::from_secs(120), stream.next()).await.unwrap() {
        match message {
            Message::Binary(bytes) if bytes[0] == 1 => echoed.extend_from_slice(&bytes[1..]),
            Message::Binary(bytes) if bytes[0] == 3 => status.extend_from_slice(&bytes[1..]),
            _ => {}
        }
    }
    drop(sending.await.unwrap());
    assert!(echoed == sent, "{} of {} bytes came back", echoed.len(), sent.len());
    assert_eq!(serde_json::from_slice::<Value>(&status).unwrap()["status"], "Success");
}

#[tokio::test]
async fn the_plain_port_forward_protocol() {
    let host = Host::new().await;
    let mut socket = host.socket("/portForward/d/p?ports=80&ports=1", "v4.channel.k8s.io").await;
    socket.send(Message::binary(b"\0abc".to_vec())).await.unwrap();
    let mut heard: [Vec<u8>; 4] = Default::default();
    while heard[0].len() < 8 || heard[3].len() < 4 {
        match tokio::time::timeout(Duration::from_secs(120), socket.next()).await.unwrap().unwrap().unwrap() {
            Message::Binary(bytes) => heard[usize::from(bytes[0])].extend_from_slice(&bytes[1..]),
            other => panic!("unexpected {other:?}"),
        }
    }
    // Each channel begins with its port.
    assert_eq!(heard[0], b"\x50\0ABCABC");
    assert_eq!(heard[1], b"\x50\0");
    assert_eq!(heard[2], b"\x01\0");
    assert_eq!(&heard[3], b"\x01\0connection refused");
}

#[test]
fn paths() {
    let place = || Place { namespace: "d".into(), pod: "p".into(), container: "a".into() };
    for (path, expected) in [
        ("/containerLogs/d/p/a", Some(Path::Logs(place()))),
        ("/exec/d/p/a", Some(Path::Exec(place()))),
        ("/exec/d/p/uid/a", Some(Path::Exec(place()))),
        ("/attach/d/p/a", Some(Path::Attach(place()))),
        ("/portForward/d/p", Some(Path::PortForward { namespace: "d".into(), pod: "p".into() })),
        ("/healthz", Some(Path::Health)),
        ("/run/d/p/a", None),
        ("/", None),
    ] {
        assert_eq!(route::parse(path), expected, "{path}");
    }
}

#[test]
fn queries() {
    let pairs =
        |list: &[(&str, &str)]| list.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect::<Vec<_>>();
    for (text, expected) in [
        ("", pairs(&[])),
        (
            "command=sh&command=-c&command=echo+a%20b%2B",
            pairs(&[("command", "sh"), ("command", "-c"), ("command", "echo a b+")]),
        ),
        ("a&b=%zz&c=%e2%82%ac", pairs(&[("a", ""), ("b", "%zz"), ("c", "€")])),
    ] {
        assert_eq!(route::query(text), expected, "{text}");
    }
    let streams = |text: &str| Streams::from_query(&route::query(text)).ok();
    let all = Streams { stdin: true, stdout: true, stderr: true, tty: false };
    assert_eq!(streams("input=1&output=1&error=1"), Some(all));
    assert_eq!(streams("stdin=true&stdout=true&stderr=true"), Some(all));
    assert_eq!(
        streams("stdout=true&stderr=true&tty=true"),
        Some(Streams { stdin: false, stderr: false, tty: true, ..all })
    );
    assert_eq!(streams("stdin=false"), None);
}

#[test]
fn log_options() {
    let now = "2026-01-01T00:01:00Z".parse().unwrap();
    let found = wanted("follow=true&sinceSeconds=60&limitBytes=5&timestamps=true&tailLines=all", now).unwrap();
    assert_eq!(found.options.since, Some("2026-01-01T00:00:00Z".parse().unwrap()));
    assert_eq!((found.options.follow, found.options.timestamps, found.previous), (true, true, false));
    assert_eq!((found.options.limit_bytes, found.options.tail_lines), (Some(5), None));
    assert!(wanted("sinceTime=yesterday", now).is_err());
}
