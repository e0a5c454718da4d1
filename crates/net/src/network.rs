use std::{fs, path::Path, sync::Arc};

use k8s_openapi::api::core::v1::Pod;
use knarr_client::{Informer, Informers, supervise};
use knarr_cri::PodNetwork;
use knarr_os::net::{Links, nft::Nftables};

use crate::{
    Config, announce,
    base::Base,
    dataplane, dns,
    error::{During, NetworkError, Result},
    follow, host,
    pods::PodNetworkHandle,
    services::{self, Catalog, Proxy, Site, Table},
};

/// The running network of a node.
pub struct Network {
    base: Arc<Base>,
}

/// The nftables table, as the Service proxy keeps it.
pub(crate) struct HostTable(pub Arc<Base>);

impl Table for HostTable {
    fn generation(&self) -> Result<u32> {
        self.0.nftables.generation().during("reading the ruleset's number")
    }

    fn open(&self) -> Result<(Proxy, u32)> {
        self.0.ensure_table()?;
        let generation = self.generation()?;
        let Config { node_name, cluster_dns, .. } = &self.0.config;
        let site = Site { node: node_name.clone(), zone: None, cluster_dns: *cluster_dns };
        Ok((Proxy::open(self.0.nftables.clone(), site)?, generation))
    }
}

impl Network {
    /// Sets up what needs no API (a few milliseconds) and starts what follows it in the background until the
    /// informers are cancelled: the pod network, the Service proxy, the announcer and the DNS server.
    ///
    /// What a former process left is taken over as it is: pods keep their addresses and connections go on. On a new
    /// node pods can be attached once the cluster has given it a range, as its Node's `spec.podCIDR`.
    ///
    /// The informers' client has to be allowed to watch Services, EndpointSlices and Nodes (`system:node-proxier`).
    /// `pods` are the node's own, where its agent has an informer of them: with it, a pod that is being deleted gets
    /// no new connection even before its EndpointSlice is updated.
    pub async fn start(config: Config, informers: Informers, pods: Option<Informer<Pod>>) -> Result<Self> {
        let base = {
            let config = config.clone();
            tokio::task::spawn_blocking(move || Base::set_up(&config)).await.unwrap_or(Err(NetworkError::WorkerGone))?
        };
        let base = Arc::new(base);
        let catalog = Arc::new(Catalog::default());
        // Bound here, so that a taken port is an error of the start; a server that fails later binds anew.
        let mut bound = Some(dns::Sockets::bind(config.cluster_dns).await?);
        let table: Arc<dyn Table> = Arc::new(HostTable(base.clone()));
        let (shared, node) = (base.clone(), config.node_name.clone());
        tokio::spawn(async move {
            let cancel = informers.cancellation().clone();
            let serve =
                || services::watch(node.clone(), informers.clone(), pods.clone(), catalog.clone(), table.clone());
            let answer = || dns::serve(bound.take(), config.clone(), catalog.clone());
            let follow = || follow::watch(informers.clone(), shared.clone());
            let announce = || announce::watch(informers.clone(), shared.clone());
            let all = async {
                tokio::join!(
                    supervise::keep_running("pod network", &cancel, follow),
                    supervise::keep_running("service proxy", &cancel, serve),
                    supervise::keep_running("load balancer", &cancel, announce),
                    supervise::keep_running("cluster DNS", &cancel, answer),
                )
            };
            tokio::select! {
                _ = all => {}
                () = cancel.cancelled() => {}
            }
        });
        Ok(Self { base })
    }

    /// What the runtime attaches its sandboxes by.
    pub fn pod_network(&self) -> Arc<dyn PodNetwork> {
        Arc::new(PodNetworkHandle(self.base.pods.clone()))
    }
}

/// The chains of other programs (as `table chain`) that drop what this host forwards, and with it the pods' traffic,
/// unless their rules accept it. For `knarr check`, and told in the log at every start.
pub fn forwarding_obstacles() -> Result<Vec<String>> {
    host::forwarding_obstacles(&Nftables::open().during("opening nftables")?)
}

/// The links on which this host does not answer for load balancers' addresses, for `arp_ignore` keeps it from it. For
/// `knarr check`, and told in the log when an address is taken.
pub fn silent_uplinks() -> Result<Vec<String>> {
    announce::silence::silent_uplinks(&Links::open().during("opening the network")?)
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
            host::remove_routes(&links)?;
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
