//! Devices that plugins offer: how many the node has of each, and which container has which. A plugin registers at a
//! socket ([`registry`]) and says from then on what devices there are; pods get theirs when they are taken in
//! ([`allocate`]), and keep them until they have ended, whatever happens to agent and plugin meanwhile ([`ledger`]).
//! (<https://kubernetes.io/docs/concepts/extend-kubernetes/compute-storage-net/device-plugins/>)

mod allocate;
mod choose;
mod ledger;
mod plugin;
pub(crate) mod protocol;
mod registry;
#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    os::fd::{AsRawFd, OwnedFd},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use k8s_openapi::api::core::v1::{Pod, ResourceHealth, ResourceStatus};
use knarr_grpc::socket::SocketError;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

pub use allocate::{AllocateError, Given};
use choose::Ids;
use ledger::Ledger;
use plugin::Plugin;
use protocol::{Device, HEALTHY};

use crate::checkpoint;

/// How long the devices of a plugin that is gone are told of, none of them healthy.
const GRACE: Duration = Duration::from_secs(300);
const SOCKET_PATH_BYTES: usize = 107;
/// Where every plugin looks for the node.
const UPSTREAMS_DIR: &str = "/var/lib/kubelet/device-plugins";

#[derive(Debug, thiserror::Error)]
pub enum DevicesError {
    #[error("cannot use {path} for device plugins")]
    Folder { path: PathBuf, source: io::Error },
    #[error("device plugins cannot register here: name another folder by --device-plugin-dir")]
    Socket(#[from] SocketError),
    #[error("{path} cannot be read, which says which pod has which devices; end the node's pods before removing it")]
    Checkpoint { path: PathBuf, source: io::Error },
}

pub struct Devices {
    dir: PathBuf,
    /// Sockets are reached through it where their paths would be too long.
    folder: OwnedFd,
    state: Mutex<State>,
    /// Where the ledger is written. Whoever has it is alone in giving devices away and taking them back.
    turn: tokio::sync::Mutex<PathBuf>,
    changed: watch::Sender<()>,
    stop: CancellationToken,
}

#[derive(Default)]
struct State {
    resources: BTreeMap<String, Resource>,
    /// Resources that are no more: the API still has to hear that there are none.
    forgotten: BTreeSet<String>,
    ledger: Ledger,
}

/// What is known of one resource.
#[derive(Default)]
struct Resource {
    /// Grows with each registration: who speaks for an earlier one is not listened to.
    epoch: u64,
    /// The last one that said what there is.
    plugin: Option<Arc<Plugin>>,
    is_connected: bool,
    /// By ID, whether they are healthy.
    devices: BTreeMap<String, bool>,
}

impl Resource {
    fn healthy(&self) -> Ids {
        self.devices.iter().filter(|(_, healthy)| **healthy).map(|(id, _)| id.clone()).collect()
    }
}

/// How many there are of a resource, and how many pods may have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Count {
    pub all: usize,
    pub healthy: usize,
}

impl Devices {
    /// `dir` is where plugins register; `file` says which pod has which devices.
    pub fn open(dir: &Path, file: &Path, stop: CancellationToken) -> Result<Arc<Self>, DevicesError> {
        let failed = |source| DevicesError::Folder { path: dir.to_owned(), source };
        std::fs::create_dir_all(dir).map_err(failed)?;
        let folder = std::fs::File::open(dir).map_err(failed)?;
        let ledger = checkpoint::read::<Ledger>(file);
        let ledger = ledger.map_err(|source| DevicesError::Checkpoint { path: file.to_owned(), source })?;
        let ledger = ledger.unwrap_or_default();
        let resources = ledger.resources.iter().map(|name| (name.clone(), Resource::default())).collect();
        let devices = Arc::new(Self {
            dir: dir.to_owned(),
            folder: folder.into(),
            state: Mutex::new(State { resources, forgotten: BTreeSet::new(), ledger }),
            turn: tokio::sync::Mutex::new(file.to_owned()),
            changed: watch::Sender::default(),
            stop,
        });
        for resource in devices.resources() {
            let later = devices.clone();
            devices.spawn(async move {
                tokio::time::sleep(GRACE).await;
                later.forget(resource, 0).await;
            });
        }
        Ok(devices)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let stop = self.stop.clone();
        tokio::spawn(async move {
            tokio::select! {
                () = task => {}
                () = stop.cancelled() => {}
            }
        });
    }

    /// Told when there are other devices than before, or others are healthy.
    pub fn subscribe(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }

