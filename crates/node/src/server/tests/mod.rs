//! The whole server over TLS, with a scripted runtime behind it and clients that speak the real protocols.

mod auth;
mod logs;
mod pages;
mod route;
mod spdy;
mod streams;

use std::{net::SocketAddr, sync::Arc};

use bytes::Bytes;
use http::{Request, StatusCode};
use http_body_util::{BodyExt, Empty};
use hyper_util::rt::TokioIo;
use k8s_openapi::api::core::v1::Pod;
use knarr_client::informer::Scope;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName};
use serde_json::json;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::client::TlsStream;
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{self, client::IntoClientRequest},
};
use tokio_util::sync::CancellationToken;

use super::Server;
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
    api: FakeApi,
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
            "spec": {"nodeName": "n1", "containers": [{"name": "a", "image": "app:1"}],
                "volumes": [{"name": "v", "emptyDir": {}}]},
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
        Self { authority, api, address, runtime, logs, _dir: dir, _stop: stop.drop_guard() }
    }

    async fn connect(&self, identity: Option<Identity>) -> TlsStream<TcpStream> {
        let connector = tokio_rustls::TlsConnector::from(Arc::new(self.authority.client(identity)));
        let stream = TcpStream::connect(self.address).await.unwrap();
        connector.connect(ServerName::try_from("localhost").unwrap(), stream).await.unwrap()
    }

    fn api_server(&self) -> Option<Identity> {
        Some(self.authority.identity("kube-apiserver-kubelet-client", "knarr:apiserver"))
    }

    async fn ask(&self, identity: Option<Identity>, request: Request<Empty<Bytes>>) -> (StatusCode, String) {
        let stream = TokioIo::new(self.connect(identity).await);
        let (mut sender, connection) = hyper::client::conn::http1::handshake(stream).await.unwrap();
        tokio::spawn(connection);
        let response = sender.send_request(request).await.unwrap();
        let status = response.status();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        (status, String::from_utf8_lossy(&body).into_owned())
    }

    async fn get_as(&self, identity: Option<Identity>, path: &str) -> (StatusCode, String) {
        let request = Request::get(path).header("host", "localhost");
        self.ask(identity, request.body(Empty::new()).unwrap()).await
    }

    /// As a client without a certificate.
    async fn get_with(&self, token: &str, path: &str) -> (StatusCode, String) {
        let request = Request::get(path).header("host", "localhost").header("authorization", format!("Bearer {token}"));
        self.ask(None, request.body(Empty::new()).unwrap()).await
    }

    async fn get(&self, path: &str) -> (StatusCode, String) {
        self.get_as(self.api_server(), path).await
    }

    /// A WebSocket as the API server's proxy opens it; without a protocol where that is empty.
    async fn socket(&self, path: &str, protocol: &str) -> WebSocketStream<TlsStream<TcpStream>> {
        let mut request = format!("wss://localhost{path}").into_client_request().unwrap();
        if !protocol.is_empty() {
            request.headers_mut().insert("sec-websocket-protocol", protocol.parse().unwrap());
        }
        let stream = self.connect(self.api_server()).await;
        let (socket, response) = tokio_tungstenite::client_async(request, stream).await.unwrap();
        let agreed = response.headers().get("sec-websocket-protocol").map_or("", |value| value.to_str().unwrap());
        assert_eq!(agreed, protocol.split(", ").next().unwrap());
        socket
    }

    /// How the node answers to a WebSocket that it does not want.
    async fn refused_socket(&self, path: &str, protocol: &str) -> (StatusCode, String) {
        let mut request = format!("wss://localhost{path}").into_client_request().unwrap();
        request.headers_mut().insert("sec-websocket-protocol", protocol.parse().unwrap());
        let stream = self.connect(self.api_server()).await;
        match tokio_tungstenite::client_async(request, stream).await {
            Err(tungstenite::Error::Http(response)) => {
                let body = response.body().as_deref().unwrap_or_default();
                (response.status(), String::from_utf8_lossy(body).into_owned())
            }
            other => panic!("unexpected {other:?}"),
        }
    }
}
