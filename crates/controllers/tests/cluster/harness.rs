//! A cluster in this process: the real API server on a store in memory, all controllers, the scheduler, and hollow
//! nodes that say of every pod what a real node would say if containers took no time.

use std::{sync::Arc, time::Duration};

use k8s_openapi::api::core::v1::{Node, Pod};
use knarr_apiserver::{
    ApiServer, Env, Plugins, Security, SecurityConfig,
    alloc::{AddressRange, PortRange, ServiceRanges},
    bootstrap::{BootstrapConfig, bootstrap},
    contract::UserInfo,
    pki::{self, Pki, ServerNames},
    tokens::TokenIssuer,
};
use knarr_client::{Clock, Informers, call, informer::Object, lean, meta};
use knarr_controllers::RequestedCertificate;
use knarr_store::{MemoryStore, Store};
use kube::api::DeleteParams;
use serde_json::json;
use tokio_util::sync::CancellationToken;

/// How long a condition is waited for. Nothing takes that long; on a busy machine it may seem so.
const PATIENCE: Duration = Duration::from_secs(300);

pub struct Cluster {
    pub client: kube::Client,
    pub informers: Informers,
    pub cancel: CancellationToken,
    _directory: tempfile::TempDir,
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.cancel.cancel();
    }
}

/// As the binary hands it in.
struct Authority(pki::CertificateAuthority);

impl knarr_controllers::CertificateAuthority for Authority {
    fn read(&self, request: &[u8]) -> Result<RequestedCertificate, String> {
        let read = pki::Requested::read(request).map_err(|error| error.to_string())?;
        let pki::Requested { common_name, organizations, dns_names, addresses, other_names } = read;
        Ok(RequestedCertificate { common_name, organizations, dns_names, addresses, other_names })
    }

    fn sign(&self, request: &[u8], usages: &[String], lifetime: Duration) -> Result<String, String> {
        self.0.sign_request(request, usages, lifetime, jiff::Timestamp::now()).map_err(|error| error.to_string())
    }
}

fn masters(name: &str) -> UserInfo {
    UserInfo { name: name.into(), groups: vec!["system:masters".into()], ..UserInfo::default() }
}

fn user(name: &str) -> UserInfo {
    UserInfo { name: name.into(), ..UserInfo::default() }
}

fn service_account(name: &str) -> UserInfo {
    let groups = vec!["system:serviceaccounts".into(), "system:serviceaccounts:kube-system".into()];
    UserInfo { name: format!("system:serviceaccount:kube-system:{name}"), groups, ..UserInfo::default() }
}

pub async fn start(nodes: usize) -> Cluster {
    start_with(nodes, None).await
}

