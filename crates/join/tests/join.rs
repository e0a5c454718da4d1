//! Joining a real API server over real TLS on loopback, with the real controllers that approve, sign and clean.

use std::{path::Path, sync::Arc, time::Duration};

use k8s_openapi::api::{
    certificates::v1::CertificateSigningRequest,
    core::v1::{Node, Secret},
};
use knarr_api::bootstrap_token::{BootstrapToken, JoinToken};
use knarr_apiserver::{
    ApiServer, Env, Plugins, Security, SecurityConfig,
    alloc::{PortRange, ServiceRanges},
    authn::{component, controller},
    bootstrap::{BootstrapConfig, bootstrap},
    contract::UserInfo,
    pki::{self, ApiTls, CertificateAuthority, Pki, ServerNames},
    tokens::TokenIssuer,
};
use knarr_client::{Clock, Informers, call, errors};
use knarr_controllers::RequestedCertificate;
use knarr_join::{Identity, JoinError, Joining, Renewal, authority_hash, join, keep_current};
use knarr_store::MemoryStore;
use serde_json::json;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

/// Nothing takes that long; a busy machine may make it seem so.
const PATIENCE: Duration = Duration::from_secs(120);

struct Cluster {
    url: String,
    authority: [u8; 32],
    admin: kube::Client,
    stop: CancellationToken,
    dir: tempfile::TempDir,
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

struct Authority(CertificateAuthority);

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

impl Cluster {
    async fn start() -> Self {
        let (dir, stop) = (tempfile::tempdir().unwrap(), CancellationToken::new());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let names = ServerNames {
            node_name: "server".into(),
            cluster_domain: "cluster.local".into(),
            service_address: "10.96.0.1".parse().unwrap(),
            host_addresses: vec![],
            extra: vec![],
        };
        let Pki { authority, server: leaf, kubelet_client, service_account_key, .. } =
            Pki::open(&dir.path().join("pki"), &names, jiff::Timestamp::now()).unwrap();
        let config = SecurityConfig {
            issuer: Arc::new(TokenIssuer::new(service_account_key, "https://kubernetes.default.svc", vec![])),
            node_tls: pki::client_config(authority.certificate(), Some(&kubelet_client)).unwrap(),
            ranges: ServiceRanges { addresses: "10.96.0.0/16".parse().unwrap(), node_ports: PortRange::default() },
            further_authenticators: vec![],
            pod_security: Default::default(),
            env: Env::host(),
        };
        let server = ApiServer::builder(Arc::new(MemoryStore::default()))
            .shutdown(stop.clone())
            .plugins(move |lookup| Plugins::from(Security::new(config, &lookup)))
            .start()
            .await
            .unwrap();
        let objects = BootstrapConfig {
            advertise_address: "127.0.0.1".parse().unwrap(),
            port,
            service_cidr: "10.96.0.0/16".into(),
            service_address: "10.96.0.1".parse().unwrap(),
            client_authority: authority.certificate_pem().into(),
            front_proxy: None,
        };
        bootstrap(&*server.lookup(), &objects).await.unwrap();
        let tls = ApiTls::new(&leaf, authority.certificate()).unwrap();
        let (serving, ends) = (server.clone(), stop.clone());
        tokio::spawn(async move { serving.serve(listener, tls, ends).await });
        let hash = authority_hash(authority.certificate()).unwrap();
        let watcher = knarr_client::in_process(server.local(component("system:kube-controller-manager")), "test");
        let api = server.clone();
        let controllers = knarr_controllers::Config {
            client_for: Arc::new(move |name| knarr_client::in_process(api.local(controller(name)), name)),
            informers: Informers::seeded(watcher, stop.clone(), 1),
            clock: Clock::System,
            cancel: stop.clone(),
            root_ca_pem: authority.certificate_pem().into(),
            authority: Arc::new(Authority(authority)),
            node_monitor_grace: Duration::from_secs(40),
            control_plane_node: None,
            autoscaler_period: Duration::from_secs(15),
            ingress: false,
            service_cidr: "10.96.0.0/16".into(),
            pod_cidr: "10.244.0.0/16".parse().unwrap(),
            load_balancer_pool: None,
        };
        let wanted = |name| ["certificate-controller", "token-cleaner"].contains(&name);
        let mut running = knarr_controllers::spawn(controllers, wanted);
        tokio::spawn(async move { while running.join_next().await.is_some() {} });
        let admin = UserInfo { name: "admin".into(), groups: vec!["system:masters".into()], ..UserInfo::default() };
        let admin = knarr_client::in_process(server.local(admin), "test");
        Self { url: format!("https://127.0.0.1:{port}"), authority: hash, admin, stop, dir }
    }

