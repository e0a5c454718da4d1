//! The network of one node: the pod network, the Service proxy and the cluster's DNS.
//!
//! Pods hang on routed veth pairs ([`pods`]), those of other nodes are behind routes or tunnels ([`ways`]). Services
//! are elements of nftables maps ([`dataplane`], [`services`]), their load balancers' addresses are answered for by one
//! node each ([`announce`]), names are answered from the same view of the cluster that the proxy works from ([`dns`]).
//! Everything made in the kernel is named `knarr*`; [`reset`] removes exactly that.

mod announce;
mod base;
mod config;
mod dataplane;
mod dns;
mod error;
mod follow;
#[cfg(fuzzing)]
pub mod fuzzing;
mod host;
mod kube_dns;
mod names;
mod network;
mod pods;
mod services;
#[cfg(test)]
mod testbed;
mod ways;

pub use config::{Config, Overlay};
pub use error::{NetworkError, Result};
pub use knarr_api::cidr::{CidrError, Ipv4Cidr};
pub use kube_dns::ensure as ensure_dns_service;
pub use network::{Network, check_host, forwarding_obstacles, reset, silent_uplinks};

/// What a log filter needs so that the DNS libraries do not write a line for each question.
pub const LOG_DIRECTIVES: &str = "hickory_server=warn,hickory_net=error,hickory_resolver=warn";

/// The IP protocol's number of a Kubernetes `protocol`.
fn protocol_number(name: &str) -> Option<u8> {
    match name {
        "TCP" => Some(6),
        "UDP" => Some(17),
        "SCTP" => Some(132),
        _ => None,
    }
}
