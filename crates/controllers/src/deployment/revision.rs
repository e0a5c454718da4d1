//! Which ReplicaSet a template belongs to, and the revision annotations that `kubectl rollout` reads.

use std::collections::BTreeMap;

use k8s_openapi::{
    api::{
        apps::v1::{Deployment, ReplicaSet, ReplicaSetSpec},
        core::v1::PodTemplateSpec,
    },
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use knarr_api::apply::LAST_APPLIED;
use knarr_client::meta;

use super::scale;
use crate::common::fnv;

pub const REVISION: &str = "deployment.kubernetes.io/revision";
const REVISION_HISTORY: &str = "deployment.kubernetes.io/revision-history";
const TEMPLATE_HASH: &str = "pod-template-hash";
/// Beyond this many characters the oldest revisions of the history are dropped.
const MAX_HISTORY: usize = 2000;
/// Annotations that a ReplicaSet does not take over from its Deployment.
const NOT_COPIED: [&str; 6] =
    [LAST_APPLIED, REVISION, REVISION_HISTORY, scale::DESIRED, scale::MAXIMUM, "deprecated.deployment.rollback.to"];

pub fn of(set: &ReplicaSet) -> i64 {
    meta::annotation(&set.metadata, REVISION).and_then(|revision| revision.parse().ok()).unwrap_or(0)
}

/// The set has the Deployment's template, but for the hash label.
pub fn same_template(deployment: &Deployment, set: &ReplicaSet) -> bool {
    let wished = deployment.spec.as_ref().map(|spec| &spec.template);
    let there = set.spec.as_ref().and_then(|spec| spec.template.as_ref());
    match (wished, there) {
        (Some(wished), Some(there)) => {
            wished.spec == there.spec && without_hash(wished.metadata.as_ref()) == without_hash(there.metadata.as_ref())
        }
        _ => false,
    }
}

fn without_hash(meta: Option<&ObjectMeta>) -> ObjectMeta {
    let mut meta = meta.cloned().unwrap_or_default();
    if let Some(labels) = &mut meta.labels {
        labels.remove(TEMPLATE_HASH);
    }
    meta.labels = meta.labels.filter(|labels| !labels.is_empty());
    meta.annotations = meta.annotations.filter(|annotations| !annotations.is_empty());
    meta.creation_timestamp = None;
    meta
}

/// A set for the Deployment's template, not sized yet. Its name and selector carry a hash of the template, so that
/// making it twice is one object.
pub fn new_set(deployment: &Deployment) -> ReplicaSet {
    let spec = deployment.spec.clone().unwrap_or_default();
    let collisions = deployment.status.as_ref().and_then(|status| status.collision_count);
    let hash = template_hash(&spec.template, collisions);
    let with_hash = |labels: Option<BTreeMap<String, String>>| {
        let mut labels = labels.unwrap_or_default();
        labels.insert(TEMPLATE_HASH.to_owned(), hash.clone());
        Some(labels)
    };
    let mut template = spec.template;
    let mut template_meta = template.metadata.take().unwrap_or_default();
    template_meta.labels = with_hash(template_meta.labels);
    let labels = template_meta.labels.clone();
    template.metadata = Some(template_meta);
    let mut selector = spec.selector;
    selector.match_labels = with_hash(selector.match_labels);
    ReplicaSet {
        metadata: ObjectMeta {
            name: Some(format!("{}-{hash}", meta::name(&deployment.metadata))),
            namespace: deployment.metadata.namespace.clone(),
            labels,
            owner_references: Some(vec![meta::controller_reference(deployment)]),
            ..Default::default()
        },
        spec: Some(ReplicaSetSpec {
            min_ready_seconds: spec.min_ready_seconds,
            replicas: Some(0),
            selector,
            template: Some(template),
        }),
        status: None,
    }
}

fn template_hash(template: &PodTemplateSpec, collisions: Option<i32>) -> String {
    // Field order is fixed by the types, and maps are sorted, so equal templates are equal bytes.
    let mut bytes = serde_json::to_vec(template).unwrap_or_default();
    bytes.extend(collisions.into_iter().flat_map(i32::to_le_bytes));
    fnv::safe_encode(fnv::fnv1a_32(&bytes))
}

/// Gives the new set its revision and the Deployment's annotations. `exists` is false while it is being made.
pub fn annotate(deployment: &Deployment, set: &mut ReplicaSet, revision: i64, exists: bool) {
    let before = of(set);
    let annotations = set.metadata.annotations.get_or_insert_default();
    for (key, value) in deployment.metadata.annotations.iter().flatten() {
        if !NOT_COPIED.contains(&key.as_str()) {
            annotations.insert(key.clone(), value.clone());
        }
    }
    if before < revision {
        annotations.insert(REVISION.to_owned(), revision.to_string());
        if exists && before > 0 {
            let history = annotations.entry(REVISION_HISTORY.to_owned()).or_default();
            if !history.is_empty() {
                history.push(',');
            }
            history.push_str(&before.to_string());
            while history.len() > MAX_HISTORY {
                let rest = history.split_once(',').map_or_else(String::new, |(_, rest)| rest.to_owned());
                *history = rest;
            }
        }
    }
    if annotations.is_empty() {
        set.metadata.annotations = None;
    }
}
