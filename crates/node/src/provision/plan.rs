//! What a claim gets, and when a volume goes. Pure.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use k8s_openapi::{
    api::{
        core::v1::{
            LocalVolumeSource, NodeSelector, NodeSelectorRequirement, NodeSelectorTerm, PersistentVolume,
            PersistentVolumeClaim, PersistentVolumeSpec, VolumeNodeAffinity,
        },
        storage::v1::StorageClass,
    },
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use knarr_api::volume::{self as rules, HOSTNAME, LOCAL_PROVISIONER, PROVISIONER_FINALIZER};
use knarr_client::meta;

/// True where the claim's volume is this node's to make, and is not there yet.
pub fn is_wanted(claim: &PersistentVolumeClaim, node: &str) -> bool {
    let asked = [rules::STORAGE_PROVISIONER, rules::BETA_STORAGE_PROVISIONER]
        .iter()
        .any(|key| meta::annotation(&claim.metadata, key) == Some(LOCAL_PROVISIONER));
    let named = claim.spec.as_ref().and_then(|spec| spec.volume_name.as_deref()).unwrap_or_default();
    asked && named.is_empty() && rules::selected_node(claim) == Some(node)
}

/// One name for one claim, whichever attempt it is that makes it.
pub fn volume_name(claim: &PersistentVolumeClaim) -> String {
    format!("pvc-{}", meta::uid(&claim.metadata))
}

/// What a directory cannot be.
pub fn refusal(claim: &PersistentVolumeClaim, class: &StorageClass) -> Option<String> {
    let spec = claim.spec.as_ref()?;
    let modes = spec.access_modes.as_deref().unwrap_or_default();
    if let Some(mode) = modes.iter().find(|mode| !matches!(mode.as_str(), "ReadWriteOnce" | "ReadWriteOncePod")) {
        return Some(format!(
            "the volume is a directory on one node and cannot be {mode}; ask for ReadWriteOnce or ReadWriteOncePod"
        ));
    }
    if spec.volume_mode.as_deref() == Some("Block") {
        return Some("the volume is a directory and cannot be a block device (volumeMode: Block)".to_owned());
    }
    if spec.selector.is_some() {
        return Some("claim Selector is not supported".to_owned());
    }
    if spec.data_source.is_some() || spec.data_source_ref.is_some() {
        return Some("dataSource is not supported: the volume begins empty".to_owned());
    }
    if let Some(name) = spec.volume_attributes_class_name.as_deref().filter(|name| !name.is_empty()) {
        return Some(format!(
            "a directory has no attributes to set, and the claim has volumeAttributesClassName {name:?}"
        ));
    }
    if let Some(parameter) = class.parameters.iter().flatten().map(|(name, _)| name).next() {
        return Some(format!("the class has the parameter {parameter:?}, and this provisioner knows none"));
    }
    let options = class.mount_options.as_deref().unwrap_or_default();
    (!options.is_empty()).then(|| "the class has mountOptions, and a directory is not mounted".to_owned())
}

pub fn volume(claim: &PersistentVolumeClaim, class: &StorageClass, path: &Path, node: &str) -> PersistentVolume {
    let spec = claim.spec.clone().unwrap_or_default();
    let policy = class.reclaim_policy.clone().unwrap_or_else(|| "Delete".to_owned());
    let capacity = spec.resources.and_then(|resources| resources.requests).unwrap_or_default();
    let capacity = capacity.into_iter().filter(|(name, _)| name == "storage").collect();
    let here = NodeSelectorTerm {
        match_expressions: Some(vec![NodeSelectorRequirement {
            key: HOSTNAME.to_owned(),
            operator: "In".to_owned(),
            values: Some(vec![node.to_owned()]),
        }]),
        match_fields: None,
    };
    PersistentVolume {
        metadata: ObjectMeta {
            name: Some(volume_name(claim)),
            annotations: Some(BTreeMap::from([(rules::PROVISIONED_BY.to_owned(), LOCAL_PROVISIONER.to_owned())])),
            finalizers: (policy == "Delete").then(|| vec![PROVISIONER_FINALIZER.to_owned()]),
            ..ObjectMeta::default()
        },
        spec: Some(PersistentVolumeSpec {
            access_modes: spec.access_modes,
            capacity: Some(capacity),
            claim_ref: Some(rules::reference(claim)),
            local: Some(LocalVolumeSource { path: path.to_string_lossy().into_owned(), fs_type: None }),
            node_affinity: Some(VolumeNodeAffinity {
                required: Some(NodeSelector { node_selector_terms: vec![here] }),
            }),
            persistent_volume_reclaim_policy: Some(policy),
            storage_class_name: class.metadata.name.clone(),
            volume_mode: Some("Filesystem".to_owned()),
            ..PersistentVolumeSpec::default()
        }),
        status: None,
    }
}

/// True for a directory that this provisioner made on this node.
pub fn is_of(volume: &PersistentVolume, node: &str) -> bool {
    let affinity = volume.spec.as_ref().and_then(|spec| spec.node_affinity.as_ref()?.required.as_ref());
    let mut wishes = affinity
        .iter()
        .flat_map(|selector| &selector.node_selector_terms)
        .flat_map(|term| term.match_expressions.iter().flatten());
    rules::provisioned_by(volume) == Some(LOCAL_PROVISIONER)
        && wishes.any(|wish| wish.key == HOSTNAME && wish.values.as_deref() == Some(&[node.to_owned()]))
}

/// Where the object says that the volume is.
pub fn path(volume: &PersistentVolume) -> PathBuf {
    let local = volume.spec.as_ref().and_then(|spec| spec.local.as_ref());
    local.map(|local| PathBuf::from(&local.path)).unwrap_or_default()
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    Stay,
    /// The directory goes, then the object.
    Remove,
    /// The object goes, the directory stays.
    LetGo,
}

pub fn fate(volume: &PersistentVolume) -> Fate {
    let policy = volume.spec.as_ref().and_then(|spec| spec.persistent_volume_reclaim_policy.as_deref());
    let phase = volume.status.as_ref().and_then(|status| status.phase.as_deref());
    let is_going = volume.metadata.deletion_timestamp.is_some();
    match (phase, policy) {
        (Some("Bound"), _) => Fate::Stay,
        (Some("Released" | "Failed"), Some("Delete")) => Fate::Remove,
        (_, Some("Delete")) if is_going => Fate::Remove,
        _ if is_going && meta::has_finalizer(&volume.metadata, PROVISIONER_FINALIZER) => Fate::LetGo,
        _ => Fate::Stay,
    }
}

pub fn without_finalizer(volume: &PersistentVolume) -> Option<PersistentVolume> {
    if !meta::has_finalizer(&volume.metadata, PROVISIONER_FINALIZER) {
        return None;
    }
    let mut unheld = volume.clone();
    unheld.metadata.finalizers.iter_mut().for_each(|all| all.retain(|one| one != PROVISIONER_FINALIZER));
    Some(unheld)
}
