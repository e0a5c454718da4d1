//! Volumes of CSI drivers: drivers register on the node, and the node has them stage and publish what pods want.
//! (<https://kubernetes-csi.github.io/docs/>)
//!
//! What a driver is asked for is written down first ([`record`]) and forgotten when it is undone, so that the records
//! on the disk say what is to be undone, and what the node says that it uses (`status.volumesInUse`), after a crash too.
//! Drivers do all of it twice without harm.

mod drivers;
mod expand;
mod object;
mod publish;
mod record;
mod release;
#[cfg(test)]
mod tests;
mod usage;
mod volume;
mod wish;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    fmt::Display,
    io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use k8s_openapi::api::{core::v1::Node, storage::v1::CSIDriver};
use knarr_client::{Clock, Informer, Recorder};
use tokio::sync::Notify;

pub use release::reset;
pub use volume::Driven;
pub use wish::Wish;

use self::drivers::Registered;
pub use self::record::Record;

/// The type by which drivers register.
pub const PLUGIN: &str = "CSIPlugin";

/// Where things are.
pub struct Places {
    /// Where drivers expect volumes, `/var/lib/kubelet` by custom.
    pub kubelet_dir: PathBuf,
    /// One folder for each pod, with the records of its volumes.
    pub pod_dir: PathBuf,
    /// The records of volumes that are staged.
    pub staged_dir: PathBuf,
}

pub struct Csi {
    node_name: String,
    places: Places,
    client: kube::Client,
    node: Informer<Node>,
    known: Informer<CSIDriver>,
    recorder: Recorder,
    clock: Clock,
    drivers: Mutex<BTreeMap<String, Registered>>,
    /// One holder at a time for each volume; in it, whether it was staged since this agent started.
    volumes: Mutex<HashMap<String, Arc<tokio::sync::Mutex<bool>>>>,
    /// What the API was told last that this node uses.
    in_use: tokio::sync::Mutex<Option<BTreeSet<String>>>,
    /// Something is left that may be undone now.
    sweep: Notify,
}

/// Why a volume is not there, as the event says it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct CsiError(String);

impl CsiError {
    fn new(operation: &str, volume: &str, cause: impl Display) -> Self {
        Self(format!("{operation} failed for volume {volume:?} : {cause}"))
    }

    /// What is done with devices has names of its own.
    pub fn is_of_a_device(&self) -> bool {
        self.0.starts_with("MapVolume.")
    }
}

impl Csi {
    pub fn new(
        node_name: String,
        places: Places,
        client: kube::Client,
        node: Informer<Node>,
        known: Informer<CSIDriver>,
        recorder: Recorder,
        clock: Clock,
    ) -> Self {
        Self {
            node_name,
            places,
            client,
            node,
            known,
            recorder,
            clock,
            drivers: Mutex::default(),
            volumes: Mutex::default(),
            in_use: tokio::sync::Mutex::default(),
            sweep: Notify::new(),
        }
    }

    /// What only one task at a time may do something with.
    fn volume(&self, driver: &str, handle: &str) -> Arc<tokio::sync::Mutex<bool>> {
        let mut volumes = self.volumes.lock().unwrap_or_else(PoisonError::into_inner);
        // What nobody holds and is not staged need not be remembered.
        let matters = |held: &Arc<tokio::sync::Mutex<bool>>| held.try_lock().map_or(true, |is_staged| *is_staged);
        volumes.retain(|_, held| Arc::strong_count(held) > 1 || matters(held));
        volumes.entry(format!("{driver}^{handle}")).or_default().clone()
    }

    fn pod_dir(&self, uid: &str) -> PathBuf {
        self.places.pod_dir.join(uid)
    }

    /// Where the driver is to put a volume for one pod.
    fn target(&self, uid: &str, wish: &Wish) -> PathBuf {
        if wish.is_device {
            return self.drivers().join("volumeDevices/publish").join(&wish.name).join(uid);
        }
        crate::volume::volume_path(&self.places.kubelet_dir.join("pods").join(uid), "csi", &wish.name).join("mount")
    }

    /// Where the driver is to prepare a volume for all pods of the node.
    fn staging(&self, wish: &Wish) -> PathBuf {
        if wish.is_device {
            return self.drivers().join("volumeDevices/staging").join(&wish.name);
        }
        self.drivers().join(&wish.driver).join(knarr_api::volume::digest(&wish.handle)).join("globalmount")
    }

    fn drivers(&self) -> PathBuf {
        self.places.kubelet_dir.join("plugins/kubernetes.io/csi")
    }

    fn staged_record(&self, driver: &str, handle: &str) -> PathBuf {
        let name = knarr_api::volume::digest(&format!("{driver}^{handle}"));
        self.places.staged_dir.join(format!("{name}.json"))
    }

    /// The records of all pods.
    fn published(&self) -> io::Result<Vec<Record>> {
        let mut all = Vec::new();
        for pod in record::entries(&self.places.pod_dir)? {
            all.extend(record::of_pod(&pod)?.into_iter().map(|(_, record)| record));
        }
        Ok(all)
    }
}

/// Whether a pod's folder has volumes of drivers, which are not to be removed as files.
pub fn has_volumes(pod_dir: &Path) -> bool {
    record::has_any(pod_dir)
}

/// A mount table that cannot be read says of nothing that it is mounted.
fn is_mounted(path: &Path) -> bool {
    path.canonicalize().is_ok_and(|path| knarr_os::mount::is_mounted(&path).unwrap_or(false))
}
