//! Which processors a container runs on. By the policy `none` that is for the kernel to say. By `static`, a container of a
//! Guaranteed pod that asks for whole processors has so many for itself, and all others share the rest, in which are
//! those kept for the system.
//! (<https://kubernetes.io/docs/tasks/administer-cluster/cpu-management-policies/>)

mod set;
#[cfg(test)]
mod tests;
mod topology;

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    path::{Path, PathBuf},
    str::FromStr,
    sync::{Mutex, MutexGuard, PoisonError},
};

use k8s_openapi::api::core::v1::{Container, Pod};
use knarr_cri::v1::LinuxContainerResources;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

pub use set::CpuSet;
pub use topology::Topology;

use crate::{
    checkpoint,
    pod::qos::{QosClass, class, milli},
};

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CpuPolicy {
    #[default]
    None,
    Static,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown policy: {0:?}; there are none and static")]
pub struct CpuPolicyError(String);

impl FromStr for CpuPolicy {
    type Err = CpuPolicyError;

    fn from_str(text: &str) -> Result<Self, CpuPolicyError> {
        match text {
            "none" => Ok(Self::None),
            "static" => Ok(Self::Static),
            _ => Err(CpuPolicyError(text.to_owned())),
        }
    }
}

/// What an operator says about processors.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CpuOptions {
    pub policy: CpuPolicy,
    /// Those kept for the system. Without a list, as many as are reserved.
    pub reserved: Option<CpuSet>,
}

#[derive(Debug, thiserror::Error)]
pub enum CpusError {
    #[error("{path} cannot be read, which says which pod has which processors; end the node's pods before removing it")]
    Checkpoint { path: PathBuf, source: io::Error },
    #[error(
        "configured policy {configured:?} differs from state checkpoint policy {found:?}: end the node's pods (kubectl \
         drain, and static pods), remove {path} where it is there, and start again"
    )]
    Policy { configured: &'static str, found: &'static str, path: PathBuf },
    #[error("cannot find out what processors this machine has: /sys must be mounted")]
    Topology(#[source] io::Error),
    #[error(
        "the static policy requires systemreserved.cpu + kubereserved.cpu to be greater than zero: say by \
         --kube-reserved cpu=500m, say, or --reserved-cpus 0 what pods do not get for themselves"
    )]
    NothingReserved,
    #[error("the processors {reserved} cannot be reserved: this machine has {all}")]
    Reserved { reserved: String, all: CpuSet },
    #[error(
        "pods have the processors {taken}, of which {wrong} are reserved or not there any more: end the node's pods, \
         remove {path} and start again"
    )]
    Taken { taken: CpuSet, wrong: CpuSet, path: PathBuf },
}

/// Why a pod has no processors of its own, in upstream's words.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum TakeError {
    #[error("not enough cpus available to satisfy request: requested={requested}, available={available}")]
    TooFew { requested: usize, available: usize },
    #[error("could not save state to {path:?}: {why}")]
    Checkpoint { path: PathBuf, why: String },
}

/// The processors of one's own, by the pod's UID and the container's name.
type Assignments = BTreeMap<String, BTreeMap<String, CpuSet>>;

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Checkpoint {
    assignments: Assignments,
}

pub struct Cpus {
    /// Nothing by the policy `none`.
    fixed: Option<Static>,
    changed: watch::Sender<()>,
}

struct Static {
    topology: Topology,
    reserved: BTreeSet<u32>,
    assignments: Mutex<Assignments>,
    /// Where they are written. Whoever has it is alone in changing them.
    turn: tokio::sync::Mutex<PathBuf>,
}

impl Cpus {
    /// The kernel's choice for all.
    pub fn unmanaged() -> Self {
        Self { fixed: None, changed: watch::Sender::default() }
    }