/// A cluster with addresses for load balancers.
pub async fn start_with(nodes: usize, pool: Option<knarr_controllers::AddressPool>) -> Cluster {
    if std::env::var_os("KNARR_TEST_LOG").is_some() {
        let filter = "knarr_client=debug,knarr_controllers=debug,knarr_scheduler=debug";
        let filter = tracing_subscriber::EnvFilter::new(filter);
        drop(tracing_subscriber::fmt().with_env_filter(filter).with_test_writer().try_init());
    }
    let directory = tempfile::tempdir().unwrap();
    let cancel = CancellationToken::new();
    let names = ServerNames {
        node_name: "n0".into(),
        cluster_domain: "cluster.local".into(),
        service_address: "10.96.0.1".parse().unwrap(),
        host_addresses: vec![],
        extra: vec![],
    };
    let pki = Pki::open(directory.path(), &names, jiff::Timestamp::now()).unwrap();
    let authority = Arc::new(Authority(pki.authority));
    let node_tls = pki::client_config(authority.0.certificate(), Some(&pki.kubelet_client)).unwrap();
    let root_ca_pem = authority.0.certificate_pem().to_owned();
    let issuer = Arc::new(TokenIssuer::new(pki.service_account_key, "https://kubernetes.default.svc", vec![]));
    let ranges =
        ServiceRanges { addresses: "10.96.0.0/16".parse::<AddressRange>().unwrap(), node_ports: PortRange::default() };
    let config = SecurityConfig {
        issuer,
        node_tls,
        ranges,
        further_authenticators: vec![],
        pod_security: Default::default(),
        env: Env::host(),
    };
    let store: Arc<dyn Store> = Arc::new(MemoryStore::default());
    let server = ApiServer::builder(store).shutdown(cancel.clone()).plugins(move |lookup| {
        let security = Security::new(config, &lookup);
        let mut plugins = Plugins::default();
        plugins.authenticators = vec![security.authenticator];
        plugins.authorizers = vec![security.authorizer];
        plugins.admission = security.admission;
        plugins.subresources = security.subresources;
        plugins
    });
    let server = server.start().await.unwrap();
    let client = knarr_client::in_process(server.local(masters("test")), "test");
    // The controllers run with the rights that the bootstrap roles give them, and no more.
    let manager = knarr_client::in_process(server.local(user("system:kube-controller-manager")), "controllers");
    let informers = Informers::seeded(manager, cancel.clone(), 1);
    let config = BootstrapConfig {
        advertise_address: "192.0.2.7".parse().unwrap(),
        port: 6443,
        service_cidr: "10.96.0.0/16".into(),
        service_address: "10.96.0.1".parse().unwrap(),
        client_authority: root_ca_pem.clone(),
        front_proxy: None,
    };
    bootstrap(&*server.lookup(), &config).await.unwrap();
    let cluster =
        Cluster { client: client.clone(), informers: informers.clone(), cancel: cancel.clone(), _directory: directory };
    for index in 0..nodes {
        cluster.add_node(&format!("n{index}")).await;
    }
    hollow_kubelet(&cluster);
    let make_client = {
        let server = server.clone();
        move |name: &'static str| knarr_client::in_process(server.local(service_account(name)), name)
    };
    let mut controllers = knarr_controllers::spawn_all(knarr_controllers::Config {
        client_for: Arc::new(make_client),
        informers: informers.clone(),
        clock: Clock::System,
        cancel: cancel.clone(),
        root_ca_pem,
        authority,
        // Hollow nodes say once that they are ready: they must not fall silent in a test that takes long.
        node_monitor_grace: 2 * PATIENCE,
        control_plane_node: None,
        autoscaler_period: Duration::from_millis(200),
        ingress: true,
        service_cidr: "10.96.0.0/16".into(),
        pod_cidr: "10.244.0.0/16".parse().unwrap(),
        load_balancer_pool: pool,
    });
    tokio::spawn(async move { while controllers.join_next().await.is_some() {} });
    tokio::spawn(knarr_scheduler::run(knarr_scheduler::Config {
        client: knarr_client::in_process(server.local(user("system:kube-scheduler")), "scheduler"),
        informers,
        clock: Clock::System,
        cancel,
        seed: 1,
    }));
    cluster
        .eventually("the default ServiceAccount", || async {
            let account = call::get::<k8s_openapi::api::core::v1::ServiceAccount>(&client, "default", "default").await;
            account.is_ok_and(|account| account.is_some())
        })
        .await;
    cluster
}

