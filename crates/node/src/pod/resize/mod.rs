//! In-place resize. The node agrees to new requests and limits where there is room for them ([`decide`]); from then on
//! they are the pod's ([`allocation`]), and its containers get new numbers from the kernel, or a new start where their
//! `resizePolicy` asks for that. What is in force at last is for the status to tell ([`actual`]).
//! (<https://kubernetes.io/docs/tasks/configure-pod-container/resize-container-resources/>)

mod actual;
mod allocation;
mod decide;
mod queue;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Container;
use knarr_cri::v1::{
    ContainerStatsRequest, LinuxContainerResources, MemoryUsage, PodSandboxStatsRequest,
    UpdateContainerResourcesRequest, UpdatePodSandboxResourcesRequest,
};

use super::{containers::Role, observe::Instance, plan::Kill, worker::Worker};

pub use actual::{requests_of_pod, resources as actual_resources};
pub use allocation::Allocation;
pub use decide::Resize;
use decide::{InProgress, told};
pub use queue::Queue;

/// The wait after what could not be brought about: a kernel that refused, or memory still in use.
const RETRY: SignedDuration = SignedDuration::from_secs(10);

/// A container whose numbers are to change.
struct Change {
    name: String,
    run: Instance,
    to: LinuxContainerResources,
    restart: bool,
}

/// What a resize may change; the rest follows from the pod. No limit of time is written in several ways.
fn numbers(resources: &LinuxContainerResources) -> (i64, i64, i64) {
    (resources.cpu_shares, resources.cpu_quota.max(0), resources.memory_limit_in_bytes)
}

/// Whether a change from one to the other means a new start for this container.
fn needs_restart(container: &Container, from: &LinuxContainerResources, to: &LinuxContainerResources) -> bool {
    let ((old_shares, old_quota, old_memory), (shares, quota, memory)) = (numbers(from), numbers(to));
    let changed = |resource: &str| match resource {
        "cpu" => (old_shares, old_quota) != (shares, quota),
        "memory" => old_memory != memory,
        _ => false,
    };
    let policies = container.resize_policy.iter().flatten();
    policies.into_iter().any(|policy| policy.restart_policy == "RestartContainer" && changed(&policy.resource_name))
}

/// What a sandbox has to allow while its containers change from one to the other: the greater of each. No limit, which
/// a sandbox that is being made writes as nothing at all, is a number of its own here.
fn widest(from: &LinuxContainerResources, to: &LinuxContainerResources) -> LinuxContainerResources {
    let limit = |from: i64, to: i64| if from <= 0 || to <= 0 { -1 } else { from.max(to) };
    LinuxContainerResources {
        cpu_shares: from.cpu_shares.max(to.cpu_shares),
        cpu_quota: limit(from.cpu_quota, to.cpu_quota),
        memory_limit_in_bytes: limit(from.memory_limit_in_bytes, to.memory_limit_in_bytes),
        ..to.clone()
    }
}

impl Worker {
    /// Brings the limits of the running pod to what it was promised, and says when to try again where that failed.
    pub(super) async fn bring_resize_about(&mut self, now: Timestamp) -> Option<Timestamp> {
        if let Some(due) = self.resize_retry.filter(|due| *due > now) {
            return Some(due);
        }
        let error = self.actuate().await.err();
        self.resize_retry = error.is_some().then(|| now + RETRY);
        match error {
            Some(error) => self.tell_failure(error),
            None if self.resize.in_progress.is_some() && self.changes().is_empty() => {
                self.resize.in_progress = None;
                self.ctx.normal(&self.pod, "ResizeCompleted", told("Pod resize completed", &self.pod, None));
            }
            None => {}
        }
        self.resize_retry
    }

    /// Once for each failure, however often it is tried again.
    fn tell_failure(&mut self, error: String) {
        let generation = self.pod.metadata.generation;
        let progress = self.resize.in_progress.get_or_insert(InProgress { error: None, generation });
        if progress.error.as_ref() != Some(&error) {
            self.ctx.warning(&self.pod, "ResizeError", told("Pod resize error", &self.pod, Some(&error)));
            progress.error = Some(error);
        }
    }

    /// A container may never have more than its sandbox, so the sandbox is widened before its containers change and
    /// narrowed afterwards.
    async fn actuate(&mut self) -> Result<(), String> {
        let Some(sandbox) = self.observed.sandbox.as_ref().filter(|sandbox| sandbox.ready).cloned() else {
            return Ok(());
        };
        let Some(spec) = self.spec() else { return Ok(()) };
        let wanted = self.ctx.sandbox_resources(&self.pod, spec);
        // Whoever takes a pod over does not know what its sandbox was given last, and says it once more.
        let known = self.sandbox_given.as_ref().filter(|(id, _)| *id == sandbox.id).map(|(_, given)| given.clone());
        let changes = self.changes();
        let changed = known.as_ref() != Some(&wanted);
        if changed || !changes.is_empty() {
            self.refuse_less_than_is_used(&sandbox.id, &wanted, &changes).await?;
        }
        if changed {
            self.resize_sandbox(&sandbox.id, widest(known.as_ref().unwrap_or(&wanted), &wanted)).await?;
        }
        let restarts = changes.iter().any(|change| change.restart);
        for change in changes {
            self.resize_container(change).await?;
        }
        // What is about to end still has what it had.
        if changed && !restarts {
            self.resize_sandbox(&sandbox.id, widest(&wanted, &wanted)).await?;
            self.sandbox_given = Some((sandbox.id, wanted));
        }
        Ok(())
    }

