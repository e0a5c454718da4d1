//! The node half: network, runtime, node agent. The parts meet here and nowhere else.

use std::{
    collections::BTreeMap,
    net::{Ipv4Addr, SocketAddr},
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::{Context, Result, anyhow};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use knarr_apiserver::pki::{Identity, Purpose, Subject, server_config};
use knarr_client::{Clock, Informers, informer::Scope};
use knarr_net::Network;
use knarr_node::AgentError;
use knarr_runtime::Runtime;
use sha2::{Digest, Sha256};
use tokio::{sync::Mutex, task::JoinHandle};
use tokio_util::sync::CancellationToken;

use super::{
    NETWORK, RUNTIME,
    config::{CLUSTER_DNS, CLUSTER_DOMAIN, Config},
    progress::Progress,
    server::Server,
};

const MAX_PODS: u32 = 110;

/// A node that runs.
pub struct Agent {
    task: Mutex<JoinHandle<Result<(), AgentError>>>,
    // Its proxy and DNS run for as long as the process; kept so that nothing of it is dropped.
    _network: Network,
}

pub async fn start(config: &Config, server: &Server, progress: &Progress, stop: &CancellationToken) -> Result<Agent> {
    let proxy = server.client("system:kube-proxy", &[], "knarr-net");
    let network_config = knarr_net::Config::new(config.data.root(), config.node_name.clone(), config.node_ip);
    let user = format!("system:node:{}", config.node_name);
    let kubelet = Informers::new(server.client(&user, &["system:nodes"], "knarr-node"), stop.clone());
    let own_pods = kubelet.with_params::<Pod>(Scope::fields(format!("spec.nodeName={}", config.node_name)));
    let network = Network::start(network_config, Informers::new(proxy, stop.clone()), Some(own_pods)).await;
    let network = network.context("the network of this node cannot be set up")?;
    progress.ready(NETWORK);

    let runtime = Runtime::open(runtime_config(config.data.root(), network.pod_network())?).await;
    let runtime = runtime.context("the container runtime cannot start")?;
    import_images(config, &runtime).await?;
    progress.ready(RUNTIME);

    let serving = server.authority.issue(
        &Identity {
            subject: Subject::node(&config.node_name),
            purpose: Purpose::Serving,
            dns_names: vec![config.node_name.clone()],
            addresses: vec![config.node_ip, Ipv4Addr::LOCALHOST.into()],
        },
        Timestamp::now(),
    )?;
    let agent = knarr_node::Agent::new(knarr_node::Config {
        node_name: config.node_name.clone(),
        node_ip: config.node_ip,
        labels: BTreeMap::new(),
        data_dir: config.data.root().join("node"),
        pod_dir: pod_dir(config.data.root()),
        cluster_dns: vec![CLUSTER_DNS.into()],
        cluster_domain: CLUSTER_DOMAIN.into(),
        max_pods: MAX_PODS,
        unsafe_sysctls: config.unsafe_sysctls.clone(),
        informers: kubelet,
        runtime: runtime.clone(),
        images: runtime.clone(),
        streams: runtime,
        listen: SocketAddr::from((Ipv4Addr::UNSPECIFIED, config.node_port)),
        tls: Arc::new(server_config(&serving, server.authority.certificate())?),
        clock: Clock::System,
    });
    let task = tokio::spawn(agent.run(stop.clone()));
    Ok(Agent { task: Mutex::new(task), _network: network })
}

impl Agent {
    /// Resolves when the node ends although nobody told it to.
    pub async fn ended(&self) -> anyhow::Error {
        match (&mut *self.task.lock().await).await {
            Ok(Ok(())) => anyhow!("the node agent ended"),
            Ok(Err(error)) => anyhow::Error::new(error).context("the node agent failed"),
            Err(error) => anyhow::Error::new(error).context("the node agent crashed"),
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
        cgroup_root: format!("knarr-{}", short_name(data)).into(),
        network,
        exe: std::env::current_exe().context("the program's own path is not known")?,
    })
}

/// Where the pods' volumes are.
pub fn pod_dir(data: &Path) -> PathBuf {
    data.join("pods")
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

async fn import_images(config: &Config, runtime: &Arc<Runtime>) -> Result<()> {
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
