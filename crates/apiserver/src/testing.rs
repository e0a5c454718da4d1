//! A whole API server for tests: the real store in memory, the real generic path, the real plugins.

use std::sync::Arc;

use bytes::Bytes;
use http::{Method, Request};
use http_body_util::{BodyExt, Full};
use jiff::Timestamp;
use knarr_store::MemoryStore;
use serde_json::{Value, json};
use tower::ServiceExt;

use crate::admission::PodSecurityConfig;
use crate::aggregation::RequestHeaders;
use crate::alloc::{PortRange, ServiceRanges};
use crate::authn::server_itself;
use crate::bootstrap::{BootstrapConfig, Report, bootstrap};
use crate::contract::{Lookup, UserInfo};
use crate::pki::{Pki, ProxyIdentity, ServerNames, client_config};
use crate::tokens::TokenIssuer;
use crate::{ApiServer, ApiServerBuilder, Env, Plugins, Security, SecurityConfig};

pub(crate) struct Cluster {
    pub api: ApiServer,
    pub store: Arc<MemoryStore>,
    pub lookup: Arc<dyn Lookup>,
    pub security: Security,
    pub issuer: Arc<TokenIssuer>,
    pub pki: Pki,
    _directory: tempfile::TempDir,
}

pub(crate) fn user(name: &str, groups: &[&str]) -> UserInfo {
    UserInfo { name: name.into(), groups: groups.iter().map(|g| (*g).to_owned()).collect(), ..UserInfo::default() }
}

pub(crate) fn admin() -> UserInfo {
    user("kubernetes-admin", &["system:masters"])
}

pub(crate) fn node(name: &str) -> UserInfo {
    user(&format!("system:node:{name}"), &["system:nodes"])
}

fn names() -> ServerNames {
    ServerNames {
        node_name: "node-1".into(),
        cluster_domain: "cluster.local".into(),
        service_address: "10.96.0.1".parse().unwrap(),
        host_addresses: Vec::new(),
        extra: Vec::new(),
    }
}

impl Cluster {
    /// A cluster with its bootstrap objects and nothing else.
    pub(crate) async fn start() -> Self {
        let cluster = Self::bare().await;
        cluster.bootstrap().await;
        cluster
    }

    /// A cluster that aggregates other API servers.
    pub(crate) async fn aggregating() -> Self {
        let shown = |pki: &Pki| ProxyIdentity::of(&pki.front_proxy.client).unwrap();
        let cluster =
            Self::build(Arc::default(), PodSecurityConfig::default(), |builder, pki| builder.aggregate(shown(pki)))
                .await;
        cluster.bootstrap().await;
        cluster
    }

    pub(crate) async fn bare() -> Self {
        Self::of(|builder| builder).await
    }

    /// A cluster whose server is put together with something more.
    pub(crate) async fn of(more: impl FnOnce(ApiServerBuilder) -> ApiServerBuilder) -> Self {
        Self::build(Arc::default(), PodSecurityConfig::default(), |builder, _| more(builder)).await
    }

    /// Another server over the same store.
    pub(crate) async fn beside(&self) -> Self {
        Self::build(self.store.clone(), PodSecurityConfig::default(), |builder, _| builder).await
    }

    pub(crate) async fn with_pod_security(config: PodSecurityConfig) -> Self {
        let cluster = Self::build(Arc::default(), config, |builder, _| builder).await;
        cluster.bootstrap().await;
        cluster
    }

