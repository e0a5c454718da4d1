//! What becomes of a claim, given which of its users are still there.

use k8s_openapi::api::{core::v1::PodResourceClaim, resource::v1::ResourceClaim};
use k8s_openapi::{
    api::resource::v1::{ResourceClaimConsumerReference, ResourceClaimTemplate},
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use knarr_api::device::{FINALIZER, POD_CLAIM, users};
use knarr_client::{lean::Pod, meta};

use crate::common::pods;

/// Room for a hyphen and the five characters that the API server adds, in a name of 63.
const LONGEST_BASE: usize = 57;

/// True where it is certain that no container of the pod runs or ever will.
pub fn is_done(pod: &Pod) -> bool {
    let has_node = !pods::node_name(pod).is_empty();
    pods::is_terminal(pod) || pod.metadata.deletion_timestamp.is_some() && !has_node
}

/// The claim as it should be once only these users are left: without devices where the last one went, or where it is
/// to go itself. `None` where it stays as it is.
pub fn release(claim: &ResourceClaim, left: Vec<ResourceClaimConsumerReference>) -> Option<ResourceClaim> {
    let loses_users = left.len() < users(claim).len();
    let is_ours = meta::has_finalizer(&claim.metadata, FINALIZER);
    let goes = is_ours && claim.metadata.deletion_timestamp.is_some() && left.is_empty();
    if !loses_users && !goes {
        return None;
    }
    let mut released = claim.clone();
    let status = released.status.get_or_insert_default();
    if left.is_empty() && is_ours {
        status.allocation = None;
    }
    status.reserved_for = Some(left).filter(|left| !left.is_empty());
    Some(released)
}

/// The finalizer goes with the devices. `None` where it stays, or is not there.
pub fn unlock(claim: &ResourceClaim) -> Option<ResourceClaim> {
    let is_free = !knarr_api::device::is_allocated(claim);
    (is_free && meta::has_finalizer(&claim.metadata, FINALIZER)).then(|| {
        let mut unlocked = claim.clone();
        unlocked.metadata.finalizers.iter_mut().for_each(|all| all.retain(|finalizer| finalizer != FINALIZER));
        unlocked
    })
}

/// What is made for a pod from a template.
pub fn make(pod: &Pod, wanted: &PodResourceClaim, template: &ResourceClaimTemplate) -> ResourceClaim {
    let written = template.spec.metadata.clone().unwrap_or_default();
    let mut annotations = written.annotations.unwrap_or_default();
    annotations.insert(POD_CLAIM.to_owned(), wanted.name.clone());
    ResourceClaim {
        metadata: ObjectMeta {
            generate_name: Some(base_name(meta::name(&pod.metadata), &wanted.name)),
            namespace: pod.metadata.namespace.clone(),
            labels: written.labels,
            annotations: Some(annotations),
            owner_references: Some(vec![meta::controller_reference(pod)]),
            ..ObjectMeta::default()
        },
        spec: template.spec.spec.clone(),
        status: None,
    }
}

/// Both names keep their share of what is too long.
fn base_name(pod: &str, claim: &str) -> String {
    let whole = format!("{pod}-{claim}-");
    if whole.len() <= LONGEST_BASE {
        return whole;
    }
    let cut = |name: &str| name[..name.len() * LONGEST_BASE / whole.len()].to_owned();
    format!("{}-{}", cut(pod), cut(claim))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_made_of_both() {
        assert_eq!(base_name("web", "gpu"), "web-gpu-");
        let long = base_name(&"p".repeat(60), &"c".repeat(20));
        assert_eq!(long, format!("{}-{}", "p".repeat(41), "c".repeat(13)));
        assert!(long.len() <= LONGEST_BASE);
    }
}
