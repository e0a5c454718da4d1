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
    kubeconfig::{self, Admin},
    log,
    record::Record,
    say::say,
};

pub use agent::{pod_dir, runtime_config};

const API: &str = "API server";
const CONTROL: &str = "controllers";
const NETWORK: &str = "network";
const RUNTIME: &str = "runtime";
const NODE: &str = "node";

/// How the line begins that says that all is there; `--detach` waits for it.
const READY: &str = "cluster ready";

/// How long the node may take to become ready before that is said to be a failure.
const NODE_PATIENCE: Duration = Duration::from_secs(60);

pub fn run(args: UpArgs) -> Result<()> {
    if args.detach && !detach::is_child() {
        return detach::run(args);
    }
    log::to_stderr();
    preflight::check_root()?;
    let config = Config::new(args)?;
    preflight::check(&config)?;
    config.data.prepare()?;
    // Held until nothing of this process uses the directory.
    let lock = config.data.lock(&config.running())?;
    knarr_os::alloc::start_background_thread();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let ended = runtime.block_on(serve(config));
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
    let (agent, next) = match started {
        Ok(Some(Started { agent, next })) => (agent, next),
        unstarted => {
            stop.cancel();
            return unstarted.map(drop);
        }
    };
    announce(&config, &progress, &next);
    detach::ready();
    let log = config.data.log();
    tokio::select! {
        () = interrupted() => {}
        ended = agent.ended() => bail!("{ended}"),
        () = log::keep_small(&log), if detach::is_child() => {}
    }
    stop.cancel();
    agent.finish().await;
    Ok(())
}

/// A cluster that runs.
struct Started {
    agent: agent::Agent,
    /// What to type next.
    next: String,
}

async fn start(config: &Config, progress: &Progress, stop: &CancellationToken) -> Result<Started> {
    let begun = Timestamp::now();
    let listener = preflight::bind(config.port, "--port").await?;
    let server = server::start(config, listener, stop).await?;
    write_record(config)?;
    let next = write_kubeconfigs(config, &server)?;
    progress.ready(API);
    server.start_control(stop);
    progress.ready(CONTROL);
    let agent = agent::start(config, &server, progress, stop).await?;
    wait_for_node(&server, &config.node_name, begun).await?;
    progress.ready(NODE);
    Ok(Started { agent, next })
}

/// Notes what a later start and a reset have to know. The store is there by now, so that from here on a missing one
/// is a loss.
fn write_record(config: &Config) -> Result<()> {
    let mut record = Record::new(&config.node_name);
    record.kubeconfigs.extend(config.record.iter().flat_map(|before| before.kubeconfigs.clone()));
    record.kubeconfigs.extend(config.kubeconfig.clone());
    record.write(&config.data.record_file())
}

/// Writes the administrator's own file and merges it into the user's; gives the command to type next.
fn write_kubeconfigs(config: &Config, server: &server::Server) -> Result<String> {
    let admin = Admin {
        server: config.server_url(),
        ca_pem: server.authority.certificate_pem(),
        certificate_pem: &server.admin.certificate_pem,
        key_pem: &server.admin.key_pem,
    };
    let own = config.data.admin_kubeconfig();
    kubeconfig::write_admin(&own, &admin)?;
    let by_own_file = format!("kubectl --kubeconfig {} get nodes", own.display());
    let Some(path) = &config.kubeconfig else { return Ok(by_own_file) };
    let context = match kubeconfig::merge_into(path, &admin) {
        Ok(true) => "",
        Ok(false) => " --context knarr",
        // The cluster is fine without it, and the administrator's own file is there.
        Err(error) => return Ok(format!("{by_own_file}\n\nnote: {error:#}")),
    };
    if kubeconfig::default_path().as_ref() == Some(path) {
        return Ok(format!("kubectl{context} get nodes"));
    }
    Ok(format!("kubectl --kubeconfig {}{context} get nodes", path.display()))
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

fn announce(config: &Config, progress: &Progress, next: &str) {
    let seconds = progress.elapsed().as_secs_f64();
    say!("\n{READY} in {seconds:.2} s on {} ({})\n\n  {next}\n", config.node_name, config.node_ip);
}

/// Ctrl-C, `knarr down`, or a terminal that goes away (unless `nohup` said that this is nothing to heed).
async fn interrupted() {
    let hangup =
        async { if hangup_is_ignored() { std::future::pending().await } else { came(SignalKind::hangup()).await } };
    tokio::select! {
        () = came(SignalKind::interrupt()) => {}
        () = came(SignalKind::terminate()) => {}
        () = hangup => {}
    }
}

async fn came(kind: SignalKind) {
    match signal(kind) {
        Ok(mut signal) => drop(signal.recv().await),
        Err(_) => std::future::pending().await,
    }
}

fn hangup_is_ignored() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    ignored.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).is_some_and(|mask| mask & 1 == 1)
}