    async fn build(
        store: Arc<MemoryStore>,
        pod_security: PodSecurityConfig,
        more: impl FnOnce(ApiServerBuilder, &Pki) -> ApiServerBuilder,
    ) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let pki = Pki::open(directory.path(), &names(), Timestamp::now()).unwrap();
        let issuer = "https://kubernetes.default.svc.cluster.local";
        let issuer = Arc::new(TokenIssuer::new(pki.service_account_key.clone(), issuer, Vec::new()));
        let env = Env::host();
        let config = SecurityConfig {
            issuer: issuer.clone(),
            node_tls: client_config(pki.authority.certificate(), Some(&pki.kubelet_client)).unwrap(),
            ranges: ServiceRanges {
                addresses: "10.96.0.0/24".parse().unwrap(),
                node_ports: PortRange { first: 30000, last: 30063 },
            },
            further_authenticators: Vec::new(),
            pod_security,
            env: env.clone(),
        };
        let (send, receive) = std::sync::mpsc::channel();
        let builder = ApiServer::builder(store.clone()).env(env);
        let api = more(builder, &pki)
            .plugins(move |lookup| {
                let security = Security::new(config, &lookup);
                let mut plugins = Plugins::default();
                plugins.authenticators = vec![security.authenticator.clone()];
                plugins.authorizers = vec![security.authorizer.clone()];
                plugins.admission = security.admission.clone();
                plugins.subresources = security.subresources.clone();
                send.send(security).unwrap();
                plugins
            })
            .start()
            .await
            .unwrap();
        let lookup = api.lookup();
        Self { api, store, lookup, security: receive.recv().unwrap(), issuer, pki, _directory: directory }
    }

    pub(crate) async fn bootstrap(&self) -> Report {
        let config = BootstrapConfig {
            advertise_address: "192.0.2.1".parse().unwrap(),
            port: 6443,
            service_cidr: "10.96.0.0/24".into(),
            service_address: "10.96.0.1".parse().unwrap(),
            client_authority: self.pki.authority.certificate_pem().to_owned(),
            front_proxy: Some((self.pki.front_proxy.authority.certificate_pem().to_owned(), RequestHeaders::default())),
        };
        let report = bootstrap(&*self.lookup, &config).await.unwrap();
        self.settle().await;
        report
    }

    /// Waits until what was written is in the watch cache, as any fresh read does.
    pub(crate) async fn settle(&self) {
        self.lookup.get_fresh(crate::builtin::namespaces(), "", "default").await.unwrap();
    }

    /// Sends a request as a user; answers with the code and the body.
    pub(crate) async fn send(&self, user: &UserInfo, method: &str, path: &str, body: Value) -> (u16, Value) {
        let response = self.open(user, method, path, body).await;
        let code = response.status().as_u16();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        (code, serde_json::from_slice(&body).unwrap_or_else(|_| String::from_utf8_lossy(&body).into_owned().into()))
    }

    /// What a write that goes well warns of.
    pub(crate) async fn warnings(&self, user: &UserInfo, method: &str, path: &str, body: Value) -> Vec<String> {
        let response = self.open(user, method, path, body).await;
        assert!(response.status().is_success(), "{method} {path}: {}", response.status());
        let values = response.headers().get_all("warning").iter();
        values.map(|value| value.to_str().unwrap().to_owned()).collect()
    }

    pub(crate) async fn open(
        &self,
        user: &UserInfo,
        method: &str,
        path: &str,
        body: Value,
    ) -> crate::contract::Response {
        let content_type = match method {
            "PATCH" => "application/merge-patch+json",
            _ => "application/json",
        };
        let body = if body.is_null() { Bytes::new() } else { Bytes::from(body.to_string()) };
        let request = Request::builder()
            .method(Method::from_bytes(method.as_bytes()).unwrap())
            .uri(path)
            .header("content-type", content_type)
            .body(Full::new(body))
            .unwrap();
        self.api.local(user.clone()).oneshot(request).await.unwrap()
    }

    pub(crate) async fn get(&self, user: &UserInfo, path: &str) -> (u16, Value) {
        self.send(user, "GET", path, Value::Null).await
    }

    pub(crate) async fn post(&self, user: &UserInfo, path: &str, body: Value) -> (u16, Value) {
        self.send(user, "POST", path, body).await
    }

    /// Creates as the administrator, which must succeed.
    pub(crate) async fn make(&self, path: &str, body: Value) -> Value {
        let (code, answer) = self.post(&admin(), path, body).await;
        assert_eq!(code, 201, "POST {path}: {answer}");
        self.settle().await;
        answer
    }

    /// A namespace with the account that a controller would make.
    pub(crate) async fn namespace(&self, name: &str) {
        self.make("/api/v1/namespaces", json!({ "metadata": { "name": name } })).await;
        self.make(&format!("/api/v1/namespaces/{name}/serviceaccounts"), json!({ "metadata": { "name": "default" } }))
            .await;
    }
}

/// A pod of one container; `spec` is merged into it.
pub(crate) fn pod(name: &str, spec: Value) -> Value {
    let mut pod = json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": { "name": name },
        "spec": { "containers": [{ "name": "main", "image": "example.org/x:1" }] },
    });
    for (key, value) in spec.as_object().into_iter().flatten() {
        pod["spec"][key] = value.clone();
    }
    pod
}

pub(crate) fn message(answer: &Value) -> &str {
    answer["message"].as_str().unwrap_or_default()
}

#[tokio::test]
async fn the_server_itself_may_do_everything() {
    let cluster = Cluster::bare().await;
    let (code, answer) = cluster.get(&server_itself(), "/api/v1/namespaces").await;
    assert_eq!(code, 200, "{answer}");
}
