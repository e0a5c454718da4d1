//! In-place resize: a running container whose requests or limits changed gets new numbers from the kernel, or a
//! new start where its `resizePolicy` asks for that.

use k8s_openapi::api::core::v1::Container;
use knarr_cri::v1::{LinuxContainerResources, UpdateContainerResourcesRequest, UpdatePodSandboxResourcesRequest};

use super::{containers::Role, observe::Instance, plan::Kill, qos, worker::Worker};

/// What a resize may change; the rest follows from the pod.
fn numbers(resources: &LinuxContainerResources) -> (i64, i64, i64) {
    (resources.cpu_shares, resources.cpu_quota, resources.memory_limit_in_bytes)
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
    /// Brings the limits of the running pod to what the spec says now. A container may never have more than its
    /// sandbox, so the sandbox is widened before its containers change and narrowed afterwards.
    pub(super) async fn resize(&mut self) {
        let Some(sandbox) = self.observed.sandbox.as_ref().filter(|sandbox| sandbox.ready).cloned() else { return };
        let Some(wanted) = self.spec().map(|spec| super::cri::sandbox_resources(&self.pod, spec)) else { return };
        // Whoever takes a pod over does not know what its sandbox was given last, and says it once more.
        let known = self.sandbox_given.as_ref().filter(|(id, _)| *id == sandbox.id).map(|(_, given)| given.clone());
        let changed = known.as_ref() != Some(&wanted);
        if changed {
            self.resize_sandbox(&sandbox.id, widest(known.as_ref().unwrap_or(&wanted), &wanted)).await;
        }
        self.resize_containers().await;
        if changed {
            self.resize_sandbox(&sandbox.id, widest(&wanted, &wanted)).await;
            self.sandbox_given = Some((sandbox.id, wanted));
        }
    }

    async fn resize_sandbox(&self, id: &str, resources: LinuxContainerResources) {
        let request = UpdatePodSandboxResourcesRequest {
            pod_sandbox_id: id.to_owned(),
            resources: Some(resources),
            ..UpdatePodSandboxResourcesRequest::default()
        };
        if let Err(error) = self.ctx.runtime.update_pod_sandbox_resources(request).await {
            self.ctx.warning(&self.pod, "ResizeError", format!("the pod's limits were not changed: {error}"));
        }
    }

    async fn resize_containers(&mut self) {
        for (name, run, wanted) in self.to_resize() {
            let Some(entry) = self.entry(&name) else { continue };
            let present = run.resources.clone().unwrap_or_default();
            if needs_restart(&entry.spec, &present, &wanted) {
                self.kill_one(&name, &run.id, &Kill::Resized);
                continue;
            }
            let request = UpdateContainerResourcesRequest {
                container_id: run.id.clone(),
                linux: Some(wanted.clone()),
                ..UpdateContainerResourcesRequest::default()
            };
            if let Err(error) = self.ctx.runtime.update_container_resources(request).await {
                self.event(&name, true, "ResizeError", format!("Container {name} was not resized: {error}"));
            }
            // Asked for once: what the kernel refuses now it refuses in a moment as well.
            self.track(&name).resized = Some((run.id.clone(), wanted));
        }
    }

    fn to_resize(&self) -> Vec<(String, Instance, LinuxContainerResources)> {
        let mut found = Vec::new();
        for entry in self.containers.entries.iter().filter(|entry| matches!(entry.role, Role::App | Role::Sidecar)) {
            let Some(run) = self.observed.current(entry.name()).filter(|run| run.running()) else { continue };
            // A runtime that does not say what a container has is left alone.
            let Some(present) = &run.resources else { continue };
            let wanted = qos::container_resources(&self.pod, &entry.spec, self.ctx.memory_capacity);
            let track = self.tracks.get(entry.name());
            let asked = track.and_then(|track| track.resized.as_ref()).filter(|(id, _)| *id == run.id);
            let present = asked.map_or(present, |(_, asked)| asked);
            let ending = track.is_some_and(|track| track.killing.as_deref() == Some(&run.id));
            if numbers(present) != numbers(&wanted) && !ending {
                found.push((entry.name().to_owned(), run.clone(), wanted));
            }
        }
        found
    }
}
