//! Local storage: a pod whose containers or volumes take more of the disk than it said they would is evicted, before
//! it takes its neighbours' share. What limits there are is pure; measuring walks folders, on a thread for that, and
//! only for pods that have a limit.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::{
    api::core::v1::{Pod, Volume},
    apimachinery::pkg::api::resource::Quantity,
};
use knarr_cri::v1::ContainerStatsRequest;

use super::{
    containers::{Containers, Role},
    hear::Report,
    qos,
    status::{EVICTED, Verdict},
    wish::Eviction,
    worker::{State, Worker},
};
use crate::disk::Footprint;

/// Between two looks at the disk.
const PERIOD: SignedDuration = SignedDuration::from_secs(10);
const RESOURCE: &str = "ephemeral-storage";

/// A limit as it was written, for the message, and in bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Limit {
    text: String,
    bytes: u64,
}

impl Limit {
    fn of(quantity: &Quantity) -> Self {
        let one = BTreeMap::from([(RESOURCE.to_owned(), quantity.clone())]);
        Self { text: quantity.0.clone(), bytes: u64::try_from(qos::whole(Some(&one), RESOURCE)).unwrap_or(0) }
    }
}

/// What a pod may take of the disk.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Limits {
    /// Of each `emptyDir` on the disk that has a size; one in memory is kept small by the kernel.
    volumes: BTreeMap<String, Limit>,
    /// Of each container: its writable layer and its logs.
    containers: BTreeMap<String, Limit>,
    /// Of all of them and all volumes together.
    pod: Option<Limit>,
}

impl Limits {
    fn of(pod: &Pod, containers: &Containers) -> Self {
        let mut limits = Self::default();
        let Some(spec) = &pod.spec else { return limits };
        for volume in spec.volumes.iter().flatten() {
            let Some(source) = volume.empty_dir.as_ref().filter(|dir| dir.medium.as_deref() != Some("Memory")) else {
                continue;
            };
            if let Some(limit) = source.size_limit.as_ref().map(Limit::of).filter(|limit| limit.bytes > 0) {
                limits.volumes.insert(volume.name.clone(), limit);
            }
        }
        let counted = containers.entries.iter().filter(|entry| matches!(entry.role, Role::App | Role::Sidecar));
        for entry in counted {
            let amounts = entry.spec.resources.as_ref().and_then(|resources| resources.limits.as_ref());
            if let Some(quantity) = amounts.and_then(|amounts| amounts.get(RESOURCE)) {
                limits.containers.insert(entry.name().to_owned(), Limit::of(quantity));
            }
        }
        let bytes: u64 = limits.containers.values().map(|limit| limit.bytes).sum();
        limits.pod = (bytes > 0).then(|| Limit { text: bytes.to_string(), bytes });
        limits
    }

    fn is_empty(&self) -> bool {
        self.volumes.is_empty() && self.containers.is_empty()
    }

    /// The first limit that is passed, in the kubelet's order and words.
    fn passed(&self, usage: &Usage) -> Option<String> {
        for (name, limit) in &self.volumes {
            if usage.volumes.get(name).is_some_and(|used| *used > limit.bytes) {
                return Some(format!("Usage of EmptyDir volume {name:?} exceeds the limit {:?}. ", limit.text));
            }
        }
        if let Some(limit) = self.pod.as_ref().filter(|limit| usage.total() > limit.bytes) {
            let text = &limit.text;
            return Some(format!("Pod ephemeral local storage usage exceeds the total limit of containers {text}. "));
        }
        for (name, limit) in &self.containers {
            if usage.containers.get(name).is_some_and(|used| *used > limit.bytes) {
                return Some(format!("Container {name} exceeded its local ephemeral storage limit {:?}. ", limit.text));
            }
        }
        None
    }
}

/// Bytes on the disk.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Usage {
    volumes: BTreeMap<String, u64>,
    containers: BTreeMap<String, u64>,
}

impl Usage {
    fn total(&self) -> u64 {
        self.volumes.values().chain(self.containers.values()).sum()
    }
}

