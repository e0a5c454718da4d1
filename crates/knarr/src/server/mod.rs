//! The server half: store, certificates, API server, controllers, scheduler.

mod auth;
pub mod backup;
mod config;
pub mod datastore;

mod metrics;
mod scheduler;
mod turn;

use std::{net::SocketAddr, path::Path, sync::Arc, time::Duration};

use anyhow::{Context, Result};
use knarr_apiserver::{
    ApiServer, Env, Plugins, Reading, Security, SecurityConfig,
    admission::PodSecurityConfig,
    alloc::{PortRange, ServiceRanges},
    audit::Auditor,
    authn::{component, controller},
    bootstrap::{BootstrapConfig, bootstrap},
    contract::UserInfo,
    pki::{CertificateAuthority, Certificates, Leaf, Pki, Requested, ServerNames},
    seal::{Keys, SealedStore, has_sealed},
    tokens::TokenIssuer,
};
use knarr_client::{Clock, Informers, supervise};
use knarr_controllers::RequestedCertificate;
use knarr_metrics::Metrics;
use knarr_store::Store;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::{
    agent::{Access, NodeConfig},
    ranges::{CLUSTER_DNS, CLUSTER_DOMAIN, KUBERNETES_SERVICE, SERVICE_CIDR},
};

use config::AuditConfig;
pub use config::ServerConfig;
use metrics::MetricsSource;

const HEAP: Reading = Reading {
    name: "knarr_heap_bytes",
    help: "Memory that the program has asked for",
    read: || i64::try_from(knarr_os::alloc::usage_bytes()?.0).ok(),
};
const RESIDENT: Reading = Reading {
    name: "process_resident_memory_bytes",
    help: "Memory that the process has, its program file included",
    read: || {
        let pages: i64 = std::fs::read_to_string("/proc/self/statm").ok()?.split(' ').nth(1)?.parse().ok()?;
        Some(pages * i64::try_from(rustix::param::page_size()).ok()?)
    },
};

/// Who issues service account tokens, and whom they are for.
const ISSUER: &str = "https://kubernetes.default.svc.cluster.local";

pub struct Server {
    pub api: ApiServer,
    pub authority: Arc<CertificateAuthority>,
    /// The administrator's client certificate.
    pub admin: Leaf,
    certificates: Arc<Certificates>,
    metrics: Arc<Metrics>,
    /// Set where other servers may have the same objects.
    shared: Option<Arc<dyn Store>>,
}

/// Opens the store and answers on the listener; ready for requests when this returns.
pub async fn start(config: &ServerConfig, listener: TcpListener, stop: &CancellationToken) -> Result<Server> {
    let env = Env::host();
    let names = ServerNames {
        node_name: config.node_name.clone(),
        cluster_domain: CLUSTER_DOMAIN.into(),
        service_address: KUBERNETES_SERVICE.into(),
        host_addresses: vec![config.address],
        extra: config.names.clone(),
    };
    let pki = Pki::open(&config.data.pki(), &names, env.now())?;
    let opened = datastore::open(config).await?;
    let store = opened.store.clone();
    let keys = match &config.encryption_key_file {
        Some(path) => Keys::read(path)?,
        None => {
            let pki = config.data.pki();
            Keys::open_in(&pki, !Keys::are_in(&pki) && has_sealed(&*store).await?)?
        }
    };
    let store = SealedStore::open(store, keys).await.context("the encrypted Secrets cannot be opened")?;
    let Pki { authority, front_proxy: _, server: _, admin, kubelet_client: _, service_account_key } = pki;
    let authority = Arc::new(authority);
    let certificates = Certificates::open(config.data.pki(), names, authority.clone(), env.now())?;
    let security = SecurityConfig {
        issuer: Arc::new(TokenIssuer::new(service_account_key, ISSUER, vec![ISSUER.into()])),
        node_tls: certificates.kubelet_client()?,
        ranges: ServiceRanges { addresses: SERVICE_CIDR.parse()?, node_ports: PortRange::default() },
        further_authenticators: auth::authenticators(&config.auth, &env)?,
        pod_security: pod_security(config.admission_file.as_deref())?,
        env: env.clone(),
    };
    let metrics = Arc::new(Metrics::default());
    let source = MetricsSource(metrics.clone());
    let backup = Arc::new(backup::BackupPath(backup::Source {
        store: opened.store,
        pki: config.data.pki(),
        key_file: config.encryption_key_file.clone(),
        node_name: config.node_name.clone(),
    }));
    let mut builder = ApiServer::builder(Arc::new(store));
    let shared = opened.etcd.clone().map(|etcd| Arc::new(etcd) as Arc<dyn Store>);
    if let Some(etcd) = opened.etcd {
        builder =
            builder.check("etcd", move || if etcd.answers() { Ok(()) } else { Err("etcd does not answer".into()) });
    }
    if let Some(AuditConfig { policy_file, log }) = &config.audit {
        builder = builder.audit(Auditor::open(policy_file.clone(), log.clone(), env.clone())?);
    }
    let api = builder
        .env(env)
        .shutdown(stop.clone())
        .address(SocketAddr::new(config.address, config.port))
        .reading(HEAP)
        .reading(RESIDENT)
        .aggregate(certificates.front_proxy())
        .plugins(move |lookup| {
            let mut plugins = Plugins::from(Security::new(security, &lookup));
            plugins.sources.push(Arc::new(source));
            plugins.paths.push(backup);
            plugins
        })
        .start()
        .await?;
    let (front_proxies, headers) = auth::front_proxies(&config.auth, certificates.front_proxy_authority_pem())?;
    let objects = BootstrapConfig {
        advertise_address: config.address,
        port: config.port,
        service_cidr: SERVICE_CIDR.into(),
        service_address: KUBERNETES_SERVICE.into(),
        client_authority: authority.certificate_pem().to_owned(),
        front_proxy: Some((front_proxies.clone(), headers.clone())),
    };
    let report = bootstrap(&*api.lookup(), &objects).await.context("the cluster's first objects cannot be made")?;
    tracing::debug!(?report, "bootstrap objects");
    let tls = certificates.api()?.with_front_proxies(front_proxies.as_bytes(), headers)?;
    let (serving, ends) = (api.clone(), stop.clone());
    tokio::spawn(async move { serving.serve(listener, tls, ends).await });
    Ok(Server { api, authority, admin, certificates: Arc::new(certificates), metrics, shared })
}