    /// The kernel would end processes to make a limit below what they use hold.
    async fn refuse_less_than_is_used(
        &self,
        sandbox: &str,
        wanted: &LinuxContainerResources,
        changes: &[Change],
    ) -> Result<(), String> {
        let runtime = &self.ctx.runtime;
        let mut refusals = Vec::new();
        let mut check = |what: String, limit: i64, usage: Option<MemoryUsage>| {
            let used =
                usage.and_then(|usage| usage.usage_bytes.or(usage.working_set_bytes)).map_or(0, |used| used.value);
            if limit > 0 && used > limit.unsigned_abs() {
                refusals.push(format!("attempting to set {what} memory limit ({limit}) below current usage ({used})"));
            }
        };
        let in_place: Vec<_> = changes.iter().filter(|change| !change.restart && change.lowers_memory()).collect();
        // A container that starts anew gives its memory back before.
        if wanted.memory_limit_in_bytes > 0 && changes.iter().all(|change| !change.restart) {
            let request = PodSandboxStatsRequest { pod_sandbox_id: sandbox.to_owned() };
            let stats = runtime.pod_sandbox_stats(request).await.ok().and_then(|answer| answer.stats?.linux);
            check("pod".to_owned(), wanted.memory_limit_in_bytes, stats.and_then(|stats| stats.memory));
        }
        for change in in_place {
            let request = ContainerStatsRequest { container_id: change.run.id.clone() };
            let stats = runtime.container_stats(request).await.ok().and_then(|answer| answer.stats);
            let what = format!("container {:?}", change.name);
            check(what, change.to.memory_limit_in_bytes, stats.and_then(|stats| stats.memory));
        }
        match refusals.as_slice() {
            [] => Ok(()),
            [one] => Err(format!("cannot decrease memory limits: {one}")),
            all => Err(format!("cannot decrease memory limits: [{}]", all.join(", "))),
        }
    }

    async fn resize_sandbox(&self, id: &str, resources: LinuxContainerResources) -> Result<(), String> {
        let request = UpdatePodSandboxResourcesRequest {
            pod_sandbox_id: id.to_owned(),
            resources: Some(resources),
            ..UpdatePodSandboxResourcesRequest::default()
        };
        let done = self.ctx.runtime.update_pod_sandbox_resources(request).await;
        done.map(drop).map_err(|error| error.to_string())
    }

    async fn resize_container(&mut self, change: Change) -> Result<(), String> {
        let Change { name, run, to, restart } = change;
        if restart {
            let ending = self.tracks.get(&name).is_some_and(|track| track.killing.as_deref() == Some(&run.id));
            if !ending {
                self.kill_one(&name, &run.id, &Kill::Resized);
            }
            return Ok(());
        }
        let request = UpdateContainerResourcesRequest {
            container_id: run.id.clone(),
            linux: Some(to.clone()),
            ..UpdateContainerResourcesRequest::default()
        };
        self.ctx.runtime.update_container_resources(request).await.map_err(|error| error.to_string())?;
        // What it has from now on, until the runtime is asked again.
        let runs = self.observed.containers.get_mut(&name).into_iter().flatten();
        runs.filter(|known| known.id == run.id).for_each(|known| known.resources = Some(to.clone()));
        Ok(())
    }

    /// The running containers that do not have what they were promised.
    fn changes(&self) -> Vec<Change> {
        let mut found = Vec::new();
        for entry in self.containers.entries.iter().filter(|entry| matches!(entry.role, Role::App | Role::Sidecar)) {
            let Some(run) = self.observed.current(entry.name()).filter(|run| run.running()) else { continue };
            // A runtime that does not say what a container has is left alone.
            let Some(present) = &run.resources else { continue };
            let to = self.ctx.container_resources(&self.pod, &entry.spec);
            if numbers(present) != numbers(&to) {
                let restart = needs_restart(&entry.spec, present, &to);
                found.push(Change { name: entry.name().to_owned(), run: run.clone(), to, restart });
            }
        }
        found
    }
}

impl Change {
    fn lowers_memory(&self) -> bool {
        let before = self.run.resources.as_ref().map_or(0, |present| present.memory_limit_in_bytes);
        self.to.memory_limit_in_bytes > 0 && (before <= 0 || self.to.memory_limit_in_bytes < before)
    }
}
