//! Several nodes on one machine. Each is a machine of its own as far as Knarr can tell: process 1 of a PID namespace
//! ([`supervisor`]) over a root, a network and a host name of its own, which starts the same program that a real
//! machine runs. Nothing here knows what that program does.
//!
//! ```text
//! host: knarrbr0 172.30.0.1 --- veth --- eth0 172.30.0.2   bootcamp-server
//!                           \-- veth --- eth0 172.30.0.3   bootcamp-agent-1
//! ```
//!
//! All that a node makes hangs on its process 1: when that is killed, the kernel ends the node's processes, mounts,
//! links and namespaces with it, as a cut of power would. What is left is what was on its disk, and empty control
//! groups. So there is nothing to keep books about: a node runs when its process 1 holds the node's lock.

mod clusters;
mod error;
mod network;
mod node;
mod range;
mod record;
pub mod supervisor;

pub use clusters::{Cluster, Clusters};
pub use error::{LocalError, Result};
pub use node::{Node, State};
pub use range::Range;
pub use record::{ClusterRecord, NodeRecord};
