use std::{path::PathBuf, sync::Arc};

use knarr_cri::PodNetwork;

/// Where a runtime keeps what it makes, and what it is made of.
#[derive(Clone)]
pub struct Config {
    /// Images, containers' writable layers and records; survives reboots.
    pub data_dir: PathBuf,
    /// Sockets, network namespaces and shared memory; of no use after a reboot.
    pub run_dir: PathBuf,
    /// The control group all of Knarr's are below, relative to the hierarchy's root, such as `knarr`.
    pub cgroup_root: PathBuf,
    pub limits: Limits,
    pub network: Arc<dyn PodNetwork>,
    /// A directory of containerd's `hosts.toml` files, which say how registries are reached.
    pub registries: Option<PathBuf>,
    /// The program to run as the shim and to show in the built-in image: this one.
    pub exe: PathBuf,
}

/// What all sandboxes together may use, where their caller sorts them into groups; nothing is no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// Shares against the rest of the host, 1024 for a processor; as many as it has where this is nothing.
    pub cpu_shares: u64,
    pub memory_bytes: i64,
    pub pids: i64,
}

impl Config {
    /// A sandbox's directory of sockets and mounts: what its shim works in.
    pub(crate) fn sandbox_run_dir(&self, id: &str) -> PathBuf {
        self.run_dir.join("sandboxes").join(id)
    }

    pub(crate) fn sandbox_dir(&self, id: &str) -> PathBuf {
        self.data_dir.join("sandboxes").join(id)
    }

    pub(crate) fn container_dir(&self, id: &str) -> PathBuf {
        self.data_dir.join("containers").join(id)
    }

    /// A control group below the root, whether the caller counts the root in or not.
    pub(crate) fn cgroup(&self, parent: &str) -> PathBuf {
        let root = self.cgroup_root.strip_prefix("/").unwrap_or(&self.cgroup_root);
        let parent = parent.trim_start_matches('/');
        let parent = std::path::Path::new(parent);
        root.join(parent.strip_prefix(root).unwrap_or(parent))
    }
}
