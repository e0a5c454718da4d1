//! Keeps claims while pods use them, volumes while claims are bound to them, and classes of attributes while claims and
//! volumes name them: the finalizer that admission put on them goes when that is over.
//! (<https://kubernetes.io/docs/concepts/storage/persistent-volumes/#storage-object-in-use-protection>)

mod attributes;

use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim};
use knarr_client::{Informer, ObjectKey, Outcome, WorkQueue, call, errors, lean::Pod, meta, worker};
use kube::{Api, api::ListParams};

pub use attributes::{ATTRIBUTES, run_attributes};

use crate::{Context, Error};

pub const CLAIMS: &str = "pvc-protection-controller";
pub const VOLUMES: &str = "pv-protection-controller";
const CLAIM_FINALIZER: &str = "kubernetes.io/pvc-protection";
const VOLUME_FINALIZER: &str = "kubernetes.io/pv-protection";

pub async fn run_claims(context: Context) {
    let queue = WorkQueue::new(context.cancel.clone());
    let claims = context.informers.of::<PersistentVolumeClaim>();
    let pods = context.informers.of::<Pod>();
    if !(claims.synced().await && pods.synced().await) {
        return;
    }
    claims.feed_keys(&queue);
    pods.feed(&queue, |change| {
        let pod = change.latest();
        let namespace = meta::namespace(&pod.metadata).to_owned();
        // While it is there a pod keeps its claims, whatever becomes of it.
        let names: Vec<_> = change.is_deletion().then(|| pod.claims()).into_iter().flatten().collect();
        names.into_iter().map(move |(name, _)| ObjectKey::new(&namespace, name)).collect::<Vec<_>>()
    });
    worker::run(CLAIMS, queue, 2, move |key| {
        let (context, claims) = (context.clone(), claims.clone());
        async move { protect_claim(&context, &claims, key).await }
    })
    .await;
}

async fn protect_claim(
    context: &Context,
    claims: &Informer<PersistentVolumeClaim>,
    key: ObjectKey,
) -> Result<Outcome, Error> {
    let Some(claim) = claims.get(&key.namespace, &key.name) else { return Ok(Outcome::Done) };
    let is_protected = meta::has_finalizer(&claim.metadata, CLAIM_FINALIZER);
    let mut changed = PersistentVolumeClaim::clone(&claim);
    match (claim.metadata.deletion_timestamp.is_some(), is_protected) {
        (false, false) => changed.metadata.finalizers.get_or_insert_default().push(CLAIM_FINALIZER.to_owned()),
        (true, true) => {
            // A pod may have been bound a moment ago: the caches are not enough.
            let pods: Api<Pod> = Api::namespaced(context.client.clone(), &key.namespace);
            let pods = pods.list(&ListParams::default()).await.map_err(Error::api("listing pods"))?;
            if pods.items.iter().any(|pod| uses(pod, &key.name)) {
                return Ok(Outcome::Done);
            }
            remove(&mut changed.metadata.finalizers, CLAIM_FINALIZER);
        }
        _ => return Ok(Outcome::Done),
    }
    let written = errors::optional(call::replace(&context.client, &changed).await);
    written.map(|_| Outcome::Done).map_err(Error::api("writing the claim's finalizers"))
}

/// A pod without a node holds nothing: no node starts it while the claim is being deleted.
fn uses(pod: &Pod, claim: &str) -> bool {
    let has_node = pod.spec.as_ref().is_some_and(|spec| spec.node_name.as_deref().is_some_and(|name| !name.is_empty()));
    has_node && pod.uses_claim(claim)
}

pub async fn run_volumes(context: Context) {
    let queue = WorkQueue::new(context.cancel.clone());
    let volumes = context.informers.of::<PersistentVolume>();
    if !volumes.synced().await {
        return;
    }
    volumes.feed_keys(&queue);
    worker::run(VOLUMES, queue, 2, move |key: ObjectKey| {
        let (context, volumes) = (context.clone(), volumes.clone());
        async move {
            let Some(volume) = volumes.get("", &key.name) else { return Ok(Outcome::Done) };
            let is_protected = meta::has_finalizer(&volume.metadata, VOLUME_FINALIZER);
            let is_bound = volume.status.as_ref().and_then(|status| status.phase.as_deref()) == Some("Bound");
            let mut changed = PersistentVolume::clone(&volume);
            match (volume.metadata.deletion_timestamp.is_some(), is_protected) {
                (false, false) => changed.metadata.finalizers.get_or_insert_default().push(VOLUME_FINALIZER.to_owned()),
                (true, true) if !is_bound => remove(&mut changed.metadata.finalizers, VOLUME_FINALIZER),
                _ => return Ok(Outcome::Done),
            }
            let written = errors::optional(call::replace(&context.client, &changed).await);
            written.map(|_| Outcome::Done).map_err(Error::api("writing the volume's finalizers"))
        }
    })
    .await;
}

fn remove(finalizers: &mut Option<Vec<String>>, one: &str) {
    finalizers.iter_mut().for_each(|all| all.retain(|finalizer| finalizer != one));
}
