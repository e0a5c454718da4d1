//! Devices that pods claim: what the API server, the claims' controller, the scheduler and nodes have to agree about.
//! (<https://kubernetes.io/docs/concepts/scheduling-eviction/dynamic-resource-allocation/>)

pub mod selector;

use k8s_openapi::{
    api::{
        core::v1::{PodResourceClaim, PodResourceClaimStatus},
        resource::v1::{ResourceClaim, ResourceClaimConsumerReference},
    },
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};

/// Keeps a claim while devices are allocated to it.
pub const FINALIZER: &str = "resource.kubernetes.io/delete-protection";
/// On a claim that was made for a pod: which of the pod's claims it is.
pub const POD_CLAIM: &str = "resource.kubernetes.io/pod-claim-name";
/// How many pods may share a claim.
pub const MAX_USERS: usize = 256;
/// How many devices one claim may be allocated.
pub const MAX_DEVICES: usize = 32;

/// Which object stands behind a claim that a pod names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClaimName<'a> {
    Named(&'a str),
    /// Made for the pod from a template; must be the pod's own.
    Made(&'a str),
    /// The pod's status says that none is needed.
    NotNeeded,
    /// Its controller has not made it yet.
    NotYet,
}

pub fn claim_name<'a>(claim: &'a PodResourceClaim, statuses: &'a [PodResourceClaimStatus]) -> ClaimName<'a> {
    if let Some(name) = &claim.resource_claim_name {
        return ClaimName::Named(name);
    }
    match statuses.iter().find(|status| status.name == claim.name) {
        Some(status) => status.resource_claim_name.as_deref().map_or(ClaimName::NotNeeded, ClaimName::Made),
        None => ClaimName::NotYet,
    }
}

/// An error is why the claim is none that was made for this pod.
pub fn check_made_for(claim: &ResourceClaim, pod: &ObjectMeta) -> Result<(), String> {
    let mut owners = claim.metadata.owner_references.iter().flatten();
    if owners.any(|owner| owner.controller == Some(true) && Some(&owner.uid) == pod.uid.as_ref()) {
        return Ok(());
    }
    let name = |meta: &ObjectMeta| meta.name.clone().unwrap_or_default();
    let namespace = pod.namespace.as_deref().unwrap_or_default();
    Err(format!(
        "ResourceClaim {namespace}/{} was not created for pod {namespace}/{} (pod is not owner)",
        name(&claim.metadata),
        name(pod)
    ))
}

pub fn users(claim: &ResourceClaim) -> &[ResourceClaimConsumerReference] {
    claim.status.as_ref().and_then(|status| status.reserved_for.as_deref()).unwrap_or_default()
}

pub fn is_reserved_for(claim: &ResourceClaim, pod_uid: &str) -> bool {
    users(claim).iter().any(|user| user.uid == pod_uid)
}

pub fn is_allocated(claim: &ResourceClaim) -> bool {
    claim.status.as_ref().is_some_and(|status| status.allocation.is_some())
}

/// A pod as the user of a claim.
pub fn user(pod: &ObjectMeta) -> ResourceClaimConsumerReference {
    ResourceClaimConsumerReference {
        api_group: None,
        name: pod.name.clone().unwrap_or_default(),
        resource: "pods".to_owned(),
        uid: pod.uid.clone().unwrap_or_default(),
    }
}

/// A name of an attribute or a capacity with its domain, which is the driver's where none is written.
pub fn qualified<'a>(name: &'a str, driver: &'a str) -> (&'a str, &'a str) {
    name.split_once('/').unwrap_or((driver, name))
}
