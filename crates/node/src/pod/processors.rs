//! The processors of running containers: what others have for themselves by now is theirs no more.

use knarr_cri::v1::{LinuxContainerResources, UpdateContainerResourcesRequest};

use super::{context::full_name, worker::Worker};

impl Worker {
    /// Moves containers to where they are to run.
    pub(super) async fn tend_processors(&mut self) {
        if !self.ctx.cpus.are_fixed() {
            return;
        }
        let (cpus, uid) = (self.ctx.cpus.clone(), self.uid.clone());
        for run in self.observed.containers.values_mut().flatten().filter(|run| run.running()) {
            // A runtime that does not say where a container runs is left alone.
            let (Some(present), Some(cpuset_cpus)) = (&mut run.resources, cpus.of(&uid, &run.name)) else { continue };
            if present.cpuset_cpus == cpuset_cpus {
                continue;
            }
            let linux = LinuxContainerResources { cpuset_cpus: cpuset_cpus.clone(), ..Default::default() };
            let request = UpdateContainerResourcesRequest {
                container_id: run.id.clone(),
                linux: Some(linux),
                ..UpdateContainerResourcesRequest::default()
            };
            match self.ctx.runtime.update_container_resources(request).await {
                Ok(_) => present.cpuset_cpus = cpuset_cpus,
                // At the next look it is tried again.
                Err(error) => {
                    let (pod, container) = (full_name(&self.pod), &run.name);
                    tracing::warn!(pod, container, %error, "a container cannot be moved to other processors");
                }
            }
        }
    }
}
