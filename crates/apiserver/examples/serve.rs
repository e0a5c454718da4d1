//! A bare API server for trying clients on: everybody who shows a certificate may do everything.
//!
//! `cargo run -p knarr-apiserver --example serve -- DIR [PORT]` keeps certificates and the store under DIR and writes
//! `DIR/kubeconfig`.

use std::{path::PathBuf, sync::Arc};

use knarr_apiserver::{
    ApiServer, Env, Plugins,
    pki::{Pki, ServerNames, kubeconfig, server_config},
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
    let names = ServerNames {
        node_name: "localhost".into(),
        cluster_domain: "cluster.local".into(),
        service_address: [10, 96, 0, 1].into(),
        host_addresses: Vec::new(),
        extra: Vec::new(),
    };
    let pki = Pki::open(&directory.join("pki"), &names, env.now())?;
    let store = EmbeddedStore::open(DiskEngine::open(&directory.join("store"), |_| None)?)?;
    let server = ApiServer::builder(Arc::new(store)).env(env).plugins(|_| Plugins::permissive()).start().await?;
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", port)).await?;
    let url = format!("https://{}", listener.local_addr()?);
    let config = kubeconfig("knarr", &url, pki.authority.certificate_pem(), &pki.admin);
    std::fs::write(directory.join("kubeconfig"), config.to_string())?;
    println!("serving on {url}");
    let tls = server_config(&pki.server, pki.authority.certificate())?;
    let shutdown = CancellationToken::new();
    let stop = shutdown.clone();
    tokio::spawn(async move {
        let _ = tokio::signal::ctrl_c().await;
        stop.cancel();
    });
    server.serve(listener, tls, shutdown).await;
    Ok(())
}
