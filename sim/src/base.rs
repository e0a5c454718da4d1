//! What every run starts from: keys, and a store that holds the bootstrap objects. Made once, since making keys is
//! slow; nothing that is written in a run depends on them.

use std::sync::Arc;

use knarr_apiserver::{
    ApiServer, Env, Plugins, Security, SecurityConfig,
    alloc::{AddressRange, PortRange, ServiceRanges},
    bootstrap::{BootstrapConfig, bootstrap},
    pki::{self, Pki, ServerNames},
    tokens::TokenIssuer,
};
use knarr_client::Clock;
use knarr_store::{EmbeddedStore, Store, engine::memory::MemoryEngine};

use crate::start_of_time;

pub struct Base {
    /// To be copied.
    pub disk: MemoryEngine,
    issuer: Arc<TokenIssuer>,
    node_tls: rustls::ClientConfig,
    ranges: ServiceRanges,
}

impl Base {
    /// Everything that decides about requests, as a real server has it.
    pub fn plugins(&self, env: Env, lookup: &Arc<dyn knarr_apiserver::contract::Lookup>) -> Plugins {
        let config = SecurityConfig {
            issuer: self.issuer.clone(),
            node_tls: self.node_tls.clone(),
            ranges: self.ranges,
            further_authenticators: Vec::new(),
            pod_security: Default::default(),
            env,
        };
        Plugins::from(Security::new(config, lookup))
    }
}

/// Makes the keys and a store of its own.
pub async fn make() -> Base {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let names = ServerNames {
        node_name: "n0".into(),
        cluster_domain: "cluster.local".into(),
        service_address: [10, 96, 0, 1].into(),
        host_addresses: Vec::new(),
        extra: Vec::new(),
    };
    let pki = Pki::open(directory.path(), &names, start_of_time()).expect("keys");
    let client_authority = pki.authority.certificate_pem().to_owned();
    let base = Base {
        disk: MemoryEngine::default(),
        node_tls: pki::client_config(pki.authority.certificate(), Some(&pki.kubelet_client)).expect("a TLS client"),
        issuer: Arc::new(TokenIssuer::new(pki.service_account_key, "https://kubernetes.default.svc", Vec::new())),
        ranges: ServiceRanges {
            addresses: "10.96.0.0/16".parse::<AddressRange>().expect("a range"),
            node_ports: PortRange::default(),
        },
    };
    let objects = BootstrapConfig {
        advertise_address: [192, 0, 2, 7].into(),
        port: 6443,
        service_cidr: "10.96.0.0/16".into(),
        service_address: [10, 96, 0, 1].into(),
        client_authority,
        front_proxy: None,
    };
    let store: Arc<dyn Store> = Arc::new(EmbeddedStore::open(base.disk.clone()).expect("an empty store"));
    let clock = Clock::starting_at(start_of_time());
    let server = ApiServer::builder(store).env(Env::seeded(move || clock.now(), 1));
    let server = server.start().await.expect("a server on an empty store");
    bootstrap(&*server.lookup(), &objects).await.expect("the bootstrap objects");
    base
}
