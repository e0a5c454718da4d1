//! What a worker knows of its pod: what the runtime lists, what the spec says, and what it refers to.

use k8s_openapi::api::core::v1::PodSpec;
use knarr_cri::CriError;

use super::{
    containers::Entry,
    downward::Facts,
    observe,
    references::{self, Snapshot},
    start::CONFIG_ERROR,
    track::ImageState,
    worker::Worker,
};

impl Worker {
    /// Asks the runtime what there is of this pod.
    pub(super) async fn look(&mut self) -> Result<(), CriError> {
        self.observed = observe::observe(&*self.ctx.runtime, &self.uid).await?;
        self.read_messages().await;
        let sandboxes = self.observed.sandbox.iter().map(|sandbox| &sandbox.id).chain(&self.observed.stale_sandboxes);
        let ids = sandboxes.chain(self.observed.instances().map(|run| &run.id));
        let mut owners = self.ctx.owners();
        for id in ids {
            if !owners.contains_key(id) {
                owners.insert(id.clone(), self.uid.clone());
            }
        }
        drop(owners);
        Ok(())
    }

    pub(super) fn deleted(&self) -> bool {
        self.gone || self.pod.metadata.deletion_timestamp.is_some()
    }

    pub(super) fn is_static(&self) -> bool {
        super::is_static(&self.pod)
    }

    pub(super) fn spec(&self) -> Option<&PodSpec> {
        self.pod.spec.as_ref()
    }

    pub(super) fn entry(&self, name: &str) -> Option<&Entry> {
        self.containers.get(name)
    }

    pub(super) fn pod_ips(&self) -> Vec<String> {
        let host_network = self.spec().and_then(|spec| spec.host_network).unwrap_or(false);
        if host_network {
            return self.ctx.node_ips.clone();
        }
        self.observed.sandbox.as_ref().map(|sandbox| sandbox.ips.clone()).unwrap_or_default()
    }

    /// ConfigMaps and Secrets as they are now.
    pub(super) async fn snapshot(&mut self) -> Snapshot {
        let names = references::names(&self.pod);
        if self.held.is_none() || names != self.names {
            let namespace = self.pod.metadata.namespace.clone().unwrap_or_default();
            self.held = Some(self.ctx.references.hold(&namespace, &names, &self.handle.wake));
            self.names = names;
        }
        match &self.held {
            Some(held) => held.snapshot().await,
            None => Snapshot::default(),
        }
    }

    pub(super) fn facts<'a>(&'a self, pod_ips: &'a [String]) -> Facts<'a> {
        Facts {
            pod: &self.pod,
            containers: &self.containers,
            pod_ips,
            host_ips: &self.ctx.node_ips,
            allocatable: self.ctx.budget.allocatable,
        }
    }

    /// Images are looked for anew before each start, and failures are forgotten when what they refer to changes. True
    /// where there were any.
    pub(super) fn forget_failures(&mut self) -> bool {
        let mut any = false;
        for track in self.tracks.values_mut() {
            if track.failure.as_ref().is_some_and(|failure| failure.reason == CONFIG_ERROR) {
                track.failure = None;
                track.image = ImageState::Unknown;
                any = true;
            }
        }
        any
    }
}
