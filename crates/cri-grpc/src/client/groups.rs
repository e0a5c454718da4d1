//! Control groups of pods. A runtime makes those of containers, in a parent that it is named; the parent and its
//! limits are the kubelet's business.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    time::Duration,
};

use knarr_cri::{
    CriError, Result,
    v1::{LinuxContainerResources, PodSandbox, PodSandboxConfig},
};
use knarr_os::cgroup::{Cgroups, Resources};

/// On a sandbox: its control group, so that it is found again by whoever removes the sandbox.
const GROUP: &str = "knarr.dev/cgroup";
/// Killed processes take a moment to leave.
const GONE_WITHIN: Duration = Duration::from_secs(10);
const PAUSE: Duration = Duration::from_millis(20);

pub struct Groups {
    cgroups: Cgroups,
    /// What all pods' are below, relative to the hierarchy's root.
    root: PathBuf,
}

impl Groups {
    pub fn open(root: PathBuf) -> Result<Self> {
        let cgroups = Cgroups::detect().map_err(|error| CriError::internal("no control groups", error))?;
        Ok(Self { cgroups, root })
    }

    /// Makes the pod's group, and names it to the runtime.
    pub fn prepare(&self, config: &mut PodSandboxConfig) -> Result<()> {
        let group = self.name(config);
        let asked = config.linux.as_ref().and_then(|linux| linux.resources.as_ref());
        let limits = asked.map(resources).unwrap_or_default();
        let warnings = self.cgroups.create(&group, &limits);
        let warnings = warnings.map_err(|error| CriError::internal("cannot make the pod's control group", error))?;
        for warning in warnings {
            tracing::warn!(group = %group.display(), warning = warning.line(), "a limit is not in force");
        }
        Ok(())
    }

    /// Names the pod's group to the runtime, and to whoever removes the sandbox.
    pub fn name(&self, config: &mut PodSandboxConfig) -> PathBuf {
        let linux = config.linux.get_or_insert_default();
        let group = self.root.join(linux.cgroup_parent.trim_start_matches('/'));
        linux.cgroup_parent = format!("/{}", group.display());
        config.annotations.insert(GROUP.to_owned(), group.display().to_string());
        group
    }

    /// Changes what a whole pod may use.
    pub fn resize(&self, annotations: &BTreeMap<String, String>, to: &LinuxContainerResources) -> Result<()> {
        let Some(group) = annotations.get(GROUP) else {
            let message = "the sandbox's control group is not known: it was not made by this node".to_owned();
            return Err(CriError::FailedPrecondition { message });
        };
        match self.cgroups.update(Path::new(group), &resources(to)).into_iter().next() {
            Some(refused) => Err(CriError::internal("the pod's control group refuses its limits", refused)),
            None => Ok(()),
        }
    }

    /// Removes the group of a sandbox that is gone, unless another of the sandboxes that were there has the same: a pod
    /// keeps its group when its sandbox is replaced.
    pub async fn release(&self, id: &str, sandboxes: &[PodSandbox]) -> Result<()> {
        let group = |sandbox: &PodSandbox| sandbox.annotations.get(GROUP).cloned();
        let Some(own) = sandboxes.iter().find(|sandbox| sandbox.id == id).and_then(group) else { return Ok(()) };
        if sandboxes.iter().any(|other| other.id != id && group(other).as_ref() == Some(&own)) {
            return Ok(());
        }
        let deadline = tokio::time::Instant::now() + GONE_WITHIN;
        loop {
            match self.cgroups.remove(Path::new(&own)) {
                Ok(()) => return Ok(()),
                Err(error) if tokio::time::Instant::now() > deadline => {
                    return Err(CriError::internal("the pod's control group cannot be removed", error));
                }
                Err(_) => tokio::time::sleep(PAUSE).await,
            }
        }
    }

    pub fn is_ours(&self, sandbox: &PodSandbox) -> bool {
        sandbox.annotations.get(GROUP).is_some_and(|group| Path::new(group).starts_with(&self.root))
    }

    /// Removes all groups; their pods are gone.
    pub fn clear(&self) -> Result<()> {
        let removed = self.cgroups.remove_root(&self.root);
        removed.map_err(|error| CriError::internal("the pods' control groups cannot be removed", error))
    }
}

fn resources(from: &LinuxContainerResources) -> Resources {
    let positive = |value: i64| u64::try_from(value).unwrap_or(0);
    Resources {
        cpu_shares: positive(from.cpu_shares),
        cpu_quota_us: from.cpu_quota,
        cpu_period_us: positive(from.cpu_period),
        memory_limit_bytes: from.memory_limit_in_bytes,
        pids_limit: from.unified.get("pids.max").and_then(|most| most.parse().ok()).unwrap_or(0),
        ..Resources::default()
    }
}