impl Cluster {
    pub async fn add_node(&self, name: &str) {
        let allocatable = json!({"cpu": "64", "memory": "256Gi", "pods": "1000", "ephemeral-storage": "100Gi"});
        create(&self.client, json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name, "labels": {"kubernetes.io/hostname": name}}})).await;
        let node = call::get::<Node>(&self.client, "", name).await.unwrap().unwrap();
        let status = json!({"status": {"allocatable": allocatable, "capacity": allocatable,
            "addresses": [{"type": "InternalIP", "address": "192.0.2.7"}],
            "conditions": [{"type": "Ready", "status": "True", "reason": "KubeletReady", "lastHeartbeatTime": jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string()}]}});
        call::merge_subresource(&self.client, &node, "status", status).await.unwrap();
    }

    pub async fn create(&self, object: serde_json::Value) {
        create(&self.client, object).await;
    }

    pub async fn pods(&self, namespace: &str) -> Vec<Pod> {
        let pods: kube::Api<Pod> = kube::Api::namespaced(self.client.clone(), namespace);
        pods.list(&Default::default()).await.unwrap().items
    }

    /// Waits for a condition; says what was waited for where it does not come.
    pub async fn eventually<F, Fut>(&self, what: &str, mut is_so: F)
    where
        F: FnMut() -> Fut,
        Fut: Future<Output = bool>,
    {
        let deadline = tokio::time::Instant::now() + PATIENCE;
        while !is_so().await {
            assert!(tokio::time::Instant::now() < deadline, "waited in vain for {what}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Waits until all components know of an object what the API says: their watches are behind it, each as far as it
    /// likes, and what is asked of them next they may otherwise answer from before.
    pub async fn known<K>(&self, what: &str, namespace: &str, name: &str, is_so: impl Fn(&K) -> bool)
    where
        K: Object<DynamicType: Default>,
    {
        let informer = self.informers.of::<K>();
        let shows = || std::future::ready(informer.get(namespace, name).is_some_and(|object| is_so(&object)));
        self.eventually(what, shows).await;
        // The cache has it before its handlers are told; who comes to be one waits until they have been.
        let nobody = CancellationToken::new();
        nobody.cancel();
        informer.on_change_until(&nobody, |_| {});
    }
}

/// Path by kind, for the few kinds that tests make.
fn path(object: &serde_json::Value) -> String {
    let text = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
    let (version, kind) = (text(&object["apiVersion"]), text(&object["kind"]));
    let root = if version.contains('/') { format!("/apis/{version}") } else { format!("/api/{version}") };
    let plural = kind.to_lowercase();
    let plural = match plural.as_bytes() {
        [.., b's', b's'] => plural + "es",
        [.., b's'] => plural,
        _ => plural + "s",
    };
    match object["metadata"]["namespace"].as_str() {
        Some(namespace) => format!("{root}/namespaces/{namespace}/{plural}"),
        None => format!("{root}/{plural}"),
    }
}

async fn create(client: &kube::Client, object: serde_json::Value) {
    let request = http::Request::post(path(&object)).header("content-type", "application/json");
    let request = request.body(object.to_string().into_bytes()).unwrap();
    if let Err(error) = client.request_text(request).await {
        panic!("{object}: {error}");
    }
}

/// Runs every pod that has a node at once, in a moment; ends those that are deleted. Pods named `*-fails-*` fail and
/// those of a Job succeed.
fn hollow_kubelet(cluster: &Cluster) {
    let client = cluster.client.clone();
    let mut changes = cluster.informers.of::<lean::Pod>().subscribe();
    tokio::spawn(async move {
        let mut count = 0u32;
        while let Some(change) = changes.next().await {
            let Some(pod) = change.new else { continue };
            let placed = pod.spec.as_ref().is_some_and(|spec| spec.node_name.is_some());
            let phase = pod.status.as_ref().and_then(|status| status.phase.clone()).unwrap_or_default();
            if !placed {
                continue;
            }
            count += 1;
            let (client, address) = (client.clone(), format!("10.1.{}.{}", count / 250, count % 250 + 1));
            tokio::spawn(async move {
                if pod.metadata.deletion_timestamp.is_some() {
                    let now = DeleteParams { grace_period_seconds: Some(0), ..DeleteParams::default() };
                    drop(call::delete(&client, &*pod, now).await);
                } else if phase == "Pending" || phase.is_empty() {
                    let ends = meta::controller_of(&pod.metadata).is_some_and(|owner| owner.kind == "Job");
                    let phase = if ends { "Succeeded" } else { "Running" };
                    let mut conditions = json!([{"type": "Ready", "status": if ends { "False" } else { "True" }, "lastTransitionTime": "2024-01-01T00:00:00Z"}]);
                    conditions.as_array_mut().unwrap().push(json!({"type": "PodScheduled", "status": "True"}));
                    let status = json!({"status": {"phase": phase, "podIP": address, "podIPs": [{"ip": address}], "conditions": conditions}});
                    if let Err(error) = call::merge_subresource(&client, &*pod, "status", status).await {
                        println!("{}: {error}", meta::name(&pod.metadata));
                    }
                }
            });
        }
    });
}
