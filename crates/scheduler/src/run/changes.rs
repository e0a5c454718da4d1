//! The watch events that feed the loop.

use std::sync::Arc;

use k8s_openapi::api::{
    core::v1::{Node, PersistentVolume, PersistentVolumeClaim},
    resource::v1::{DeviceClass, ResourceClaim, ResourceSlice},
    storage::v1::{CSIDriver, CSINode, CSIStorageCapacity, StorageClass},
};
use knarr_client::{Change, Informers, lean::Pod, meta};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{NAME, Scheduler, State};
use crate::{device, pod::PodInfo, queue::Happening, volume::Picture};

impl Scheduler {
    pub(super) fn node_changed(&self, change: &Change<Node>) {
        let mut state = self.state();
        let State { cluster, queue, .. } = &mut *state;
        let Some(node) = &change.new else {
            return cluster.remove_node(meta::name(&change.latest().metadata));
        };
        let what = cluster.set_node(node);
        let happenings = [
            (what.is_new, Happening::NodeAdded),
            (what.more_room, Happening::NodeRoom),
            (what.labels, Happening::NodeLabels),
            (what.taints, Happening::NodeTaints),
        ];
        for (_, happening) in happenings.into_iter().filter(|(happened, _)| *happened) {
            queue.notice(happening, Instant::now());
        }
        self.wake_for(&state);
    }

    pub(super) fn pod_changed(&self, change: &Change<Pod>) {
        let pod = change.latest();
        let uid = meta::uid(&pod.metadata);
        let now = Instant::now();
        let mut state = self.state();
        if change.old.is_none() {
            state.last_arrival = Some(now);
        }
        let State { cluster, queue, .. } = &mut *state;
        let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
        if change.is_deletion() || matches!(phase, Some("Succeeded" | "Failed")) {
            queue.remove(uid);
            let had_promise = cluster.forget_nomination(uid);
            if cluster.remove_pod(uid).is_some() || had_promise {
                queue.notice(Happening::PodGone, now);
            }
        } else if has_node(pod) {
            queue.remove(uid);
            if !stands_alike(change) {
                let shrank = change.old.as_ref().is_some_and(|old| has_node(old));
                let is_new = cluster.set_pod(Arc::new(PodInfo::of(pod.clone())));
                if is_new || shrank {
                    queue.notice(Happening::PodPlaced, now);
                }
                if shrank {
                    queue.notice(Happening::PodGone, now);
                }
            }
        } else if !is_for_us(pod) {
            queue.remove(uid);
            cluster.forget_nomination(uid);
        } else if !cluster.is_assumed(uid) {
            let pod = Arc::new(PodInfo::of(pod.clone()));
            let promised = |pod: &Pod| pod.status.as_ref().and_then(|status| status.nominated_node_name.clone());
            // What this scheduler promised itself it knows better than a cache that may be behind.
            if change.old.as_ref().is_none_or(|old| promised(old) != promised(&pod.object)) {
                cluster.nominate(&pod, promised(&pod.object).as_deref());
            }
            queue.set(pod, now);
        }
        self.wake_for(&state);
    }

    /// Keeps the picture of claims, volumes, classes and drivers; false once cancelled.
    pub(super) async fn follow_storage(self: &Arc<Self>, informers: &Informers, cancel: &CancellationToken) -> bool {
        let claims = informers.of::<PersistentVolumeClaim>();
        let (volumes, classes) = (informers.of::<PersistentVolume>(), informers.of::<StorageClass>());
        let (nodes, drivers) = (informers.of::<CSINode>(), informers.of::<CSIDriver>());
        let capacities = informers.of::<CSIStorageCapacity>();
        let is_synced = claims.synced().await && volumes.synced().await && classes.synced().await;
        if !(is_synced && nodes.synced().await && drivers.synced().await && capacities.synced().await) {
            return false;
        }
        let this = self.clone();
        claims.on_change_until(cancel, move |change| this.storage_changed(|picture| picture.claim_changed(change)));
        let this = self.clone();
        volumes.on_change_until(cancel, move |change| this.storage_changed(|picture| picture.volume_changed(change)));
        let this = self.clone();
        classes.on_change_until(cancel, move |change| this.storage_changed(|picture| picture.class_changed(change)));
        let this = self.clone();
        nodes.on_change_until(cancel, move |change| this.storage_changed(|picture| picture.csi_node_changed(change)));
        let this = self.clone();
        drivers.on_change_until(cancel, move |change| this.storage_changed(|picture| picture.driver_changed(change)));
        let this = self.clone();
        capacities
            .on_change_until(cancel, move |change| this.storage_changed(|picture| picture.capacity_changed(change)));
        true
    }

    /// Keeps the picture of slices, classes and claims of devices; false once cancelled.
    pub(super) async fn follow_devices(self: &Arc<Self>, informers: &Informers, cancel: &CancellationToken) -> bool {
        let (slices, classes) = (informers.of::<ResourceSlice>(), informers.of::<DeviceClass>());
        let claims = informers.of::<ResourceClaim>();
        if !(slices.synced().await && classes.synced().await && claims.synced().await) {
            return false;
        }
        let this = self.clone();
        slices.on_change_until(cancel, move |change| this.devices_changed(|picture| picture.slice_changed(change)));
        let this = self.clone();
        classes.on_change_until(cancel, move |change| this.devices_changed(|picture| picture.class_changed(change)));
        let this = self.clone();
        claims.on_change_until(cancel, move |change| this.devices_changed(|picture| picture.claim_changed(change)));
        true
    }

    fn devices_changed(&self, apply: impl FnOnce(&mut device::Picture)) {
        let mut state = self.state();
        apply(&mut state.cluster.devices);
        state.queue.notice(Happening::Devices, Instant::now());
        self.wake_for(&state);
    }

    fn storage_changed(&self, apply: impl FnOnce(&mut Picture)) {
        let mut state = self.state();
        apply(&mut state.cluster.volumes);
        state.queue.notice(Happening::Storage, Instant::now());
        self.wake_for(&state);
        drop(state);
        self.volumes.look_again();
    }
}

fn has_node(pod: &Pod) -> bool {
    pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref()).is_some_and(|name| !name.is_empty())
}

/// The change is of the status only, as most are: nothing that is counted here differs.
fn stands_alike(change: &Change<Pod>) -> bool {
    match (&change.old, &change.new) {
        (Some(old), Some(new)) => {
            old.spec == new.spec
                && old.metadata.labels == new.metadata.labels
                && old.metadata.deletion_timestamp == new.metadata.deletion_timestamp
        }
        _ => false,
    }
}

fn is_for_us(pod: &Pod) -> bool {
    let Some(spec) = &pod.spec else { return false };
    let gated = spec.scheduling_gates.as_ref().is_some_and(|gates| !gates.is_empty());
    pod.metadata.deletion_timestamp.is_none() && !gated && spec.scheduler_name.as_deref().unwrap_or(NAME) == NAME
}
