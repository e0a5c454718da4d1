//! The Container Runtime Interface over a Unix socket, both ways: [`client`] drives a containerd or CRI-O by the traits
//! that the node knows, [`server`] lets `crictl` and others drive whatever is behind these traits.

pub mod client;
mod errors;
mod methods;
pub mod server;