    /// `file` says which pod has which processors; it is there where the policy is `static`. `reserved_milli` is what is
    /// kept from pods, and `has_pods` that there are some from before.
    pub fn open(
        options: &CpuOptions,
        read: impl FnOnce() -> io::Result<Topology>,
        file: &Path,
        reserved_milli: i64,
        has_pods: bool,
    ) -> Result<Self, CpusError> {
        let path = || file.to_owned();
        let known: Option<Checkpoint> =
            checkpoint::read(file).map_err(|source| CpusError::Checkpoint { path: path(), source })?;
        let assignments = match (options.policy, known) {
            (CpuPolicy::None, None) => return Ok(Self::unmanaged()),
            (CpuPolicy::None, Some(_)) => {
                return Err(CpusError::Policy { configured: "none", found: "static", path: path() });
            }
            (CpuPolicy::Static, None) if has_pods => {
                return Err(CpusError::Policy { configured: "static", found: "none", path: path() });
            }
            (CpuPolicy::Static, None) => {
                let none = Checkpoint { assignments: Assignments::new() };
                checkpoint::write(file, &none).map_err(|source| CpusError::Checkpoint { path: path(), source })?;
                none.assignments
            }
            (CpuPolicy::Static, Some(known)) => known.assignments,
        };
        let topology = read().map_err(CpusError::Topology)?;
        let all = topology.all();
        let count = usize::try_from((reserved_milli + 999) / 1000).unwrap_or(0);
        let reserved = match &options.reserved {
            Some(list) if list.0.is_subset(&all) => list.0.clone(),
            Some(list) => return Err(CpusError::Reserved { reserved: list.to_string(), all: CpuSet(all) }),
            None => topology.take(&all, count).unwrap_or_default(),
        };
        if reserved.is_empty() {
            return Err(CpusError::NothingReserved);
        }
        let taken = taken(&assignments);
        let wrong: BTreeSet<u32> = taken.iter().filter(|c| reserved.contains(c) || !all.contains(c)).copied().collect();
        if !wrong.is_empty() {
            return Err(CpusError::Taken { taken: CpuSet(taken), wrong: CpuSet(wrong), path: path() });
        }
        let (assignments, turn) = (Mutex::new(assignments), tokio::sync::Mutex::new(path()));
        Ok(Self { fixed: Some(Static { topology, reserved, assignments, turn }), changed: watch::Sender::default() })
    }

    /// Told when containers have others than before.
    pub fn subscribe(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }

    pub fn are_fixed(&self) -> bool {
        self.fixed.is_some()
    }

    /// Gives the pod's containers processors of their own, where they are to have some.
    pub async fn allocate(&self, pod: &Pod) -> Result<(), TakeError> {
        let Some(fixed) = &self.fixed else { return Ok(()) };
        if fixed.allocate(pod).await? {
            self.changed.send_replace(());
        }
        Ok(())
    }

    /// The pod has ended, or was not taken in.
    pub async fn release(&self, uid: &str) {
        self.keep_only(|other| other != uid).await;
    }

    /// Takes back what pods have that are not there any more.
    pub async fn keep_only(&self, keeps: impl Fn(&str) -> bool) {
        let Some(fixed) = &self.fixed else { return };
        if fixed.keep_only(keeps).await {
            self.changed.send_replace(());
        }
    }

    /// On which processors a container runs, where that is not for the kernel to say.
    pub fn of(&self, uid: &str, container: &str) -> Option<String> {
        let fixed = self.fixed.as_ref()?;
        let assignments = fixed.assignments();
        let own = assignments.get(uid).and_then(|containers| containers.get(container));
        Some(own.map_or_else(|| CpuSet(&fixed.topology.all() - &taken(&assignments)).to_string(), CpuSet::to_string))
    }

    /// Writes down on which processors a container runs. One with some for itself has all of their time.
    pub fn confine(&self, uid: &str, container: &str, resources: &mut LinuxContainerResources) {
        let Some(fixed) = &self.fixed else { return };
        resources.cpuset_cpus = self.of(uid, container).unwrap_or_default();
        if fixed.assignments().get(uid).is_some_and(|containers| containers.contains_key(container)) {
            resources.cpu_quota = -1;
        }
    }

