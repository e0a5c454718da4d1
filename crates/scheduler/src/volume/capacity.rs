//! Whether a driver that says how much it can still make has enough where a pod would go.
//! (<https://kubernetes.io/docs/concepts/storage/storage-capacity/>)

use k8s_openapi::api::{
    core::v1::PersistentVolumeClaim,
    storage::v1::{CSIStorageCapacity, StorageClass},
};
use knarr_api::{quantity::Quantity, volume};
use knarr_client::meta;

use super::Picture;
use crate::terms::{self, Labels};

pub(super) fn is_enough(
    claim: &PersistentVolumeClaim,
    class: &StorageClass,
    labels: &Labels,
    picture: &Picture,
) -> bool {
    if !picture.says_capacity(&class.provisioner) {
        return true;
    }
    let wanted = volume::requested(claim);
    let name = meta::name(&class.metadata);
    picture.capacities().any(|capacity| {
        capacity.storage_class_name == name && largest(capacity) >= Some(wanted) && reaches(capacity, labels)
    })
}

/// The largest volume that can be made.
fn largest(capacity: &CSIStorageCapacity) -> Option<Quantity> {
    let said = capacity.maximum_volume_size.as_ref().or(capacity.capacity.as_ref())?;
    said.0.parse().ok()
}

fn reaches(capacity: &CSIStorageCapacity, labels: &Labels) -> bool {
    let topology = capacity.node_topology.as_ref();
    topology.is_some_and(|topology| terms::matches(&terms::compile(Some(topology)), labels))
}
