use std::{net::IpAddr, path::PathBuf};

use async_trait::async_trait;

use crate::Result;

/// One pod's network attachment, in CNI terms: the sandbox, its network namespace, and who it is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NetworkRequest {
    pub sandbox_id: String,
    pub namespace: String,
    pub name: String,
    pub uid: String,
    /// A file that holds the network namespace open (a bind mount of `/proc/PID/ns/net`).
    pub netns: PathBuf,
    pub port_mappings: Vec<PortMapping>,
}

/// A container port published on the host (`hostPort`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortMapping {
    /// `TCP`, `UDP` or `SCTP`.
    pub protocol: &'static str,
    pub container_port: u16,
    pub host_port: u16,
    pub host_ip: Option<IpAddr>,
}

/// What an attachment yields.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NetworkAddress {
    /// The pod's addresses, the primary one first.
    pub ips: Vec<IpAddr>,
}

/// Attaches sandboxes to the pod network. Each call is idempotent: an `add` that was cut short is repeated
/// with the same answer, a `del` of what is not there succeeds.
#[async_trait]
pub trait PodNetwork: Send + Sync + 'static {
    async fn add(&self, request: &NetworkRequest) -> Result<NetworkAddress>;
    async fn del(&self, request: &NetworkRequest) -> Result<()>;
    /// Says why the network is not ready, if it is not (the node's `NetworkReady` condition).
    async fn status(&self) -> Result<()>;
}