impl Worker {
    /// Looks at the disk from time to time, in a task of its own; says when to do so next.
    pub(super) fn tend_storage(&mut self, now: Timestamp) -> Option<Timestamp> {
        let limits = Limits::of(&self.pod, &self.containers);
        if limits.is_empty() {
            return None;
        }
        let due = *self.storage_due.get_or_insert(now + PERIOD);
        if due > now {
            return Some(due);
        }
        let next = now + PERIOD;
        self.storage_due = Some(next);
        let volumes = on_disk(&self.pod, self.volumes.dir());
        let runs: Vec<(String, String)> =
            self.observed.running().map(|run| (run.name.clone(), run.id.clone())).collect();
        let (ctx, logs, reports) = (self.ctx.clone(), self.ctx.log_folder(&self.pod), self.reports.clone());
        tokio::spawn(async move {
            let mut usage = Usage::default();
            for (name, container_id) in &runs {
                let answer = ctx.runtime.container_stats(ContainerStatsRequest { container_id: container_id.clone() });
                let layer = answer.await.ok().and_then(|answer| answer.stats?.writable_layer?.used_bytes);
                usage.containers.insert(name.clone(), layer.map_or(0, |bytes| bytes.value));
            }
            let measure = move || {
                for (name, bytes) in &mut usage.containers {
                    *bytes += Footprint::below(&logs.join(name)).bytes;
                }
                usage.volumes = volumes.into_iter().map(|(name, path)| (name, Footprint::below(&path).bytes)).collect();
                usage
            };
            let Ok(usage) = knarr_os::aside(measure).await else { return };
            if let Some(message) = limits.passed(&usage) {
                let _ = reports.send(Report::Evicted(Eviction::at_once(message))).await;
            }
        });
        Some(next)
    }

    /// Ends the pod for good; its controller makes another one where it has any. One that is ending anyway ends sooner.
    pub(super) fn evict(&mut self, eviction: Eviction) {
        if !matches!(self.state, State::Running | State::Stopping) || self.over || self.verdict.is_some() {
            return;
        }
        let Eviction { reason, message, annotations, grace } = eviction;
        if reason == EVICTED {
            self.ctx.evicted(&self.pod, message.clone(), annotations);
        }
        self.verdict = Some(Verdict { reason: reason.to_owned(), message });
        self.eviction_grace = Some(grace);
        self.state = State::Stopping;
    }
}

/// The names and folders of the pod's `emptyDir`s that are not in memory.
pub fn on_disk(pod: &Pod, pod_folder: &Path) -> Vec<(String, PathBuf)> {
    let volumes = pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten());
    let on_disk = volumes
        .filter(|volume| volume.empty_dir.as_ref().is_some_and(|source| source.medium.as_deref() != Some("Memory")));
    let place = |volume: &Volume| Some((volume.name.clone(), crate::volume::host_path(pod, pod_folder, &volume.name)?));
    on_disk.filter_map(place).collect()
}

#[cfg(test)]
mod tests {
    use k8s_openapi::serde_json::{from_value, json};

    use super::*;

    #[test]
    fn the_first_limit_passed_is_told_as_upstream_does() {
        let spec = json!({
            "volumes": [{"name": "e", "emptyDir": {"sizeLimit": "1Mi"}}, {"name": "m", "emptyDir": {"medium": "Memory", "sizeLimit": "1Mi"}}, {"name": "free", "emptyDir": {}}],
            "containers": [{"name": "a", "resources": {"limits": {"ephemeral-storage": "2Mi"}}}, {"name": "b", "resources": {"limits": {"ephemeral-storage": "4Mi"}}}, {"name": "c"}],
        });
        let pod: Pod = from_value(json!({"metadata": {}, "spec": spec})).unwrap();
        let limits = Limits::of(&pod, &Containers::of(&pod));
        const MI: u64 = 1 << 20;
        for (volumes, containers, expected) in [
            (&[("e", MI)][..], &[("a", MI)][..], None),
            (&[("e", MI + 1)], &[], Some("Usage of EmptyDir volume \"e\" exceeds the limit \"1Mi\". ")),
            (&[("m", 2 * MI)], &[], None),
            (&[], &[("a", 3 * MI)], Some("Container a exceeded its local ephemeral storage limit \"2Mi\". ")),
            (
                &[("free", 4 * MI)],
                &[("c", 3 * MI)],
                Some("Pod ephemeral local storage usage exceeds the total limit of containers 6291456. "),
            ),
        ] {
            let amounts = |list: &[(&str, u64)]| list.iter().map(|(name, used)| ((*name).to_owned(), *used)).collect();
            let usage = Usage { volumes: amounts(volumes), containers: amounts(containers) };
            assert_eq!(limits.passed(&usage).as_deref(), expected, "{usage:?}");
        }
        let free: Pod = from_value(json!({"metadata": {}, "spec": {"containers": [{"name": "a"}]}})).unwrap();
        assert!(Limits::of(&free, &Containers::of(&free)).is_empty());
    }
}