    pub fn counts(&self) -> BTreeMap<String, Count> {
        let state = self.state();
        let none = state.forgotten.iter().map(|name| (name.clone(), Count::default()));
        let known = state.resources.iter().map(|(name, resource)| {
            (name.clone(), Count { all: resource.devices.len(), healthy: resource.healthy().len() })
        });
        none.chain(known).collect()
    }

    /// The resources whose devices are given to pods one by one, and not only counted.
    pub fn resources(&self) -> BTreeSet<String> {
        self.state().resources.keys().cloned().collect()
    }

    /// The pods that have devices.
    pub fn holders(&self) -> Vec<String> {
        self.state().ledger.holders()
    }

    /// How the devices of a container are.
    pub fn health(&self, uid: &str, container: &str) -> Option<Vec<ResourceStatus>> {
        let state = self.state();
        let grants = state.ledger.of(uid, container)?;
        let told = grants.iter().map(|(name, grant)| {
            let resource = state.resources.get(name);
            let connected = resource.filter(|resource| resource.is_connected);
            let health = |id: &String| match connected.and_then(|resource| resource.devices.get(id)) {
                Some(true) => "Healthy",
                Some(false) => "Unhealthy",
                None => "Unknown",
            };
            let each = grant.devices.iter().map(|id| ResourceHealth {
                resource_id: id.clone(),
                health: Some(health(id).to_owned()),
                message: None,
            });
            ResourceStatus { name: name.clone(), resources: Some(each.collect()) }
        });
        Some(told.collect())
    }

    /// A pod that mounts the folder where plugins look for the node gets this node's: several nodes may be one machine.
    pub fn lead(&self, pod: Arc<Pod>) -> Arc<Pod> {
        // Component by component, so that nothing is added to the folder's own path.
        let led = |path: &str| {
            Path::new(path)
                .strip_prefix(UPSTREAMS_DIR)
                .ok()
                .map(|rest| self.dir.iter().chain(rest).collect::<PathBuf>())
        };
        let volumes = pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten());
        let mut paths = volumes.filter_map(|volume| volume.host_path.as_ref()).map(|source| &source.path);
        if !paths.any(|path| led(path).is_some()) {
            return pod;
        }
        let mut pod = Pod::clone(&pod);
        let volumes = pod.spec.iter_mut().flat_map(|spec| spec.volumes.iter_mut().flatten());
        for source in volumes.filter_map(|volume| volume.host_path.as_mut()) {
            if let Some(path) = led(&source.path) {
                source.path = path.to_string_lossy().into_owned();
            }
        }
        Arc::new(pod)
    }

    /// A way to a socket in the folder that is short enough for the kernel.
    fn socket(&self, name: &str) -> PathBuf {
        let path = self.dir.join(name);
        let is_short = path.as_os_str().len() <= SOCKET_PATH_BYTES;
        if is_short { path } else { format!("/proc/self/fd/{}/{name}", self.folder.as_raw_fd()).into() }
    }

    /// What a plugin says that there is; false where another has taken its place.
    fn list(&self, resource: &str, epoch: u64, plugin: &Arc<Plugin>, devices: &[Device]) -> bool {
        {
            let mut state = self.state();
            let Some(known) = state.resources.get_mut(resource).filter(|known| known.epoch == epoch) else {
                return false;
            };
            (known.plugin, known.is_connected) = (Some(plugin.clone()), true);
            known.devices = devices.iter().map(|device| (device.id.clone(), device.health == HEALTHY)).collect();
        }
        self.changed.send_replace(());
        true
    }

    /// A plugin is gone: its devices are there, but nobody gets them. False where another has taken its place.
    fn lose(&self, resource: &str, epoch: u64) -> bool {
        {
            let mut state = self.state();
            let Some(known) = state.resources.get_mut(resource).filter(|known| known.epoch == epoch) else {
                return false;
            };
            known.is_connected = false;
            known.devices.values_mut().for_each(|healthy| *healthy = false);
        }
        self.changed.send_replace(());
        true
    }

    /// There are no such devices any more, unless somebody has registered them again.
    async fn forget(&self, resource: String, epoch: u64) {
        {
            let mut state = self.state();
            if state.resources.get(&resource).is_none_or(|known| known.epoch != epoch) {
                return;
            }
            state.resources.remove(&resource);
            state.ledger.resources.remove(&resource);
            state.forgotten.insert(resource.clone());
        }
        tracing::info!(resource, "a device plugin has not come back; there are no such devices any more");
        self.changed.send_replace(());
        if let Err(error) = self.save(&self.turn.lock().await).await {
            tracing::warn!(%error, "which devices there are cannot be written down");
        }
    }
}
