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
    /// The range this node gives its pods addresses from.
    pub pod_cidr: Ipv4Cidr,
    /// The range of all nodes' pods: what is within needs no masquerade.
    pub cluster_cidr: Ipv4Cidr,
    pub service_cidr: Ipv4Cidr,
    /// The address pods find as their `nameserver`.
    pub cluster_dns: Ipv4Addr,
    /// The suffix of all names in the cluster, without a trailing dot.
    pub cluster_domain: String,
    /// Where the name servers for all other names are read from.
    pub resolv_conf: PathBuf,
}

impl Config {
    /// The usual ranges of a cluster of one node.
    pub fn new(data_dir: impl Into<PathBuf>, node_name: impl Into<String>, node_ip: IpAddr) -> Self {
        let cidr = |a, b, prefix| Ipv4Cidr::new(Ipv4Addr::new(a, b, 0, 0), prefix).expect("a constant prefix");
        Self {
            data_dir: data_dir.into(),
            node_name: node_name.into(),
            node_ip,
            pod_cidr: cidr(10, 244, 24),
            cluster_cidr: cidr(10, 244, 16),
            service_cidr: cidr(10, 96, 16),
            cluster_dns: Ipv4Addr::new(10, 96, 0, 10),
            cluster_domain: "cluster.local".into(),
            resolv_conf: "/etc/resolv.conf".into(),
        }
    }

    /// The address by which pods reach their node, and the node its pods: the first of the node's range.
    pub fn gateway(&self) -> Ipv4Addr {
        self.pod_cidr.nth(1).unwrap_or(self.pod_cidr.first())
    }

    pub(crate) fn records_dir(&self) -> PathBuf {
        self.data_dir.join("net")
    }
}
