//! `knarr up`: server and node in one process. Starts the parts in the order in which they need each other,
//! shows how far it is, and keeps them until it is told to stop.

mod agent;
mod config;
mod detach;
mod preflight;
mod progress;
mod scheduler;
mod server;

use std::time::Duration;

use anyhow::{Context, Result, bail};
use jiff::Timestamp;
use k8s_openapi::api::{coordination::v1::Lease, core::v1::Node};
use kube::Api;
use tokio::{
    signal::unix::{SignalKind, signal},
    time::Instant,
};
use tokio_util::sync::CancellationToken;

use self::{config::Config, progress::Progress};
use crate::{
    cli::UpArgs,
    datadir::Running,
    kubeconfig::{self, Admin},
};

pub use agent::{pod_dir, runtime_config};

const API: &str = "API server";
const CONTROL: &str = "controllers";
const NETWORK: &str = "network";
const RUNTIME: &str = "runtime";
const NODE: &str = "node";

/// How long the node may take to become ready before that is said to be a failure.
const NODE_PATIENCE: Duration = Duration::from_secs(60);

pub fn run(args: UpArgs) -> Result<()> {
    if args.detach && !detach::is_child() {
        return detach::run(args);
    }
    crate::log::to_stderr();
    let config = Config::new(args)?;
    preflight::check(&config)?;
    config.data.create()?;
    let mut lock = config.data.lock()?;
    lock.describe(&Running {
        pid: rustix::process::getpid().as_raw_nonzero().get(),
        port: config.port,
        node_name: config.node_name.clone(),
    })?;
    knarr_os::alloc::start_background_thread();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let ended = runtime.block_on(serve(config));
    // Held until nothing of this process uses the directory.
    runtime.shutdown_timeout(Duration::from_secs(5));
    drop(lock);
    ended
}

async fn serve(config: Config) -> Result<()> {
    let stop = CancellationToken::new();
    let progress = Progress::new(&[API, CONTROL, NETWORK, RUNTIME, NODE]);
    let started = {
        let start = start(&config, &progress, &stop);
        tokio::select! {
            started = start => started.map(Some),
            () = progress.animate() => Ok(None),
            () = interrupted() => Ok(None),
        }
    };
    let Some(agent) = started? else {
        stop.cancel();
        return Ok(());
    };
    announce(&config, &progress);
    detach::ready();
    tokio::select! {
        () = interrupted() => {}
        ended = agent.ended() => bail!("{ended}"),
    }
    stop.cancel();
    agent.finish().await;
    Ok(())
}

async fn start(config: &Config, progress: &Progress, stop: &CancellationToken) -> Result<agent::Agent> {
    let begun = Timestamp::now();
    let listener = preflight::bind(config.port, "--port").await?;
    let server = server::start(config, listener, stop).await?;
    write_kubeconfigs(config, &server)?;
    progress.ready(API);
    server.start_control(stop);
    progress.ready(CONTROL);
    let agent = agent::start(config, &server, progress, stop).await?;
    wait_for_node(&server, &config.node_name, begun).await?;
    progress.ready(NODE);
    Ok(agent)
}

fn write_kubeconfigs(config: &Config, server: &server::Server) -> Result<()> {
    let admin = Admin {
        server: config.server_url(),
        ca_pem: server.authority.certificate_pem(),
        certificate_pem: &server.admin.certificate_pem,
        key_pem: &server.admin.key_pem,
    };
    kubeconfig::write_admin(&config.data.admin_kubeconfig(), &admin)?;
    if let Some(path) = &config.kubeconfig
        && let Err(error) = kubeconfig::merge_into(path, &admin)
    {
        // The cluster is fine without it, and the admin's own file is there.
        tracing::warn!("{error:#}; use {} instead", config.data.admin_kubeconfig().display());
    }
    Ok(())
}

/// Waits until the node says that it is ready, and says so since `begun`: a killed process leaves a node that looks it.
async fn wait_for_node(server: &server::Server, name: &str, begun: Timestamp) -> Result<()> {
    let client = server.client("kubernetes-admin", &["system:masters"], "knarr");
    let nodes: Api<Node> = Api::all(client.clone());
    let leases: Api<Lease> = Api::namespaced(client, "kube-node-lease");
    let deadline = Instant::now() + NODE_PATIENCE;
    let mut why = "it has not registered".to_owned();
    while Instant::now() < deadline {
        if let Some(node) = nodes.get_opt(name).await.context("the API server does not answer")? {
            let conditions = node.status.and_then(|status| status.conditions).unwrap_or_default();
            match conditions.into_iter().find(|condition| condition.type_ == "Ready") {
                Some(ready) if ready.status == "True" => {
                    let lease = leases.get_opt(name).await.context("the API server does not answer")?;
                    let renewed = lease.and_then(|lease| lease.spec?.renew_time);
                    if renewed.is_some_and(|renewed| renewed.0 >= begun) {
                        return Ok(());
                    }
                    why = "it has not renewed its lease".to_owned();
                }
                Some(ready) => why = ready.message.unwrap_or_default(),
                None => {}
            }
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    bail!("the node {name} is not ready after {} s: {why}", NODE_PATIENCE.as_secs())
}

/// The lines to type next.
fn announce(config: &Config, progress: &Progress) {
    let merged = config.kubeconfig.as_deref().filter(|path| path.exists());
    println!(
        "\ncluster ready in {:.2} s on {} ({})",
        progress.elapsed().as_secs_f64(),
        config.node_name,
        config.node_ip
    );
    match merged {
        Some(path) if Some(path) == kubeconfig::default_path().as_deref() => {
            println!("\n  kubectl --context knarr get nodes\n");
        }
        Some(path) => println!("\n  kubectl --kubeconfig {} --context knarr get nodes\n", path.display()),
        None => println!("\n  kubectl --kubeconfig {} get nodes\n", config.data.admin_kubeconfig().display()),
    }
}

async fn interrupted() {
    let (Ok(mut terminate), Ok(mut interrupt)) = (signal(SignalKind::terminate()), signal(SignalKind::interrupt()))
    else {
        return std::future::pending().await;
    };
    tokio::select! { _ = terminate.recv() => {}, _ = interrupt.recv() => {} }
}
