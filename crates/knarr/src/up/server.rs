//! The server half: store, certificates, API server, controllers, scheduler.

use std::{path::Path, sync::Arc};

use anyhow::{Context, Result};
use async_trait::async_trait;
use http::{Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full};
use knarr_apiserver::{
    ApiServer, Env, PathHandler, Plugins, Security, SecurityConfig,
    alloc::{PortRange, ServiceRanges},
    bootstrap::{BootstrapConfig, bootstrap},
    contract::{Body, UserInfo},
    pki::{Pki, ServerNames, client_config, server_config},
    tokens::{TokenIssuer, discovery_document, key_set},
};
use knarr_client::{Clock, Informers};
use knarr_store::{EmbeddedStore, engine::disk::DiskEngine};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::config::{CLUSTER_DOMAIN, Config, KUBERNETES_SERVICE, SERVICE_CIDR};

/// Who issues service account tokens, and whom they are for.
const ISSUER: &str = "https://kubernetes.default.svc.cluster.local";

pub struct Server {
    pub api: ApiServer,
    pub pki: Pki,
}

/// Opens the store and answers on the listener; ready for requests when this returns.
pub async fn start(config: &Config, listener: TcpListener, stop: &CancellationToken) -> Result<Server> {
    let env = Env::host();
    let names = ServerNames {
        node_name: config.node_name.clone(),
        cluster_domain: CLUSTER_DOMAIN.into(),
        service_address: KUBERNETES_SERVICE.into(),
        host_addresses: vec![config.node_ip],
        extra: Vec::new(),
    };
    let pki = Pki::open(&config.data.pki(), &names, env.now())?;
    let engine = DiskEngine::open(&config.data.store(), free_bytes)?;
    let store = EmbeddedStore::open(engine)?;
    let issuer = Arc::new(TokenIssuer::new(pki.service_account_key.clone(), ISSUER, vec![ISSUER.into()]));
    let security = SecurityConfig {
        issuer: issuer.clone(),
        node_tls: client_config(pki.authority.certificate(), Some(&pki.kubelet_client))?,
        ranges: ServiceRanges { addresses: SERVICE_CIDR.parse()?, node_ports: PortRange::default() },
        further_authenticators: Vec::new(),
        env: env.clone(),
    };
    let api = ApiServer::builder(Arc::new(store))
        .env(env)
        .shutdown(stop.clone())
        .plugins(move |lookup| {
            let Security { authenticator, authorizer, admission, subresources } = Security::new(security, &lookup);
            let mut plugins = Plugins::default();
            plugins.authenticators = vec![authenticator];
            plugins.authorizers = vec![authorizer];
            plugins.admission = admission;
            plugins.subresources = subresources;
            plugins.paths = vec![Arc::new(TokenKeys(issuer))];
            plugins
        })
        .start()
        .await?;
    let objects = BootstrapConfig {
        advertise_address: config.node_ip,
        port: config.port,
        service_cidr: SERVICE_CIDR.into(),
        service_address: KUBERNETES_SERVICE.into(),
        client_authority: pki.authority.certificate_pem().to_owned(),
    };
    let report = bootstrap(&*api.lookup(), &objects).await.context("the cluster's first objects cannot be made")?;
    tracing::debug!(?report, "bootstrap objects");
    let tls = server_config(&pki.server, pki.authority.certificate())?;
    let (serving, ends) = (api.clone(), stop.clone());
    tokio::spawn(async move { serving.serve(listener, tls, ends).await });
    Ok(Server { api, pki })
}

impl Server {
    /// A client in this process, as one user.
    pub fn client(&self, name: &str, groups: &[&str], agent: &'static str) -> kube::Client {
        let groups = groups.iter().map(|group| (*group).to_owned()).collect();
        let user = UserInfo { name: name.into(), groups, ..UserInfo::default() };
        knarr_client::in_process(self.api.local(user), agent)
    }

    /// Starts the controllers and the scheduler, which share their informers.
    pub fn start_control(&self, stop: &CancellationToken) {
        let watcher = self.client("system:kube-controller-manager", &[], "knarr");
        let informers = Informers::new(watcher, stop.clone());
        let api = self.api.clone();
        let client_for = move |name: &'static str| {
            let user = UserInfo {
                name: format!("system:serviceaccount:kube-system:{name}"),
                groups: vec!["system:serviceaccounts".into(), "system:serviceaccounts:kube-system".into()],
                ..UserInfo::default()
            };
            knarr_client::in_process(api.local(user), name)
        };
        let mut controllers = knarr_controllers::spawn_all(knarr_controllers::Config {
            client_for: Arc::new(client_for),
            informers: informers.clone(),
            clock: Clock::System,
            cancel: stop.clone(),
            root_ca_pem: self.pki.authority.certificate_pem().to_owned(),
        });
        tokio::spawn(async move { while controllers.join_next().await.is_some() {} });
        let scheduler = self.client("system:kube-scheduler", &[], "kube-scheduler");
        super::scheduler::start(scheduler, informers, stop.clone());
    }
}

/// The public half of the key that signs tokens, for those who check them elsewhere.
struct TokenKeys(Arc<TokenIssuer>);

#[async_trait]
impl PathHandler for TokenKeys {
    fn paths(&self) -> &'static [&'static str] {
        &["/.well-known/openid-configuration", "/openid/v1/jwks"]
    }

    async fn handle(&self, request: Request<Body>) -> Response<Body> {
        let (document, kind) = match request.uri().path() {
            "/openid/v1/jwks" => (key_set(&self.0), "application/jwk-set+json"),
            _ => (discovery_document(&self.0), "application/json"),
        };
        let body = Full::from(document.to_string()).map_err(|never| match never {}).boxed_unsync();
        let mut response = Response::new(body);
        *response.status_mut() = StatusCode::OK;
        response.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static(kind));
        response
    }
}

/// What is left on the disk for this process.
fn free_bytes(path: &Path) -> Option<u64> {
    let stat = rustix::fs::statvfs(path).ok()?;
    Some(stat.f_bavail * stat.f_frsize)
}
