//! In-place resize: a running container whose requests or limits changed gets new numbers from the kernel, or a
//! new start where its `resizePolicy` asks for that.

use k8s_openapi::api::core::v1::Container;
use knarr_cri::v1::{LinuxContainerResources, UpdateContainerResourcesRequest};

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

impl Worker {
    /// Brings the limits of running containers to what the spec says now.
    pub(super) async fn resize_containers(&mut self) {
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