    /// A token that is good for so many seconds.
    async fn token(&self, id: &str, seconds: i64) -> JoinToken {
        let token = BootstrapToken { id: id.into(), secret: "0123456789abcdef".into() };
        let ends = jiff::Timestamp::now() + jiff::SignedDuration::from_secs(seconds);
        let secret: Secret = serde_json::from_value(json!({
            "metadata": {"name": token.secret_name(), "namespace": "kube-system"},
            "type": "bootstrap.kubernetes.io/token",
            "stringData": {
                "token-id": token.id, "token-secret": token.secret, "expiration": ends.to_string(),
                "usage-bootstrap-authentication": "true",
                "auth-extra-groups": "system:bootstrappers:kubeadm:default-node-token",
            },
        }))
        .unwrap();
        call::create(&self.admin, &secret).await.unwrap();
        JoinToken { token, authority: self.authority }
    }

    async fn join(&self, token: &JoinToken, machine: &str, clock: Clock) -> Result<Identity, JoinError> {
        let directory = self.directory(machine);
        let joining =
            Joining { server: &self.url, token, node_name: "n1", machine, directory: &directory, clock, seed: 1 };
        join(&joining).await
    }

    fn directory(&self, machine: &str) -> std::path::PathBuf {
        self.dir.path().join(machine)
    }

