//! Claims of devices: those that pods ask for by a template are made, and those that no pod uses any more give their
//! devices back. Who gets which devices the scheduler decides.
//! (<https://kubernetes.io/docs/concepts/scheduling-eviction/dynamic-resource-allocation/>)

mod claim;
mod plan;
mod pod;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use k8s_openapi::api::resource::v1::{ResourceClaim, ResourceClaimTemplate};
use knarr_api::device::{ClaimName, claim_name};
use knarr_client::{Informer, ObjectKey, WorkQueue, lean::Pod, meta, worker};

use crate::Context;

pub const NAME: &str = "resource-claim-controller";

/// What both of its workers look at.
struct Caches {
    pods: Informer<Pod>,
    claims: Informer<ResourceClaim>,
    templates: Informer<ResourceClaimTemplate>,
}

pub async fn run(context: Context) {
    let caches = Arc::new(Caches {
        pods: context.informers.of(),
        claims: context.informers.of(),
        templates: context.informers.of(),
    });
    if !(caches.pods.synced().await && caches.claims.synced().await && caches.templates.synced().await) {
        return;
    }
    let (pods, claims) = (WorkQueue::new(context.cancel.clone()), WorkQueue::new(context.cancel.clone()));
    caches.pods.feed(&pods, |change| {
        let pod = Some(change.latest()).filter(|pod| has_claims(pod))?;
        Some(ObjectKey::of(&**pod))
    });
    caches.pods.feed(&claims, |change| {
        let pod = change.latest();
        let is_over = change.is_deletion() || plan::is_done(pod);
        is_over.then(|| claims_of(pod)).into_iter().flatten().collect::<Vec<_>>()
    });
    caches.claims.feed_keys(&claims);
    // One that is gone is made again, and one that is there has to be written into the pod's status.
    caches.claims.feed(&pods, |change| {
        let claim = change.latest();
        let owner = meta::controller_of(&claim.metadata).filter(|owner| owner.kind == "Pod");
        owner.map(|owner| ObjectKey::new(meta::namespace(&claim.metadata), &owner.name))
    });
    let all = caches.clone();
    caches.templates.feed(&pods, move |change| {
        let template = change.latest();
        let waiting = all.pods.in_namespace(meta::namespace(&template.metadata)).into_iter();
        let name = template.metadata.name.clone();
        let names_it = move |pod: &Arc<Pod>| {
            let mut claims = pod.spec.iter().flat_map(|spec| spec.resource_claims.iter().flatten());
            claims.any(|claim| claim.resource_claim_template_name == name)
        };
        waiting.filter(names_it).map(|pod| ObjectKey::of(&*pod)).collect::<Vec<_>>()
    });
    let maker = Arc::new(pod::Maker::new(context.clone(), caches.clone()));
    let make = worker::run(NAME, pods, 4, move |key| {
        let maker = maker.clone();
        async move { maker.reconcile(key).await }
    });
    let release = worker::run(NAME, claims, 4, move |key| {
        let (context, caches) = (context.clone(), caches.clone());
        async move { claim::reconcile(&context, &caches, key).await }
    });
    tokio::join!(make, release);
}

fn has_claims(pod: &Pod) -> bool {
    pod.spec.as_ref().is_some_and(|spec| spec.resource_claims.as_ref().is_some_and(|claims| !claims.is_empty()))
}

/// The claims of a pod that are known by name.
fn claims_of(pod: &Pod) -> Vec<ObjectKey> {
    let statuses = pod.status.as_ref().and_then(|status| status.resource_claim_statuses.as_deref());
    let claims = pod.spec.iter().flat_map(|spec| spec.resource_claims.iter().flatten());
    let names = claims.filter_map(|claim| match claim_name(claim, statuses.unwrap_or_default()) {
        ClaimName::Named(name) | ClaimName::Made(name) => Some(name),
        ClaimName::NotNeeded | ClaimName::NotYet => None,
    });
    names.map(|name| ObjectKey::new(meta::namespace(&pod.metadata), name)).collect()
}
