//! A server with its whole security chain, over any store.

use std::{net::IpAddr, sync::Arc};

use knarr_apiserver::{
    ApiServer, Env, Plugins, Security, SecurityConfig,
    alloc::{AddressRange, PortRange, ServiceRanges},
    bootstrap::{BootstrapConfig, bootstrap},
    pki::{self, Pki, ServerNames},
    tokens::TokenIssuer,
};
use knarr_store::{MemoryStore, Store};

pub struct Secured {
    pub server: ApiServer,
    pub pki: Pki,
    _directory: tempfile::TempDir,
}

pub async fn start() -> Secured {
    over(Arc::new(MemoryStore::default())).await
}

pub async fn over(store: Arc<dyn Store>) -> Secured {
    let directory = tempfile::tempdir().unwrap();
    let env = Env::host();
    let service_address: IpAddr = [10, 96, 0, 1].into();
    let names = ServerNames {
        node_name: "n".into(),
        cluster_domain: "cluster.local".into(),
        service_address,
        host_addresses: Vec::new(),
        extra: Vec::new(),
    };
    let pki = Pki::open(directory.path(), &names, env.now()).unwrap();
    let again = Pki::open(directory.path(), &names, env.now()).unwrap();
    let config = SecurityConfig {
        issuer: Arc::new(TokenIssuer::new(again.service_account_key, "https://kubernetes.default.svc", Vec::new())),
        node_tls: pki::client_config(pki.authority.certificate(), Some(&pki.kubelet_client)).unwrap(),
        ranges: ServiceRanges {
            addresses: "10.96.0.0/16".parse::<AddressRange>().unwrap(),
            node_ports: PortRange::default(),
        },
        further_authenticators: Vec::new(),
        pod_security: Default::default(),
        env,
    };
    let server = ApiServer::builder(store)
        .plugins(move |lookup| Plugins::from(Security::new(config, &lookup)))
        .start()
        .await
        .unwrap();
    let first = BootstrapConfig {
        advertise_address: [192, 0, 2, 7].into(),
        port: 6443,
        service_cidr: "10.96.0.0/16".into(),
        service_address,
        client_authority: pki.authority.certificate_pem().to_owned(),
        front_proxy: None,
    };
    bootstrap(&*server.lookup(), &first).await.unwrap();
    Secured { server, pki, _directory: directory }
}
