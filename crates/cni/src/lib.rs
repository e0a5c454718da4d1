//! The pod network by CNI plugins: programs that an operator installed, called as the specification says, for those who
//! give a directory of network configurations. The only place where a node runs other programs.
//!
//! Source: <https://github.com/containernetworking/cni/blob/main/SPEC.md> (1.0 and 1.1), and libcni's and containerd's
//! choices where it leaves some.

mod attachment;
mod cache;
mod config;
mod network;
mod plugin;

use std::path::PathBuf;

pub use network::{CniNetwork, detach, reset};

/// Where plugins and what they are told are.
#[derive(Clone, Debug)]
pub struct Config {
    /// Network configurations; the first by name is the pods' network.
    pub conf_dir: PathBuf,
    /// The plugins.
    pub bin_dir: PathBuf,
    /// What was made is noted here, for its undoing.
    pub cache_dir: PathBuf,
}
