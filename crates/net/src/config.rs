use std::{
    net::{IpAddr, Ipv4Addr},
    path::PathBuf,
};

use crate::Ipv4Cidr;

/// What the network of one node is told.
#[derive(Clone, Debug)]
pub struct Config {
    /// The node's data directory; the network keeps its records in `net/` below it.
    pub data_dir: PathBuf,
    pub node_name: String,
    pub node_ip: IpAddr,
    /// The range of all nodes' pods, until the cluster says which one it has: what is within needs no masquerade.
    pub cluster_cidr: Ipv4Cidr,
    /// False where the cluster has yet to say which range it has.
    pub is_range_known: bool,
    pub service_cidr: Ipv4Cidr,
    /// The address pods find as their `nameserver`.
    pub cluster_dns: Ipv4Addr,
    /// The suffix of all names in the cluster, without a trailing dot.
    pub cluster_domain: String,
    /// Where the name servers for all other names are read from.
    pub resolv_conf: PathBuf,
    pub overlay: Overlay,
}

/// How packets get to the pods of other nodes. The nodes of a cluster have to agree.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Overlay {
    /// By plain routes to nodes on a link of ours, by VXLAN to others.
    #[default]
    Auto,
    /// By plain routes to nodes on a link of ours. To others it is the network's business: its routers know where each
    /// node's range is.
    Routes,
    /// By VXLAN to all: for networks that carry packets of known machines only.
    Vxlan,
}

impl std::str::FromStr for Overlay {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "auto" => Ok(Self::Auto),
            "routes" => Ok(Self::Routes),
            "vxlan" => Ok(Self::Vxlan),
            _ => Err("an overlay is one of auto, routes and vxlan"),
        }
    }
}

impl Config {
    /// The usual ranges.
    pub fn new(data_dir: impl Into<PathBuf>, node_name: impl Into<String>, node_ip: IpAddr) -> Self {
        let cidr = |a, b, prefix| Ipv4Cidr::new(Ipv4Addr::new(a, b, 0, 0), prefix).expect("a constant prefix");
        Self {
            data_dir: data_dir.into(),
            node_name: node_name.into(),
            node_ip,
            cluster_cidr: cidr(10, 244, 16),
            is_range_known: true,
            service_cidr: cidr(10, 96, 16),
            cluster_dns: Ipv4Addr::new(10, 96, 0, 10),
            cluster_domain: "cluster.local".into(),
            resolv_conf: "/etc/resolv.conf".into(),
            overlay: Overlay::Auto,
        }
    }

    /// The address by which the pods of a cluster's first node reach it.
    pub fn gateway(&self) -> Ipv4Addr {
        gateway(&self.cluster_cidr)
    }

    pub(crate) fn records_dir(&self) -> PathBuf {
        self.data_dir.join("net")
    }
}

/// The address by which pods reach their node, and the node its pods: the first one in the node's range.
pub fn gateway(range: &Ipv4Cidr) -> Ipv4Addr {
    range.nth(1).unwrap_or(range.first())
}
