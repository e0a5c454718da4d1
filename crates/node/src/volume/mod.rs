//! The volumes of one pod: what each holds ([`desired`], pure) and how it comes onto the disk ([`apply`]).
//! Setting up is level-triggered: it runs at every look at the pod and writes only what changed, so that a
//! changed ConfigMap, a new label or a refreshed token arrives the same way as the first content did.

mod apply;
mod atomic;
mod bring;
mod claims;
mod desired;
mod mounts;
mod nfs;
mod subpath;
mod tmpfs;
mod token;
mod trust;
mod usage;

use std::{
    collections::HashMap,
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Pod, PodSpec, Volume};
use tokio::sync::Notify;

pub use bring::{Bring, Coming};
pub use claims::{DEVICE, Here, Place};
pub use desired::{Content, Desired, FileContent};
pub use mounts::{container_devices, container_mounts};
pub use token::{Tokens, request_token};
pub use usage::{Measurable, Usage, measurable};

use self::claims::Found;
use crate::{
    csi::{self, Csi, CsiError},
    pod::{downward::Facts, references::Snapshot},
};

/// Why a pod's volumes are not there; the pod waits, and an event says this.
#[derive(Debug, thiserror::Error)]
pub enum VolumeError {
    #[error("MountVolume.SetUp failed for volume {volume:?} : {cause}")]
    SetUp { volume: String, cause: String },
    #[error("MapVolume.MapPodDevice failed for volume {volume:?} : {cause}")]
    Map { volume: String, cause: String },
    #[error("MountVolume.SetUp failed for volume {volume:?} : {path}: {source}")]
    Disk { volume: String, path: PathBuf, source: io::Error },
    #[error(
        "Unable to attach or mount volumes: unmounted volumes=[{volume}], unattached volumes=[], failed to process \
         volumes=[{volume}]: error processing PVC {claim}: {cause}"
    )]
    Claim { volume: String, claim: String, cause: String },
    #[error(
        "Unable to attach or mount volumes: unmounted volumes=[{volume}], unattached volumes=[], failed to process \
         volumes=[{volume}]: {cause}"
    )]
    Process { volume: String, cause: String },
    #[error(transparent)]
    Driver(#[from] CsiError),
}

impl VolumeError {
    /// The reason of the event.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Map { .. } => "FailedMapVolume",
            Self::Driver(error) if error.is_of_a_device() => "FailedMapVolume",
            _ => "FailedMount",
        }
    }
}

