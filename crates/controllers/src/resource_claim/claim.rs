//! Takes those from a claim's users that are gone, and its devices where that was the last one.

use k8s_openapi::api::resource::v1::{ResourceClaim, ResourceClaimConsumerReference};
use knarr_api::device::users;
use knarr_client::{ObjectKey, Outcome, call, errors, lean::Pod, meta};
use kube::api::DeleteParams;

use super::{Caches, plan};
use crate::{Context, Error};

pub async fn reconcile(context: &Context, caches: &Caches, key: ObjectKey) -> Result<Outcome, Error> {
    let Some(claim) = caches.claims.get(&key.namespace, &key.name) else { return Ok(Outcome::Done) };
    let mut left = Vec::new();
    for user in users(&claim) {
        if stays(context, caches, &key.namespace, user).await? {
            left.push(user.clone());
        }
    }
    let is_used = !left.is_empty();
    let mut claim = ResourceClaim::clone(&claim);
    if let Some(released) = plan::release(&claim, left) {
        // Whole, so that it fails where anything changed meanwhile.
        let written = call::replace_status(&context.client, &released).await;
        let written = errors::optional(written).map_err(Error::api("releasing a claim"))?;
        let Some(written) = written else { return Ok(Outcome::Done) };
        claim = written;
        if let Some(unlocked) = plan::unlock(&claim) {
            let written = call::replace(&context.client, &unlocked).await;
            errors::optional(written).map_err(Error::api("removing the finalizer of a claim"))?;
        }
    }
    if !is_used && was_made_for_nothing(caches, &claim) {
        let deleted = call::delete(&context.client, &claim, DeleteParams::default()).await;
        deleted.map_err(Error::api("deleting the claim of a pod that is done"))?;
    }
    Ok(Outcome::Done)
}

async fn stays(
    context: &Context,
    caches: &Caches,
    namespace: &str,
    user: &ResourceClaimConsumerReference,
) -> Result<bool, Error> {
    let is_pod = user.resource == "pods" && user.api_group.as_deref().unwrap_or_default().is_empty();
    if !is_pod {
        // What it is nobody here can know.
        return Ok(true);
    }
    let is_it = |pod: &Pod| pod.metadata.uid.as_deref() == Some(&user.uid);
    if let Some(pod) = caches.pods.get(namespace, &user.name) {
        return Ok(is_it(&pod) && !plan::is_done(&pod));
    }
    // The cache may lag behind the scheduler, which has seen the pod.
    let pod = call::get::<Pod>(&context.client, namespace, &user.name).await;
    Ok(pod.map_err(Error::api("reading the user of a claim"))?.is_some_and(|pod| is_it(&pod)))
}

/// Its pod will not run any more, and may still be there for a while. Where the pod is gone the garbage collector
/// deletes the claim.
fn was_made_for_nothing(caches: &Caches, claim: &ResourceClaim) -> bool {
    let owner = meta::controller_of(&claim.metadata).filter(|owner| owner.kind == "Pod" && owner.api_version == "v1");
    owner.is_some_and(|owner| {
        let pod = caches.pods.get(meta::namespace(&claim.metadata), &owner.name);
        pod.is_some_and(|pod| pod.metadata.uid.as_deref() != Some(&owner.uid) || plan::is_done(&pod))
    })
}