    pub fn has_own(&self, uid: &str) -> bool {
        self.fixed.as_ref().is_some_and(|fixed| fixed.assignments().contains_key(uid))
    }
}

impl Static {
    fn assignments(&self) -> MutexGuard<'_, Assignments> {
        self.assignments.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// True where the pod has some that it had not.
    async fn allocate(&self, pod: &Pod) -> Result<bool, TakeError> {
        let Some(spec) = &pod.spec else { return Ok(false) };
        let uid = pod.metadata.uid.as_deref().unwrap_or_default();
        let init = spec.init_containers.iter().flatten().map(|container| (container, true));
        let all = init.chain(spec.containers.iter().map(|container| (container, false)));
        let wanted = all.map(|(container, is_init)| (container, is_init, whole(pod, container)));
        let wanted: Vec<_> = wanted.filter(|(_, _, count)| *count > 0).collect();
        if wanted.is_empty() {
            return Ok(false);
        }
        let turn = self.turn.lock().await;
        let before = self.assignments().clone();
        let mut after = before.clone();
        // What init containers had is free again when they have ended.
        let mut reusable = BTreeSet::new();
        for (container, is_init, count) in wanted {
            let known = after.get(uid).and_then(|containers| containers.get(&container.name)).cloned();
            let own = match known {
                Some(own) => own.0,
                None => {
                    let assignable = &self.topology.all() - &self.reserved;
                    let free = &(&assignable - &taken(&after)) | &reusable;
                    let too_few = TakeError::TooFew { requested: count, available: free.len() };
                    self.topology.take(&free, count).ok_or(too_few)?
                }
            };
            let ends = is_init && container.restart_policy.as_deref() != Some("Always");
            reusable = if ends { &reusable | &own } else { &reusable - &own };
            after.entry(uid.to_owned()).or_default().insert(container.name.clone(), CpuSet(own));
        }
        if after == before {
            return Ok(false);
        }
        write(&turn, after.clone()).await?;
        *self.assignments() = after;
        Ok(true)
    }

    async fn keep_only(&self, keeps: impl Fn(&str) -> bool) -> bool {
        if self.assignments().keys().all(|uid| keeps(uid)) {
            return false;
        }
        let turn = self.turn.lock().await;
        let after = {
            let mut assignments = self.assignments();
            assignments.retain(|uid, _| keeps(uid));
            assignments.clone()
        };
        if let Err(error) = write(&turn, after).await {
            // It is taken back again when the agent is started the next time.
            tracing::warn!(%error, "that processors are free again cannot be written down");
        }
        true
    }
}

fn taken(assignments: &Assignments) -> BTreeSet<u32> {
    assignments.values().flat_map(BTreeMap::values).flat_map(|own| own.0.iter().copied()).collect()
}

/// How many processors a container is to have for itself.
fn whole(pod: &Pod, container: &Container) -> usize {
    let of_pod = pod.spec.as_ref().and_then(|spec| spec.resources.as_ref());
    let has_own = of_pod.is_none_or(|resources| resources.requests.is_none() && resources.limits.is_none());
    let resources = container.resources.as_ref();
    let asked = resources.and_then(|resources| resources.requests.as_ref().or(resources.limits.as_ref()));
    match milli(asked, "cpu") {
        amount if amount % 1000 == 0 && has_own && class(pod) == QosClass::Guaranteed => {
            usize::try_from(amount / 1000).unwrap_or(0)
        }
        _ => 0,
    }
}

async fn write(path: &Path, assignments: Assignments) -> Result<(), TakeError> {
    let file = path.to_owned();
    let written = tokio::task::spawn_blocking(move || checkpoint::write(&file, &Checkpoint { assignments })).await;
    let failed = |error: io::Error| TakeError::Checkpoint { path: path.to_owned(), why: error.to_string() };
    written.map_err(io::Error::other).and_then(|written| written).map_err(failed)
}
