//! The node half: network, runtime, node agent. The parts meet here and nowhere else. How it reaches the API is
//! handed in, so that it is the same beside its server and on another machine.

mod command;
mod config;
mod engine;

use std::{
    net::{Ipv4Addr, SocketAddr},
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::{Context, Result, anyhow};
use k8s_openapi::api::core::v1::Pod;
use knarr_client::{Clock, Informers, informer::Scope, supervise};
use knarr_net::Network;
use knarr_node::{AgentError, Budget, Machine, Reserved};
use knarr_runtime::{Limits, Runtime};
use sha2::{Digest, Sha256};
use tokio::{sync::Mutex, task::JoinHandle};
use tokio_util::sync::CancellationToken;

use crate::{
    cli::IngressArgs,
    ranges::{CLUSTER_DNS, CLUSTER_DOMAIN},
    start::{self, NETWORK, RUNTIME, progress::Progress},
};

pub use command::run;
pub use config::{NodeConfig, parse_label, parse_taint};
pub use engine::{cni_dir, remote};

/// What a node half is given to be part of a cluster.
pub struct Access {
    /// Acts as `system:node:NAME`.
    pub client: kube::Client,
    /// What the node serves logs and exec with; asks its clients for certificates of the cluster's CA.
    pub serving: Arc<rustls::ServerConfig>,
}

/// A node that runs.
pub struct Agent {
    task: Mutex<JoinHandle<Result<(), AgentError>>>,
    power_off: CancellationToken,
    // Its proxy and DNS run for as long as the process; kept so that nothing of it is dropped.
    _network: Network,
}

pub async fn start(
    config: &NodeConfig,
    access: Access,
    progress: &Progress,
    stop: &CancellationToken,
) -> Result<Agent> {
    let Access { client, serving } = access;
    let machine = Machine::read(config.data.root());
    let machine = machine.context("cannot find out what this machine has: /proc must be mounted")?;
    let (eviction, image_gc) = (config.resources.eviction(&machine)?, config.resources.image_gc()?);
    let budget = config.resources.budget(&machine, &eviction)?;
    let informers = Informers::new(client, stop.clone());
    let own_pods = informers.with_params::<Pod>(Scope::fields(format!("spec.nodeName={}", config.name)));
    let usual = knarr_net::Config::new(config.data.root(), config.name.clone(), config.ip);
    let network_config = knarr_net::Config {
        overlay: config.overlay,
        cluster_cidr: config.pod_cidr.unwrap_or(usual.cluster_cidr),
        is_range_known: config.pod_cidr.is_some(),
        resolv_conf: config.resolv_conf.clone().unwrap_or_else(|| usual.resolv_conf.clone()),
        ..usual
    };
    let network = Network::start(network_config, informers.clone(), Some(own_pods)).await;
    let network = network.context("the network of this node cannot be set up")?;
    progress.ready(NETWORK);

    let engine = engine::start(config, limits(&budget), network.pod_network(), stop).await?;
    progress.ready(RUNTIME);

    if config.ingress.is_on() {
        start_ingress(config, informers.clone(), stop);
    }
    let power_off = CancellationToken::new();
    let agent = knarr_node::Agent::new(knarr_node::Config {
        node_name: config.name.clone(),
        node_ip: config.ip,
        labels: config.labels.clone(),
        taints: config.taints.clone(),
        machine_identity: config.machine_identity(),
        data_dir: config.data.root().join("node"),
        pod_dir: pod_dir(config.data.root()),
        volume_dir: volume_dir(config.data.root()),
        kubelet_dir: config.kubelet_dir.clone(),
        device_plugin_dir: config.device_plugin_dir.clone(),
        cluster_dns: vec![CLUSTER_DNS.into()],
        cluster_domain: CLUSTER_DOMAIN.into(),
        resolv_conf: config.resolv_conf.clone(),
        machine,
        budget,
        cpus: config.resources.cpus()?,
        eviction,
        shutdown: config.shutdown,
        power_off: power_off.clone(),
        image_gc,
        max_pods: config.max_pods,
        pod_pids: config.pod_pids,
        unsafe_sysctls: config.unsafe_sysctls.clone(),
        informers,
        runtime: engine.runtime,
        images: engine.images,
        streams: engine.streams,
        listen: SocketAddr::from((Ipv4Addr::UNSPECIFIED, config.port)),
        tls: serving,
        clock: Clock::System,
    });
    let task = tokio::spawn(agent.run(stop.clone()));
    let told = power_off.clone();
    tokio::spawn(async move {
        start::machine_goes_down().await;
        told.cancel();
    });
    Ok(Agent { task: Mutex::new(task), power_off, _network: network })
}

/// What all pods together may use, as the kernel counts.
fn limits(budget: &Budget) -> Limits {
    let Reserved { cpu_milli, memory_bytes, pids, .. } = budget.pods;
    Limits { cpu_shares: (cpu_milli * 1024 / 1000).max(2).unsigned_abs(), memory_bytes, pids }
}

/// Waits for an Ingress, and serves it from then on.
fn start_ingress(config: &NodeConfig, informers: Informers, stop: &CancellationToken) {
    let IngressArgs { ingress_http_port, ingress_https_port } = config.ingress;
    let (address, stop) = (config.ip, stop.clone());
    tokio::spawn(async move {
        supervise::keep_running("ingress", &stop, || {
            knarr_ingress::run(knarr_ingress::Config {
                informers: informers.clone(),
                address,
                http_port: ingress_http_port,
                https_port: ingress_https_port,
                cancel: stop.child_token(),
            })
        })
        .await;
    });
}

impl Agent {
    /// Resolves when the node ends although its process was not told to: because the machine goes down, or by a failure.
    pub async fn ended(&self) -> Result<()> {
        match (&mut *self.task.lock().await).await {
            Ok(Ok(())) if self.power_off.is_cancelled() => Ok(()),
            Ok(Ok(())) => Err(anyhow!("the node agent ended")),
            Ok(Err(error)) => Err(anyhow::Error::new(error).context("the node agent failed")),
            Err(error) => Err(anyhow::Error::new(error).context("the node agent crashed")),
        }
    }

    /// Waits for its end after the stop signal.
    pub async fn finish(&self) {
        let mut task = self.task.lock().await;
        if !task.is_finished() {
            let _ = (&mut *task).await;
        }
    }
}

/// What the runtime is told; the same for a start and for a reset.
pub fn runtime_config(data: &Path, network: Arc<dyn knarr_cri::PodNetwork>) -> Result<knarr_runtime::Config> {
    Ok(knarr_runtime::Config {
        data_dir: data.join("runtime"),
        run_dir: run_dir(data),
        cgroup_root: pods_group(data),
        limits: Limits::default(),
        network,
        registries: None,
        exe: std::env::current_exe().context("the program's own path is not known")?,
    })
}

/// The control group that all pods' are below.
pub fn pods_group(data: &Path) -> PathBuf {
    format!("knarr-{}", short_name(data)).into()
}

/// Where the pods' volumes are.
pub fn pod_dir(data: &Path) -> PathBuf {
    data.join("pods")
}

/// Where the volumes of claims are.
pub fn volume_dir(data: &Path) -> PathBuf {
    data.join("volumes")
}

/// A short path of its own for each data directory, because a socket's path has 107 bytes at most.
pub fn run_dir(data: &Path) -> PathBuf {
    Path::new("/run/knarr").join(short_name(data))
}

/// Tells the clusters of one host apart; always the same for the same data directory, so that a later version of the
/// program finds what an earlier one started.
fn short_name(data: &Path) -> String {
    Sha256::digest(data.as_os_str().as_bytes()).iter().take(4).map(|byte| format!("{byte:02x}")).collect()
}

async fn import_images(config: &NodeConfig, runtime: &Arc<Runtime>) -> Result<()> {
    let Some(dir) = config.images.clone() else { return Ok(()) };
    let images = runtime.images().clone();
    let imported = tokio::task::spawn_blocking(move || images.import_directory(&dir)).await??;
    for (path, result) in imported {
        match result {
            Ok(names) => tracing::info!(path = %path.display(), ?names, "imported"),
            Err(error) => {
                tracing::warn!(path = %path.display(), error = %format!("{:#}", anyhow::Error::new(error)), "not imported")
            }
        }
    }
    Ok(())
}
