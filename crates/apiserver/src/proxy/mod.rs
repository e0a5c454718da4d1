//! Requests that somebody else answers: the node of a pod (logs, exec, attach, port-forward), a pod or a service
//! behind `proxy`. The API server authorises them and then carries bytes; it does not look inside.

mod dial;
mod forward;
mod service;
mod target;

#[cfg(test)]
mod tests;

pub use dial::{DialError, Dialer, dial_plain, dial_tls};
pub use forward::{Forward, forward};
pub use service::service_endpoint;
pub use target::{NodeAddress, node_address, split_name};