/// Why a pod's folder is still there.
#[derive(Debug, thiserror::Error)]
pub enum TearDownError {
    #[error(transparent)]
    Disk(#[from] io::Error),
    #[error(transparent)]
    Driver(#[from] CsiError),
}

/// What came of setting up a pod's volumes.
#[derive(Debug)]
pub struct SetUp {
    /// Every volume is there, be it with what it held before: containers may be made.
    pub complete: bool,
    /// Why which volumes could not be made or brought up to date.
    pub failures: Vec<VolumeError>,
    /// When a token has to be renewed, or a driver's volume is looked at again.
    pub renew_at: Option<Timestamp>,
}

/// Unmounts the volumes of all pods, which run no more. Their files go with the directory.
pub fn reset(pod_dir: &Path) -> io::Result<()> {
    tmpfs::unmount_below(pod_dir)
}

/// What is on the disk for one pod.
pub struct Volumes {
    /// The pod's own folder.
    dir: PathBuf,
    /// A digest of the content that each volume got last, so that an unchanged one costs no disk access.
    applied: HashMap<String, u64>,
    tokens: Tokens,
    places: claims::Places,
    /// The volumes that somebody has to bring.
    coming: Coming,
    csi: Arc<Csi>,
}

impl Volumes {
    /// `wake` is told when a volume came, or did not.
    pub fn new(dir: PathBuf, csi: Arc<Csi>, wake: Arc<Notify>) -> Self {
        Self {
            dir,
            applied: HashMap::new(),
            tokens: Tokens::default(),
            places: claims::Places::default(),
            coming: Coming::new(wake),
            csi,
        }
    }

    /// Brings every volume to its present content, each for itself: what one lacks is nothing to the others.
    pub async fn set_up(
        &mut self,
        client: &kube::Client,
        pod: &Arc<Pod>,
        facts: Facts<'_>,
        snapshot: &Snapshot,
        here: Here<'_>,
        now: Timestamp,
    ) -> SetUp {
        let mut failures = Vec::new();
        failures.extend(self.tokens.refresh(client, facts.pod, now).await.err());
        failures.extend(self.follow(client, pod, here, now).await.err());
        let asked_in_vain = !failures.is_empty();
        let (undone, look_at) = self.coming.tend(pod, &mut self.places, now);
        failures.extend(undone);
        let mut work = Vec::new();
        let volumes = || facts.pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten());
        let all = desired::all(facts, snapshot, &self.tokens, &self.places, &self.dir);
        for (volume, desired) in volumes().zip(all) {
            match desired {
                Ok(desired) => {
                    let digest = desired.digest();
                    if self.applied.get(&desired.name) != Some(&digest) {
                        work.push((desired, digest));
                    }
                }
                // What could not be had is missing in the volume, of course.
                Err(_) if asked_in_vain && asks_the_api(volume) => {}
                // It is on its way, or was told of already.
                Err(_) if self.coming.knows(&volume.name) => {}
                Err(error) => failures.push(error),
            }
        }
        if !work.is_empty() {
            let group = facts.pod.spec.as_ref().and_then(group_of);
            let done = reach(has_others(pod), move || {
                let one =
                    |(desired, digest): (Desired, u64)| apply::apply(&desired, group).map(|()| (desired.name, digest));
                work.into_iter().map(one).collect::<Vec<_>>()
            });
            match done.await {
                Ok(results) => {
                    for result in results {
                        match result {
                            Ok((name, digest)) => _ = self.applied.insert(name, digest),
                            Err(error) => failures.push(error),
                        }
                    }
                }
                Err(error) => failures.push(VolumeError::SetUp {
                    volume: "*".to_owned(),
                    cause: format!("the task that writes volumes ended early: {error}"),
                }),
            }
        }
        let complete = volumes().all(|volume| self.applied.contains_key(&volume.name));
        SetUp { complete, failures, renew_at: self.tokens.renew_at().into_iter().chain(look_at).min() }
    }

    /// Finds out where volumes are that lie elsewhere, and has drivers begin with theirs.
    async fn follow(
        &mut self,
        client: &kube::Client,
        pod: &Arc<Pod>,
        here: Here<'_>,
        now: Timestamp,
    ) -> Result<(), VolumeError> {
        for volume in pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten()) {
            if self.coming.knows(&volume.name) {
                continue;
            }
            if let Some(wish) = csi::Wish::inline(pod, volume) {
                self.want(&volume.name, Found::Driver(Box::new(wish)), pod, now);
            } else if let Some(source) = &volume.nfs {
                self.want(&volume.name, Found::Share(nfs::Share::inline(&volume.name, source)), pod, now);
            }
        }
        let mut found = Vec::new();
        let wanted = |name: &str| !self.places.contains_key(name) && !self.coming.knows(name);
        let followed = claims::follow(client, pod, here, wanted, &mut found).await;
        for (name, found) in found {
            self.want(&name, found, pod, now);
        }
        followed
    }

    fn want(&mut self, name: &str, found: Found, pod: &Arc<Pod>, now: Timestamp) {
        let brings: Arc<dyn Bring> = match found {
            Found::Place(place) => {
                self.places.insert(name.to_owned(), place);
                return;
            }
            Found::Driver(wish) => Arc::new(csi::Driven::new(self.csi.clone(), *wish)),
            Found::Share(share) => Arc::new(nfs::Mounted::new(share, &self.dir)),
        };
        self.coming.want(name, brings, pod, &mut self.places, now);
    }

    /// Takes all volumes away, mounts first. What lies under a hostPath stays, of course.
    pub async fn tear_down(&mut self) -> Result<(), TearDownError> {
        self.applied.clear();
        self.coming.stop().await;
        let (dir, parts) = (self.dir.clone(), self.dir.clone());
        // Parts of volumes that are mounted by themselves hold the volumes they are of.
        let has_others = ["claim", "csi", "nfs"].iter().any(|plugin| volume_path(&dir, plugin, "").exists());
        reach(has_others, move || subpath::unbind(&parts)).await??;
        self.csi.release(&dir).await?;
        Ok(reach(has_others, move || remove_pod_folder(&dir)).await??)
    }

