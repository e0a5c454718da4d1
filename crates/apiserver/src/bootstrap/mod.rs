//! What a cluster holds from its first second: the system namespaces, the default roles and bindings, priority
//! classes, flow control, and the `kubernetes` Service. It is brought back at every start, unless an object's
//! annotation says that a user has taken it over; what is there already costs one look into the cache.

mod bindings;
mod cluster_roles;
mod controller_roles;
pub(crate) mod flow_control;
mod objects;
mod policy;
mod reconcile;
mod user_roles;

#[cfg(test)]
mod tests;

pub use policy::node_rules;
pub use reconcile::{Report, bootstrap};

use std::net::IpAddr;

use crate::aggregation::RequestHeaders;

/// What the bootstrap objects depend on.
#[derive(Clone, Debug)]
pub struct BootstrapConfig {
    /// Where pods reach the API server: an address of this machine that is not a loopback one.
    pub advertise_address: IpAddr,
    pub port: u16,
    pub service_cidr: String,
    /// The cluster address of the `kubernetes` Service: the first of the service range.
    pub service_address: IpAddr,
    /// PEM; published for servers that check client certificates on behalf of this one.
    pub client_authority: String,
    /// PEM of those who stand for front proxies, and the headers that these speak in; published for aggregated servers.
    pub front_proxy: Option<(String, RequestHeaders)>,
}
