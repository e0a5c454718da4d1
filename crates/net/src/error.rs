use std::{io, net::Ipv4Addr, path::PathBuf};

use knarr_os::net::NetError as KernelError;

use crate::Ipv4Cidr;

pub type Result<T> = std::result::Result<T, NetworkError>;

/// Why the node's network, or a pod's attachment to it, could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum NetworkError {
    #[error("{action} failed")]
    Kernel {
        action: &'static str,
        #[source]
        source: KernelError,
    },
    #[error("cannot keep the network's record {path}; check the disk and the rights of the data directory")]
    Record {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("the {what} range {range} is in use on this host: link {link} leads to {found}; choose another range")]
    RangeTaken { what: &'static str, range: Ipv4Cidr, link: String, found: Ipv4Cidr },
    #[error(
        "the pod network of this host belongs to the cluster in {owner}, and a host has one; use that cluster, or end \
         it with `knarr reset --data-dir {owner}`"
    )]
    HostTaken { owner: String },
    /// In containerd's words, which people search for.
    #[error("cni plugin not initialized")]
    NoRange,
    #[error("no pod address is left in {range}: all are in use; delete pods, or give the node a larger range")]
    NoAddressLeft { range: Ipv4Cidr },
    #[error("the host port {port} is taken by another pod")]
    HostPortTaken { port: u16 },
    #[error("cannot serve DNS on {address}:53; another program may use the port on all addresses")]
    DnsAddress {
        address: Ipv4Addr,
        #[source]
        source: io::Error,
    },
    #[error("the network's worker ended before it answered")]
    WorkerGone,
}

/// Says what was tried when the kernel refused.
pub(crate) trait During<T> {
    fn during(self, action: &'static str) -> Result<T>;
}

impl<T> During<T> for knarr_os::net::Result<T> {
    fn during(self, action: &'static str) -> Result<T> {
        self.map_err(|source| NetworkError::Kernel { action, source })
    }
}
