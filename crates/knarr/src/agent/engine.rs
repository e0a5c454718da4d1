//! The runtime behind the node: the built-in one, or another's at its socket.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::{Context, Result};
use knarr_cni::CniNetwork;
use knarr_cri::{ImageService, PodNetwork, RuntimeService, StreamService};
use knarr_cri_grpc::{
    client::{Endpoint, Remote},
    server::{self, Server},
};
use knarr_runtime::{Limits, Runtime};
use tokio_util::sync::CancellationToken;

use super::{NodeConfig, import_images, pods_group, runtime_config};

/// CRI's services, whoever has them.
#[derive(Clone)]
pub struct Engine {
    pub runtime: Arc<dyn RuntimeService>,
    pub images: Arc<dyn ImageService>,
    pub streams: Arc<dyn StreamService>,
}

impl Engine {
    fn of<T: RuntimeService + ImageService + StreamService>(all: Arc<T>) -> Self {
        Self { runtime: all.clone(), images: all.clone(), streams: all }
    }
}

/// `limits` are what all pods of the built-in runtime may use together.
pub async fn start(
    config: &NodeConfig,
    limits: Limits,
    network: Arc<dyn PodNetwork>,
    stop: &CancellationToken,
) -> Result<Engine> {
    if let Some(endpoint) = &config.engine.runtime {
        return Ok(Engine::of(remote(endpoint, config.data.root()).await?));
    }
    let network = match &config.engine.cni_conf_dir {
        Some(conf_dir) => plugins(config, conf_dir).await?,
        None => network,
    };
    let registries = Some(config.registries.clone());
    let told = runtime_config(config.data.root(), network)?;
    let runtime = Runtime::open(knarr_runtime::Config { registries, limits, ..told }).await;
    let runtime = runtime.context("the container runtime cannot start")?;
    import_images(config, &runtime).await?;
    let engine = Engine::of(runtime);
    if let Some(socket) = &config.engine.cri_socket {
        let Engine { runtime, images, streams } = engine.clone();
        let server = Server::bind(socket, server::Runtime { runtime, images, streams }).await;
        let server = server.with_context(|| format!("--cri-socket {} cannot be served", socket.display()))?;
        tokio::spawn(server.serve(stop.clone()));
    }
    Ok(engine)
}

/// The network that an operator's plugins make.
async fn plugins(config: &NodeConfig, conf_dir: &Path) -> Result<Arc<dyn PodNetwork>> {
    let network = CniNetwork::open(knarr_cni::Config {
        conf_dir: conf_dir.to_owned(),
        bin_dir: config.engine.cni_bin_dir.clone(),
        cache_dir: cni_dir(config.data.root()),
    });
    Ok(Arc::new(network.await.context("the network plugins cannot be used")?))
}

/// Where it is noted what plugins made.
pub fn cni_dir(data: &Path) -> PathBuf {
    data.join("net/cni")
}

/// Another's runtime, with this data directory's pods in a control group of their own.
pub async fn remote(endpoint: &Endpoint, data: &Path) -> Result<Arc<Remote>> {
    let remote = Remote::open(endpoint, pods_group(data)).await;
    remote.with_context(|| format!("the container runtime at {endpoint} does not answer"))
}