    pub fn dir(&self) -> &Path {
        &self.dir
    }
}

/// Unmounts what is mounted below a pod's folder, then removes the folder. Never follows a mount: a failed
/// unmount must not empty what is mounted there.
pub fn remove_pod_folder(dir: &Path) -> io::Result<()> {
    tmpfs::unmount_below(dir)?;
    subpath::clear(dir)?;
    match std::fs::remove_dir_all(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

/// Where a volume lies below the pod's folder, named by its plugin as upstream does.
pub(crate) fn volume_path(dir: &Path, plugin: &str, name: &str) -> PathBuf {
    dir.join("volumes").join(format!("kubernetes.io~{plugin}")).join(name)
}

/// The group that the pod's volumes are given to, and whether one that is right at the top is taken to be right below.
fn group_of(spec: &PodSpec) -> Option<apply::Group> {
    let context = spec.security_context.as_ref()?;
    let id = context.fs_group.and_then(|group| u32::try_from(group).ok())?;
    Some(apply::Group { id, only_if_root_differs: context.fs_group_change_policy.as_deref() == Some("OnRootMismatch") })
}

/// The path on the host of a pod's volume, for mounting it into a container; an image has none.
pub fn host_path(pod: &Pod, dir: &Path, name: &str) -> Option<PathBuf> {
    let volume = pod.spec.as_ref()?.volumes.as_ref()?.iter().find(|volume| volume.name == name)?;
    if let Some(source) = &volume.host_path {
        return Some(PathBuf::from(&source.path));
    }
    if volume.image.is_some() {
        return None;
    }
    let path = volume_path(dir, desired::plugin(volume)?, name);
    // The folder of such a volume has no more than a link to where it is.
    if is_elsewhere(volume) { std::fs::read_link(path).ok() } else { Some(path) }
}

/// Nobody in the pod may write to the volume: the pod says so itself, or it is the node that writes it.
pub fn is_read_only(pod: &Pod, name: &str) -> bool {
    let mut volumes = pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten());
    volumes.find(|volume| volume.name == name).is_some_and(|volume| {
        let claim = volume.persistent_volume_claim.as_ref();
        claim.is_some_and(|claim| claim.read_only == Some(true))
            || volume.csi.as_ref().is_some_and(|source| source.read_only == Some(true))
            || volume.nfs.as_ref().is_some_and(|source| source.read_only == Some(true))
            || volume.config_map.is_some()
            || volume.secret.is_some()
            || volume.downward_api.is_some()
            || volume.projected.is_some()
    })
}

/// Its content is asked for when it is set up, beside what is watched.
fn asks_the_api(volume: &Volume) -> bool {
    let mut sources = volume.projected.iter().flat_map(|projected| projected.sources.iter().flatten());
    is_elsewhere(volume) || sources.any(|source| source.service_account_token.is_some())
}

/// Volumes that are not the node's own: a server or a driver may keep those waiting who look into them.
pub fn has_others(pod: &Pod) -> bool {
    let mut volumes = pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten());
    volumes.any(|volume| volume.host_path.is_some() || is_elsewhere(volume))
}

/// Does what reaches into a pod's volumes: one of a few at a time, or on a thread to itself where it has those of others.
pub async fn reach<T: Send + 'static>(has_others: bool, work: impl FnOnce() -> T + Send + 'static) -> io::Result<T> {
    match has_others {
        true => tokio::task::spawn_blocking(work).await.map_err(io::Error::other),
        false => knarr_os::aside(work).await.map_err(io::Error::other),
    }
}

/// It lies where its claim says, or was brought to.
fn is_elsewhere(volume: &Volume) -> bool {
    let is_claim = volume.persistent_volume_claim.is_some() || volume.ephemeral.is_some();
    is_claim || volume.csi.is_some() || volume.nfs.is_some()
}

#[cfg(test)]
mod tests;
