//! What whole-cluster tests share: a network of their own, images, a cluster, and real clients.
//!
//! The tests run in a network namespace of their own (`host`), joined by a veth pair to a second one that plays
//! the world outside the cluster (`outside`). Nothing of them is seen from the machine's own network.

#![allow(clippy::disallowed_methods)] // tests run real programs and wait for them

pub mod clients;
pub mod cluster;
pub mod command;
pub mod containerd;
pub mod debian;
pub mod driver;
pub mod host;
pub mod image;
pub mod load;
pub mod local;
pub mod plugin;
pub mod traces;
mod vendor;
pub mod wait;

pub use clients::Clients;
pub use cluster::Cluster;
pub use containerd::Containerd;
pub use driver::Driver;
pub use load::Load;
pub use local::Local;
pub use plugin::Plugin;
pub use wait::{eventually, eventually_within};
