//! Writes what was decided about a pod's claims: their devices, and the pod as their user.

use k8s_openapi::api::resource::v1::ResourceClaim;
use knarr_api::device::{FINALIZER, is_allocated, is_reserved_for, user};
use knarr_client::{call, errors, meta};

use super::Step;
use crate::pod::PodInfo;

/// Others may write beside this: a driver that reports, the controller that takes users out.
const TRIES: usize = 5;

#[derive(Debug, thiserror::Error)]
pub enum BindError {
    #[error("claim {claim} got deleted in the meantime")]
    Deleted { claim: String },
    #[error("claim {claim} got allocated elsewhere in the meantime")]
    Allocated { claim: String },
    #[error("{what} claim {claim}: {}", errors::message(source))]
    Api {
        what: &'static str,
        claim: String,
        /// Of the claim as it was before.
        version: u64,
        source: kube::Error,
    },
}

impl BindError {
    /// The version that was written to, where it is not certain that nothing came of it.
    pub fn doubt(&self) -> Option<u64> {
        match self {
            Self::Api { source, version, .. } => {
                let is_refused = errors::code(source).is_some_and(|code| (400..500).contains(&code));
                (!is_refused).then_some(*version)
            }
            Self::Deleted { .. } | Self::Allocated { .. } => None,
        }
    }
}

/// Answers with the claim as it is then. The pod is bound only after that.
pub async fn write(client: &kube::Client, pod: &PodInfo, step: &Step) -> Result<ResourceClaim, BindError> {
    let mut claim = ResourceClaim::clone(&step.claim);
    let mut tries = 0;
    loop {
        tries += 1;
        let version = meta::version(&claim.metadata);
        match attempt(client, pod, step, claim).await {
            Err(BindError::Api { source, .. }) if errors::is_conflict(&source) && tries < TRIES => {}
            outcome => return outcome,
        }
        let name = step.key.to_string();
        let newest = call::get::<ResourceClaim>(client, &step.key.namespace, &step.key.name).await;
        let failed = |source| BindError::Api { what: "get updated", claim: name.clone(), version, source };
        claim = newest.map_err(failed)?.ok_or_else(|| BindError::Deleted { claim: name.clone() })?;
    }
}

async fn attempt(
    client: &kube::Client,
    pod: &PodInfo,
    step: &Step,
    mut claim: ResourceClaim,
) -> Result<ResourceClaim, BindError> {
    let name = step.key.to_string();
    let is_another = claim.metadata.uid != step.claim.metadata.uid;
    if claim.metadata.deletion_timestamp.is_some() || is_another {
        return Err(BindError::Deleted { claim: name });
    }
    let mut what = "add reservation to";
    if let Some(allocation) = &step.allocation {
        let there = claim.status.as_ref().and_then(|status| status.allocation.as_ref());
        // An attempt before may have been heard although its answer was lost.
        if there.is_some_and(|there| there != &**allocation) {
            return Err(BindError::Allocated { claim: step.key.to_string() });
        }
        if !meta::has_finalizer(&claim.metadata, FINALIZER) {
            claim.metadata.finalizers.get_or_insert_default().push(FINALIZER.to_owned());
            let version = meta::version(&claim.metadata);
            let name = step.key.to_string();
            let failed = |source| BindError::Api { what: "add finalizer to", claim: name, version, source };
            claim = call::replace(client, &claim).await.map_err(failed)?;
        }
        claim.status.get_or_insert_default().allocation = Some((**allocation).clone());
        what = "add allocation and reservation to";
    } else if !is_allocated(&claim) {
        return Err(BindError::Deleted { claim: step.key.to_string() });
    }
    if !is_reserved_for(&claim, &pod.uid) {
        let users = claim.status.get_or_insert_default().reserved_for.get_or_insert_default();
        users.push(user(&pod.object.metadata));
    }
    let version = meta::version(&claim.metadata);
    let failed = |source| BindError::Api { what, claim: name, version, source };
    call::replace_status(client, &claim).await.map_err(failed)
}

/// Takes its devices from a claim that nobody uses.
pub async fn give_up(client: &kube::Client, claim: &ResourceClaim) -> Result<(), kube::Error> {
    let mut free = claim.clone();
    let status = free.status.get_or_insert_default();
    (status.allocation, status.reserved_for) = (None, None);
    errors::optional(call::replace_status(client, &free).await).map(drop)
}
