//! Keeps each container's log within its limits: a file that grew too big is moved aside and the runtime is told
//! to begin a new one; of those moved aside only so many are kept.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use knarr_client::Clock;
use knarr_cri::{
    RuntimeService,
    v1::{
        ContainerFilter, ContainerState, ContainerStateValue, ContainerStatusRequest, ListContainersRequest,
        ReopenContainerLogRequest,
    },
};

use super::tail;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    pub max_bytes: u64,
    /// The present file included.
    pub max_files: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { max_bytes: 10 * 1024 * 1024, max_files: 5 }
    }
}

const PERIOD: Duration = Duration::from_secs(10);

pub struct Rotator {
    pub runtime: Arc<dyn RuntimeService>,
    pub limits: Limits,
    pub clock: Clock,
}

impl Rotator {
    pub async fn run(self) {
        loop {
            tokio::time::sleep(PERIOD).await;
            if let Err(error) = self.pass().await {
                tracing::warn!(%error, "logs were not rotated; will retry");
            }
        }
    }

    /// Looks at the logs of all running containers once.
    pub async fn pass(&self) -> knarr_cri::Result<()> {
        let state = ContainerStateValue { state: ContainerState::ContainerRunning as i32 };
        let filter = ContainerFilter { state: Some(state), ..ContainerFilter::default() };
        let list = self.runtime.list_containers(ListContainersRequest { filter: Some(filter) }).await?;
        for container in list.containers {
            let request = ContainerStatusRequest { container_id: container.id.clone(), verbose: false };
            let Ok(answer) = self.runtime.container_status(request).await else { continue };
            let path = PathBuf::from(answer.status.unwrap_or_default().log_path);
            let big = tokio::fs::metadata(&path).await.is_ok_and(|found| found.len() >= self.limits.max_bytes);
            if !big {
                continue;
            }
            let (moved, limits) = (aside(&path, self.clock.now()), self.limits);
            let shuffle = {
                let (path, moved) = (path.clone(), moved.clone());
                tokio::task::spawn_blocking(move || make_room(&path, limits).and_then(|()| fs::rename(&path, moved)))
            };
            if let Err(error) = shuffle.await.map_err(io::Error::other).and_then(|done| done) {
                tracing::warn!(path = %path.display(), %error, "a log cannot be moved aside");
                continue;
            }
            let request = ReopenContainerLogRequest { container_id: container.id.clone() };
            if let Err(error) = self.runtime.reopen_container_log(request).await {
                tracing::warn!(path = %path.display(), %error, "the runtime did not begin a new log; the old one is put back");
                let _ = tokio::fs::rename(&moved, &path).await;
            }
        }
        Ok(())
    }
}

/// The name of a file that is moved aside; names sort by time.
fn aside(path: &Path, now: jiff::Timestamp) -> PathBuf {
    let stamp = jiff::fmt::strtime::format("%Y%m%d-%H%M%S", now).unwrap_or_default();
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{stamp}"));
    PathBuf::from(name)
}

/// Removes the oldest files so that, with one more moved aside and a new one begun, the limit holds.
fn make_room(path: &Path, limits: Limits) -> io::Result<()> {
    let files = tail::files(path)?;
    let aside = &files[..files.len() - 1];
    let keep = limits.max_files.saturating_sub(2);
    for old in &aside[..aside.len().saturating_sub(keep)] {
        fs::remove_file(old)?;
    }
    Ok(())
}