    async fn add_node(&self, machine: &str) {
        let node: Node = serde_json::from_value(json!({
            "metadata": {"name": "n1", "annotations": {"knarr.dev/machine": machine}},
            "status": {"conditions": [{"type": "Ready", "status": "True"}],
                       "addresses": [{"type": "InternalIP", "address": "192.0.2.1"}]},
        }))
        .unwrap();
        call::create(&self.admin, &node).await.unwrap();
    }
}

async fn eventually(what: &str, look: impl AsyncFn() -> bool) {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while !look().await {
        assert!(tokio::time::Instant::now() < deadline, "not seen within two minutes: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

fn mode(path: &Path) -> u32 {
    use std::os::unix::fs::PermissionsExt;
    std::fs::metadata(path).unwrap().permissions().mode() & 0o777
}

/// What an error says, as far as a test cares.
fn kind(result: Result<Identity, JoinError>) -> String {
    let text = format!("{:?}", result.map(drop).unwrap_err());
    text.split([' ', '(', '{']).next().unwrap_or_default().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_joins_once_and_serves() {
    let cluster = Cluster::start().await;
    let token = cluster.token("abcdef", 600).await;
    let identity = cluster.join(&token, "m1", Clock::System).await.unwrap();
    assert_eq!(mode(&cluster.directory("m1").join("client.pem")), 0o600);
    cluster.add_node("m1").await;
    let own = call::get::<Node>(&identity.client(), "", "n1").await.unwrap();
    assert!(own.is_some(), "it is system:node:n1 by now");
    let foreign = call::get::<Secret>(&identity.client(), "kube-system", &token.token.secret_name()).await;
    assert_eq!(errors::code(&foreign.unwrap_err()), Some(403));
    drop(identity);

    // The token is of no use to it any more, and not needed.
    let directory = cluster.directory("m1");
    let identity = Arc::new(Identity::open(&directory, &cluster.url, 1).unwrap().unwrap());
    let before = std::fs::read(directory.join("client.pem")).unwrap();
    let renewal = Renewal {
        identity: identity.clone(),
        node_name: "n1".into(),
        machine: "m1".into(),
        addresses: vec!["192.0.2.1".parse().unwrap()],
        clock: Clock::System,
        seed: 1,
    };
    tokio::spawn(keep_current(renewal, cluster.stop.clone()));
    eventually("the certificate for its port", async || directory.join("serving.pem").exists()).await;
    assert_eq!(std::fs::read(directory.join("client.pem")).unwrap(), before, "which is good for a year");
}

#[tokio::test(flavor = "multi_thread")]
async fn certificates_are_renewed_under_running_requests() {
    let cluster = Cluster::start().await;
    let token = cluster.token("abcdef", 600).await;
    let identity = Arc::new(cluster.join(&token, "m1", Clock::System).await.unwrap());
    cluster.add_node("m1").await;
    let client = identity.client();
    let watch = Informers::seeded(client.clone(), cluster.stop.clone(), 1);
    let node = watch.with_params::<Node>(knarr_client::informer::Scope::fields("metadata.name=n1"));
    assert!(node.synced().await);
    let path = cluster.directory("m1").join("client.pem");
    let before = std::fs::read(&path).unwrap();
    // By this clock the certificate is in its last tenth.
    let late = jiff::Timestamp::now() + jiff::SignedDuration::from_hours(335 * 24);
    let renewal = Renewal {
        identity: identity.clone(),
        node_name: "n1".into(),
        machine: "m1".into(),
        addresses: vec!["192.0.2.1".parse().unwrap()],
        clock: Clock::starting_at(late),
        seed: 1,
    };
    let once = CancellationToken::new();
    let renewing = tokio::spawn(keep_current(renewal, once.clone()));
    eventually("another client certificate", async || std::fs::read(&path).unwrap() != before).await;
    once.cancel();
    renewing.await.unwrap();
    let requests = async || {
        let params = kube::api::ListParams::default();
        let api = kube::Api::<CertificateSigningRequest>::all(cluster.admin.clone());
        api.list(&params)
            .await
            .unwrap()
            .items
            .into_iter()
            .map(|request| request.spec.username.unwrap_or_default())
            .collect::<Vec<_>>()
    };
    assert!(requests().await.contains(&"system:node:n1".to_owned()), "by itself and by no token");
    // The watch from before goes on, and new requests go well.
    let patch = json!({"metadata": {"labels": {"renewed": "yes"}}});
    let own = call::get::<Node>(&client, "", "n1").await.unwrap().unwrap();
    call::merge(&cluster.admin, &own, patch).await.unwrap();
    eventually("the change of the node", async || {
        node.get("", "n1")
            .is_some_and(|node| node.metadata.labels.as_ref().is_some_and(|labels| labels.contains_key("renewed")))
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_may_not_join_hears_why() {
    let cluster = Cluster::start().await;
    let token = cluster.token("abcdef", 600).await;
    let join = async |token: &JoinToken, clock| kind(cluster.join(token, "m2", clock).await);
    let wrong = JoinToken { authority: [7; 32], ..token.clone() };
    assert_eq!(join(&wrong, Clock::System).await, "WrongToken");
    let unknown = JoinToken { token: "zzzzzz.0123456789abcdef".parse().unwrap(), ..token.clone() };
    assert_eq!(join(&unknown, Clock::System).await, "TokenRefused");
    let guessed = JoinToken { token: "abcdef.fedcba9876543210".parse().unwrap(), ..token.clone() };
    assert_eq!(join(&guessed, Clock::System).await, "TokenRefused");
    let now = jiff::Timestamp::now();
    for days in [-1, 1, 800] {
        let clock = Clock::starting_at(now + jiff::SignedDuration::from_hours(days * 24));
        assert_eq!(join(&token, clock).await, "ClockSkew", "{days} days off");
    }
    cluster.add_node("m1").await;
    assert_eq!(join(&token, Clock::System).await, "NameTaken");
    assert!(!cluster.directory("m2").exists(), "nothing is kept of it");

    let stale = cluster.token("stale0", 1).await;
    eventually("the expired token is removed", async || {
        call::get::<Secret>(&cluster.admin, "kube-system", &stale.token.secret_name()).await.unwrap().is_none()
    })
    .await;
    assert_eq!(join(&stale, Clock::System).await, "TokenRefused");
}

#[tokio::test(flavor = "multi_thread")]
async fn another_cluster_at_the_same_place_is_noticed() {
    let (first, second) = (Cluster::start().await, Cluster::start().await);
    let token = first.token("abcdef", 600).await;
    first.join(&token, "m1", Clock::System).await.unwrap();
    let identity = Identity::open(&first.directory("m1"), &second.url, 1).unwrap().unwrap();
    let greeted = knarr_join::greet(identity.https(), &second.url, Clock::System, PATIENCE).await;
    assert!(matches!(greeted, Err(JoinError::WrongAuthority { .. })), "{greeted:?}");
    assert!(matches!(identity.check_authority(second.authority, &second.url), Err(JoinError::WrongAuthority { .. })));
    identity.check_authority(first.authority, &first.url).unwrap();
}
