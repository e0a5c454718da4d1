//! A bare API server for trying clients on: no controllers, no scheduler, no nodes, but all of the security.
//!
//! `cargo run -p knarr-apiserver --example serve -- DIR [PORT]` keeps certificates and the store under DIR and writes
//! `DIR/kubeconfig`.

use std::{net::IpAddr, path::PathBuf, sync::Arc};

use knarr_apiserver::{
    ApiServer, Env, Plugins, Security, SecurityConfig,
    alloc::{AddressRange, PortRange, ServiceRanges},
    bootstrap::{BootstrapConfig, bootstrap},
    pki::{self, ApiTls, Pki, ServerNames, kubeconfig},
    tokens::TokenIssuer,
};
use knarr_store::{EmbeddedStore, engine::disk::DiskEngine};
use tokio_util::sync::CancellationToken;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let directory = PathBuf::from(arguments.next().ok_or("usage: serve DIR [PORT]")?);
    let port: u16 = arguments.next().map_or(Ok(6443), |port| port.parse())?;
    std::fs::create_dir_all(&directory)?;
    let env = Env::host();
    let service_address: IpAddr = [10, 96, 0, 1].into();
    let names = ServerNames {
        node_name: "localhost".into(),
        cluster_domain: "cluster.local".into(),
        service_address,
        host_addresses: Vec::new(),
        extra: Vec::new(),
    };
    let pki = Pki::open(&directory.join("pki"), &names, env.now())?;
    let config = SecurityConfig {
        issuer: Arc::new(TokenIssuer::new(pki.service_account_key, "https://kubernetes.default.svc", Vec::new())),
        node_tls: pki::client_config(pki.authority.certificate(), Some(&pki.kubelet_client))?,
        ranges: ServiceRanges { addresses: "10.96.0.0/16".parse::<AddressRange>()?, node_ports: PortRange::default() },
        further_authenticators: Vec::new(),
        pod_security: Default::default(),
        env: env.clone(),
    };
    let store = EmbeddedStore::open(DiskEngine::open(&directory.join("store"), |_| None)?)?;
    let plugins = move |lookup| Plugins::from(Security::new(config, &lookup));
    let server = ApiServer::builder(Arc::new(store)).env(env).plugins(plugins).start().await?;
    let first_objects = BootstrapConfig {
        advertise_address: [127, 0, 0, 1].into(),
        port,
        service_cidr: "10.96.0.0/16".into(),
        service_address,
        client_authority: pki.authority.certificate_pem().to_owned(),
        front_proxy: None,
    };
    bootstrap(&*server.lookup(), &first_objects).await?;
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", port)).await?;
    let url = format!("https://{}", listener.local_addr()?);
    let config = kubeconfig("knarr", &url, pki.authority.certificate_pem(), &pki.admin);
    std::fs::write(directory.join("kubeconfig"), config.to_string())?;
    println!("serving on {url}");
    let tls = ApiTls::new(&pki.server, pki.authority.certificate())?;
    let shutdown = CancellationToken::new();
    let stop = shutdown.clone();
    tokio::spawn(async move {
        let _ = tokio::signal::ctrl_c().await;
        stop.cancel();
    });
    server.serve(listener, tls, shutdown).await;
    Ok(())
}