impl Server {
    /// A client in this process, as one user.
    pub fn client(&self, name: &str, groups: &[&str], agent: &'static str) -> kube::Client {
        let groups = groups.iter().map(|group| (*group).to_owned()).collect();
        let user = UserInfo { name: name.into(), groups, ..UserInfo::default() };
        knarr_client::in_process(self.api.local(user), agent)
    }

    /// What the node in this process is given: the rights of any other node, without a socket in between.
    pub fn access(&self, node: &NodeConfig) -> Result<Access> {
        Ok(Access {
            client: self.client(&format!("system:node:{}", node.name), &["system:nodes"], "knarr-node"),
            serving: Arc::new(self.certificates.kubelet()?),
        })
    }

    /// Renews certificates for as long as the server runs. `tell` gets the administrator's again and again, for the files
    /// that it is in.
    pub fn keep_certificates(&self, tell: Arc<dyn Fn(&Leaf) + Send + Sync>, stop: &CancellationToken) {
        let (certificates, stop) = (self.certificates.clone(), stop.clone());
        tokio::spawn(async move {
            let keep = || certificates.clone().keep_current(Env::host(), tell.clone(), stop.clone());
            supervise::keep_running("certificates", &stop, keep).await;
        });
    }

    /// Runs the controllers and the scheduler: at once where nobody else could, else whenever it is this server's turn.
    pub fn keep_control(self: &Arc<Self>, config: &ServerConfig, stop: &CancellationToken) {
        let Some(store) = self.shared.clone() else { return self.start_control(config, stop) };
        let me = format!("{} {} {}", config.node_name, rustix::process::getpid().as_raw_nonzero(), Env::host().now());
        let (this, config) = (self.clone(), config.clone());
        tokio::spawn(turn::keep(store, me, turn::Pace::default(), stop.clone(), move |end| {
            this.start_control(&config, end)
        }));
    }

    /// Starts the controllers and the scheduler, which share their informers.
    fn start_control(&self, config: &ServerConfig, stop: &CancellationToken) {
        let watcher = knarr_client::in_process(self.api.local(component("system:kube-controller-manager")), "knarr");
        let informers = Informers::new(watcher, stop.clone());
        let collector = knarr_client::in_process(self.api.local(controller(metrics::USER)), metrics::USER);
        metrics::start(self.metrics.clone(), collector, informers.clone(), config.metric_resolution, stop.clone());
        let api = self.api.clone();
        let client_for = move |name: &'static str| knarr_client::in_process(api.local(controller(name)), name);
        let mut controllers = knarr_controllers::spawn_all(knarr_controllers::Config {
            client_for: Arc::new(client_for),
            informers: informers.clone(),
            clock: Clock::System,
            cancel: stop.clone(),
            root_ca_pem: self.authority.certificate_pem().to_owned(),
            authority: Arc::new(Authority(self.authority.clone())),
            node_monitor_grace: config.node_monitor_grace,
            autoscaler_period: config.autoscaler_period,
            ingress: config.ingress,
            control_plane_node: Some(config.node_name.clone()),
            service_cidr: SERVICE_CIDR.into(),
            pod_cidr: config.pod_cidr,
            load_balancer_pool: config.load_balancer_pool.clone(),
        });
        tokio::spawn(async move { while controllers.join_next().await.is_some() {} });
        let scheduler = self.client("system:kube-scheduler", &[], "kube-scheduler");
        let admin = self.client("kubernetes-admin", &["system:masters"], "knarr");
        tokio::spawn(knarr_net::ensure_dns_service(admin, CLUSTER_DNS));
        scheduler::start(scheduler, informers, stop.clone());
    }
}

fn pod_security(file: Option<&Path>) -> Result<PodSecurityConfig> {
    let Some(file) = file else { return Ok(PodSecurityConfig::default()) };
    PodSecurityConfig::open(file)
        .with_context(|| format!("the admission configuration {} cannot be used", file.display()))
}

/// The cluster's authority as the controllers know it.
struct Authority(Arc<CertificateAuthority>);

impl knarr_controllers::CertificateAuthority for Authority {
    fn read(&self, request: &[u8]) -> Result<RequestedCertificate, String> {
        let Requested { common_name, organizations, dns_names, addresses, other_names } =
            Requested::read(request).map_err(|error| error.to_string())?;
        Ok(RequestedCertificate { common_name, organizations, dns_names, addresses, other_names })
    }

    fn sign(&self, request: &[u8], usages: &[String], lifetime: Duration) -> Result<String, String> {
        self.0.sign_request(request, usages, lifetime, Env::host().now()).map_err(|error| error.to_string())
    }
}
