//! A container as the runtime knows it.

use knarr_cri::v1::{ContainerConfig, ContainerState};
use tokio::sync::watch;

use crate::{records::ContainerMeta, shim::spec::Exit};

/// The shim's spec within a container's directory; the image store reads there which layers are in use.
pub const SPEC_FILE: &str = "spec.json";
/// How the container ended, written by the shim.
pub const EXIT_FILE: &str = "exit.json";

#[derive(Debug)]
pub struct Container {
    pub config: ContainerConfig,
    pub meta: ContainerMeta,
    /// How it ended, once it has; whoever waits for that watches.
    pub exit: watch::Sender<Option<Exit>>,
}

impl Container {
    pub fn new(config: ContainerConfig, meta: ContainerMeta, exit: Option<Exit>) -> Self {
        Self { config, meta, exit: watch::Sender::new(exit) }
    }

    pub fn state(&self) -> ContainerState {
        match (self.exit.borrow().is_some(), self.meta.started_at_ns) {
            (true, _) => ContainerState::ContainerExited,
            (false, 0) => ContainerState::ContainerCreated,
            (false, _) => ContainerState::ContainerRunning,
        }
    }
}

/// The end of a container that no one saw: what kubelets know from other runtimes.
pub fn unseen_exit() -> Exit {
    Exit { code: 255, finished_at_ns: crate::runtime::now_ns(), oom: false, start_error: None }
}
