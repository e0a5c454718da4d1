//! The half of the network that needs no API: links, kernel settings, the table, the pods' attachments. Where the
//! node's pods get their addresses from is the cluster's decision; it is noted, so that a restart can do without.

use std::{
    fs, io,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
};

use knarr_os::net::{Links, nft::Nftables};
use serde::{Deserialize, Serialize};

use crate::{
    Config, Ipv4Cidr, Overlay, dataplane,
    error::{During, NetworkError, Result},
    host,
    pods::Pods,
    ways::TUNNEL_BYTES,
};

const RECORD: &str = "ranges.json";

/// What the cluster has decided about this node's pods.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ranges {
    /// This node's pods.
    pub node: Ipv4Cidr,
    /// All nodes' pods.
    pub cluster: Ipv4Cidr,
}

pub struct Base {
    pub config: Config,
    pub links: Arc<Links>,
    pub nftables: Arc<Nftables>,
    pub pods: Arc<Pods>,
    /// What leaves the host in one piece.
    pub mtu: u32,
    ranges: Mutex<Option<Ranges>>,
}

impl Base {
    /// Makes what is missing, and takes over what a former process left: its pods, their addresses, their range.
    pub fn set_up(config: &Config) -> Result<Self> {
        let records = config.records_dir();
        fs::create_dir_all(&records).map_err(|source| NetworkError::Record { path: records.clone(), source })?;
        let noted = read_record(&records.join(RECORD))?;
        let mut config = config.clone();
        config.cluster_cidr = noted.map_or(config.cluster_cidr, |noted| noted.cluster);
        let links = Arc::new(Links::open().during("opening the network")?);
        let nftables = Arc::new(Nftables::open().during("opening nftables")?);
        let mtu = host::uplink_mtu(&links)?;
        host::check_owner(&links, &config.data_dir)?;
        if config.is_range_known || noted.is_some() {
            host::check_range(&links, "pod", config.cluster_cidr)?;
        }
        host::check_range(&links, "Service", config.service_cidr)?;
        host::ensure_node_link(&links, &config, mtu)?;
        host::apply_settings(&records)?;
        dataplane::ensure(&nftables, &config)?;
        for chain in host::forwarding_obstacles(&nftables)? {
            tracing::warn!(
                %chain,
                "the host's firewall drops forwarded packets, so pods may reach neither each other nor the world; \
                 accept {0} there as source and as destination (with Docker: iptables -I DOCKER-USER -s {0} -j ACCEPT, \
                 and the same with -d)",
                config.cluster_cidr
            );
        }
        let pod_mtu = if config.overlay == Overlay::Vxlan { mtu.saturating_sub(TUNNEL_BYTES) } else { mtu };
        let pods = Arc::new(Pods::open(&records, links.clone(), nftables.clone(), pod_mtu)?);
        let base = Self { config, links, nftables, pods, mtu, ranges: Mutex::new(None) };
        noted.map_or(Ok(()), |noted| base.adopt(noted))?;
        Ok(base)
    }

    /// Takes the cluster's decision over. From then on pods can be attached.
    pub fn adopt(&self, ranges: Ranges) -> Result<()> {
        let mut current = self.ranges.lock().unwrap_or_else(PoisonError::into_inner);
        if *current == Some(ranges) {
            return Ok(());
        }
        host::check_range(&self.links, "pod", ranges.cluster)?;
        if current.map_or(self.config.cluster_cidr, |current| current.cluster) != ranges.cluster {
            dataplane::ensure(&self.nftables, &Config { cluster_cidr: ranges.cluster, ..self.config.clone() })?;
        }
        let former = current.map(|current| current.node);
        host::give_address(&self.links, &self.config, former.as_ref(), &ranges.node)?;
        self.note(&ranges)?;
        let elsewhere = self.pods.set_range(ranges.node);
        if elsewhere > 0 {
            tracing::warn!(
                pods = elsewhere,
                range = %ranges.node,
                "this node's pod range is another than it was: other nodes do not reach the pods that have an address \
                 from the former one; delete them, so that they are made anew"
            );
        }
        *current = Some(ranges);
        Ok(())
    }

    /// What the cluster decided last, if it has.
    pub fn ranges(&self) -> Option<Ranges> {
        *self.ranges.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes again what is missing of the table.
    pub fn ensure_table(&self) -> Result<()> {
        let cluster_cidr = self.ranges().map_or(self.config.cluster_cidr, |ranges| ranges.cluster);
        dataplane::ensure(&self.nftables, &Config { cluster_cidr, ..self.config.clone() })?;
        self.pods.reconcile()
    }

    fn note(&self, ranges: &Ranges) -> Result<()> {
        let path = self.config.records_dir().join(RECORD);
        let write = || {
            let new = path.with_extension("new");
            fs::write(&new, serde_json::to_vec(ranges)?)?;
            fs::rename(&new, &path)
        };
        write().map_err(|source| NetworkError::Record { path: path.clone(), source })
    }
}

fn read_record(path: &PathBuf) -> Result<Option<Ranges>> {
    let record = |source| NetworkError::Record { path: path.clone(), source };
    match fs::read(path) {
        Ok(content) => serde_json::from_slice(&content).map(Some).map_err(|error| record(error.into())),
        Err(source) if source.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(record(source)),
    }
}
