//! What makes a pod of a StatefulSet that one and no other: its ordinal, and by it its name, labels, address record
//! and claims. Pure.
//! (<https://kubernetes.io/docs/concepts/workloads/controllers/statefulset/#pod-identity>)

use k8s_openapi::api::{
    apps::v1::{StatefulSet, StatefulSetSpec},
    core::v1::{self, PersistentVolumeClaim, PersistentVolumeClaimVolumeSource, PodTemplateSpec, Volume},
};
use knarr_client::{lean::Pod, meta};

use crate::common::{history, pods};

pub const POD_NAME: &str = "statefulset.kubernetes.io/pod-name";
pub const POD_INDEX: &str = "apps.kubernetes.io/pod-index";

pub fn pod_name(set: &StatefulSet, ordinal: i32) -> String {
    format!("{}-{ordinal}", meta::name(&set.metadata))
}

/// `None` for a pod that is not named as one of this set.
pub fn ordinal(set: &StatefulSet, pod: &Pod) -> Option<i32> {
    let digits = meta::name(&pod.metadata).strip_prefix(meta::name(&set.metadata))?.strip_prefix('-')?;
    let ordinal = digits.parse().ok().filter(|ordinal| *ordinal >= 0)?;
    (pod_name(set, ordinal) == meta::name(&pod.metadata)).then_some(ordinal)
}

/// The ordinals that are to be there.
pub fn wanted(spec: &StatefulSetSpec) -> std::ops::Range<i32> {
    let start = spec.ordinals.as_ref().and_then(|ordinals| ordinals.start).unwrap_or(0);
    start..start.saturating_add(spec.replicas.unwrap_or(1).max(0))
}

/// The labels that every pod has besides its template's.
pub fn labels(set: &StatefulSet, ordinal: i32) -> [(&'static str, String); 2] {
    [(POD_NAME, pod_name(set, ordinal)), (POD_INDEX, ordinal.to_string())]
}

pub fn new_pod(set: &StatefulSet, template: &PodTemplateSpec, revision: &str, ordinal: i32) -> v1::Pod {
    let name = pod_name(set, ordinal);
    let namespace = meta::namespace(&set.metadata);
    let mut pod = pods::from_template(template, &name, namespace, meta::controller_reference(set));
    pod.metadata.generate_name = None;
    pod.metadata.name = Some(name.clone());
    let all = pod.metadata.labels.get_or_insert_default();
    all.extend(labels(set, ordinal).map(|(key, value)| (key.to_owned(), value)));
    all.insert(history::OF_POD.to_owned(), revision.to_owned());
    let set_spec = set.spec.clone().unwrap_or_default();
    let spec = pod.spec.get_or_insert_default();
    spec.hostname = Some(name);
    spec.subdomain = set_spec.service_name.filter(|service| !service.is_empty());
    let templates = set_spec.volume_claim_templates.unwrap_or_default();
    if !templates.is_empty() {
        // A claim goes before a volume of the same name in the template.
        let is_claimed = |volume: &Volume| templates.iter().any(|claim| meta::name(&claim.metadata) == volume.name);
        let mut volumes: Vec<_> = templates.iter().map(|claim| volume(set, claim, ordinal)).collect();
        volumes.extend(spec.volumes.take().unwrap_or_default().into_iter().filter(|volume| !is_claimed(volume)));
        spec.volumes = Some(volumes);
    }
    pod
}

fn claim_name(set: &StatefulSet, template: &PersistentVolumeClaim, ordinal: i32) -> String {
    format!("{}-{}", meta::name(&template.metadata), pod_name(set, ordinal))
}

fn volume(set: &StatefulSet, template: &PersistentVolumeClaim, ordinal: i32) -> Volume {
    let source = PersistentVolumeClaimVolumeSource { claim_name: claim_name(set, template, ordinal), read_only: None };
    Volume {
        name: meta::name(&template.metadata).to_owned(),
        persistent_volume_claim: Some(source),
        ..Volume::default()
    }
}

/// The claims of one pod, as they are made, without owners.
pub fn claims(set: &StatefulSet, ordinal: i32) -> Vec<PersistentVolumeClaim> {
    let Some(spec) = &set.spec else { return Vec::new() };
    let templates = spec.volume_claim_templates.iter().flatten();
    let made = templates.map(|template| {
        let mut claim = template.clone();
        claim.metadata.name = Some(claim_name(set, template, ordinal));
        claim.metadata.namespace = set.metadata.namespace.clone();
        let labels = claim.metadata.labels.get_or_insert_default();
        labels.extend(spec.selector.match_labels.clone().unwrap_or_default());
        claim.status = None;
        claim
    });
    made.collect()
}
