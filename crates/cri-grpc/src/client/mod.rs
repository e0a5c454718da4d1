//! Another's runtime behind the traits that the node knows.

mod connection;
mod events;
mod groups;
mod service;
mod streams;

use std::{path::PathBuf, sync::Arc};

use knarr_cri::{
    CriError, Result, RuntimeService,
    v1::VersionRequest,
    v1::{ContainerEventResponse, ListPodSandboxRequest, RemovePodSandboxRequest, StopPodSandboxRequest},
};
use tokio::sync::broadcast;

use connection::Connection;
use groups::Groups;

/// Events that a slow receiver may fall behind before it has to list anew.
const EVENTS_KEPT: usize = 1024;

/// Where a runtime is, by its socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    socket: PathBuf,
}

#[derive(Debug, thiserror::Error)]
#[error("{0:?} is no container runtime: name its socket, as unix:///run/containerd/containerd.sock")]
pub struct EndpointError(String);

impl std::str::FromStr for Endpoint {
    type Err = EndpointError;

    /// `unix:///PATH`.
    fn from_str(text: &str) -> std::result::Result<Self, EndpointError> {
        let socket = text.strip_prefix("unix://").filter(|path| path.starts_with('/') && path.len() > 1);
        socket.map(|socket| Self { socket: socket.into() }).ok_or_else(|| EndpointError(text.to_owned()))
    }
}

impl std::fmt::Display for Endpoint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "unix://{}", self.socket.display())
    }
}

/// A runtime that others run. Whatever happens to it, its pods go on, and so does this: calls fail while it is away,
/// and find it again when it is back.
pub struct Remote {
    connection: Connection,
    groups: Groups,
    events: broadcast::Sender<ContainerEventResponse>,
}

impl Remote {
    /// Finds the runtime and checks that it speaks the same CRI. Its pods' control groups will be below `cgroup_root`.
    pub async fn open(endpoint: &Endpoint, cgroup_root: PathBuf) -> Result<Arc<Self>> {
        let remote = Arc::new(Self {
            connection: Connection::new(endpoint.socket.clone()),
            groups: Groups::open(cgroup_root)?,
            events: broadcast::Sender::new(EVENTS_KEPT),
        });
        let version = remote.version(VersionRequest::default()).await.map_err(|error| CriError::Unavailable {
            message: format!("validate CRI v1 runtime API for endpoint \"{endpoint}\": {error}"),
        })?;
        tracing::info!(%endpoint, name = version.runtime_name, version = version.runtime_version, "found a runtime");
        tokio::spawn(events::follow(Arc::downgrade(&remote)));
        Ok(remote)
    }

    /// Ends the pods that this data directory has there, and removes what was made for them.
    pub async fn clear(&self) -> Result<()> {
        for sandbox in self.list_pod_sandbox(ListPodSandboxRequest::default()).await?.items {
            if self.groups.is_ours(&sandbox) {
                let pod_sandbox_id = sandbox.id;
                self.stop_pod_sandbox(StopPodSandboxRequest { pod_sandbox_id: pod_sandbox_id.clone() }).await?;
                self.remove_pod_sandbox(RemovePodSandboxRequest { pod_sandbox_id }).await?;
            }
        }
        self.groups.clear()
    }
}
