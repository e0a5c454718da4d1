use std::{fs, path::Path, sync::Arc};

use k8s_openapi::api::core::v1::Pod;
use knarr_client::{Informer, Informers, supervise};
use knarr_cri::PodNetwork;
use knarr_os::net::{Links, nft::Nftables};

use crate::{
    Config, dataplane, dns,
    error::{During, NetworkError, Result},
    host,
    pods::{PodNetworkHandle, Pods},
    services::{self, Catalog, Proxy, Site, Table},
};

/// The running network of a node.
pub struct Network {
    pods: Arc<Pods>,
}

/// The nftables table, as the Service proxy keeps it.
pub(crate) struct HostTable {
    pub config: Config,
    pub nftables: Arc<Nftables>,
    pub pods: Arc<Pods>,
}

impl Table for HostTable {
    fn generation(&self) -> Result<u32> {
        self.nftables.generation().during("reading the ruleset's number")
    }

    fn open(&self) -> Result<(Proxy, u32)> {
        dataplane::ensure(&self.nftables, &self.config)?;
        self.pods.reconcile()?;
        let generation = self.generation()?;
        let site = Site { node: self.config.node_name.clone(), cluster_dns: self.config.cluster_dns };
        Ok((Proxy::open(self.nftables.clone(), site)?, generation))
    }
}

impl Network {
    /// Sets the pod network up (a few milliseconds; pods can be attached when this returns) and starts the Service
    /// proxy and the DNS server, which follow the API in the background until the informers are cancelled.
    ///
    /// What a former process left is taken over as it is: pods keep their addresses and connections go on.
    ///
    /// The informers' client has to be allowed to watch Services and EndpointSlices (`system:node-proxier`). `pods`
    /// are the node's own, where its agent has an informer of them: with it, a pod that is being deleted gets no new
    /// connection even before its EndpointSlice is updated.
    pub async fn start(config: Config, informers: Informers, pods: Option<Informer<Pod>>) -> Result<Self> {
        let base = {
            let config = config.clone();
            tokio::task::spawn_blocking(move || Base::set_up(&config)).await.unwrap_or(Err(NetworkError::WorkerGone))?
        };
        let Base { nftables, pods: attached } = base;
        let catalog = Arc::new(Catalog::default());
        // Bound here, so that a taken port is an error of the start; a server that fails later binds anew.
        let mut bound = Some(dns::Sockets::bind(config.cluster_dns).await?);
        let table: Arc<dyn Table> = Arc::new(HostTable { config: config.clone(), nftables, pods: attached.clone() });
        tokio::spawn(async move {
            let cancel = informers.cancellation().clone();
            let follow = || services::watch(informers.clone(), pods.clone(), catalog.clone(), table.clone());
            let answer = || dns::serve(bound.take(), config.clone(), catalog.clone());
            let proxy = supervise::keep_running("service proxy", &cancel, follow);
            let dns = supervise::keep_running("cluster DNS", &cancel, answer);
            tokio::select! {
                _ = async { tokio::join!(proxy, dns) } => {}
                () = cancel.cancelled() => {}
            }
        });
        Ok(Self { pods: attached })
    }

    /// What the runtime attaches its sandboxes by.
    pub fn pod_network(&self) -> Arc<dyn PodNetwork> {
        Arc::new(PodNetworkHandle(self.pods.clone()))
    }

    /// Detaches every sandbox that `alive` does not know: those that ended while Knarr did not run.
    pub async fn retain(&self, alive: impl Fn(&str) -> bool + Send + 'static) -> Result<()> {
        let pods = self.pods.clone();
        tokio::task::spawn_blocking(move || pods.retain(alive)).await.unwrap_or(Err(NetworkError::WorkerGone))
    }
}

/// The half of the network that needs no API.
pub(crate) struct Base {
    pub nftables: Arc<Nftables>,
    pub pods: Arc<Pods>,
}

impl Base {
    pub fn set_up(config: &Config) -> Result<Self> {
        let records = config.records_dir();
        fs::create_dir_all(&records).map_err(|source| NetworkError::Record { path: records.clone(), source })?;
        let links = Links::open().during("opening the network")?;
        let nftables = Arc::new(Nftables::open().during("opening nftables")?);
        let mtu = host::uplink_mtu(&links)?;
        host::check_owner(&links, &config.data_dir)?;
        host::check_ranges(&links, config)?;
        host::ensure_node_link(&links, config, mtu)?;
        host::apply_settings(&records)?;
        dataplane::ensure(&nftables, config)?;
        for chain in host::forwarding_obstacles(&nftables)? {
            tracing::warn!(
                %chain,
                "the host's firewall drops forwarded packets, so pods may reach neither each other nor the world; \
                 accept {0} there as source and as destination (with Docker: iptables -I DOCKER-USER -s {0} -j ACCEPT, \
                 and the same with -d)",
                config.cluster_cidr
            );
        }
        let pods = Arc::new(Pods::open(config, links, nftables.clone(), mtu)?);
        Ok(Self { nftables, pods })
    }
}

/// The chains of other programs (as `table chain`) that drop what this host forwards, and with it the pods' traffic,
/// unless their rules accept it. For `knarr check`, and told in the log at every start.
pub fn forwarding_obstacles() -> Result<Vec<String>> {
    host::forwarding_obstacles(&Nftables::open().during("opening nftables")?)
}

/// Says whether this host's network is free for the cluster in `data_dir`: it has none, or that cluster's own.
pub fn check_host(data_dir: &Path) -> Result<()> {
    host::check_owner(&Links::open().during("opening the network")?, data_dir)
}

/// Removes all that the network of this data directory made on this host, and nothing else: links, the nftables
/// table, records; kernel settings get their former values back. Another cluster's network is not touched.
pub fn reset(data_dir: &Path) -> Result<()> {
    let records = data_dir.join("net");
    let links = Links::open().during("opening the network")?;
    match host::check_owner(&links, data_dir) {
        Ok(()) => {
            dataplane::remove(&Nftables::open().during("opening nftables")?)?;
            // The link that says whose all this is goes last, so that a reset cut short can be repeated.
            host::remove_links(&links)?;
            host::restore_settings(&records)?;
        }
        Err(NetworkError::HostTaken { .. }) => {}
        Err(error) => return Err(error),
    }
    match fs::remove_dir_all(&records) {
        Err(source) if source.kind() != std::io::ErrorKind::NotFound => {
            Err(NetworkError::Record { path: records, source })
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests;
