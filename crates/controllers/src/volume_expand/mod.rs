//! Expansion: a bound claim that asks for more than it has. A directory has no size of its own, so for volumes of the
//! built-in provisioner the larger size is written and that is all; any other is its provisioner's to expand.
//! (<https://kubernetes.io/docs/concepts/storage/persistent-volumes/#expanding-persistent-volumes-claims>)

mod plan;
#[cfg(test)]
mod tests;

use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim};
use knarr_api::volume as rules;
use knarr_client::{Informer, ObjectKey, Outcome, WorkQueue, call, errors, meta, worker};
use serde_json::json;

use self::plan::Step;
use crate::{Context, Error};

pub const NAME: &str = "expand-controller";

pub async fn run(context: Context) {
    let context = Context { recorder: context.recorder.for_component("volume_expand"), ..context };
    let queue = WorkQueue::new(context.cancel.clone());
    let claims = context.informers.of::<PersistentVolumeClaim>();
    let volumes = context.informers.of::<PersistentVolume>();
    if !(claims.synced().await && volumes.synced().await) {
        return;
    }
    claims.feed(&queue, |change| {
        change.new.as_ref().filter(|claim| plan::wants_more(claim)).map(|c| ObjectKey::of(&**c))
    });
    worker::run(NAME, queue, 2, move |key| {
        let (context, claims, volumes) = (context.clone(), claims.clone(), volumes.clone());
        async move { reconcile(&context, &claims, &volumes, key).await }
    })
    .await;
}

async fn reconcile(
    context: &Context,
    claims: &Informer<PersistentVolumeClaim>,
    volumes: &Informer<PersistentVolume>,
    key: ObjectKey,
) -> Result<Outcome, Error> {
    let Some(claim) = claims.get(&key.namespace, &key.name) else { return Ok(Outcome::Done) };
    let name = claim.spec.as_ref().and_then(|spec| spec.volume_name.as_deref()).unwrap_or_default();
    let Some(volume) = volumes.get("", name) else { return Err(Error::NotYet("the claim's volume is not seen yet")) };
    let client = &context.client;
    match plan::next(&claim, &volume, context.clock.now()) {
        None => {}
        Some(Step::Elsewhere) => {
            let message = "didn't find a plugin capable of expanding the volume; waiting for an external controller to process this PVC";
            context.recorder.normal(&*claim, "ExternalExpanding", message);
        }
        Some(Step::Begin(status)) => {
            let message = format!("External resizer is resizing volume {name}");
            context.recorder.normal(&*claim, "Resizing", message);
            write_status(client, &claim, *status).await?;
        }
        Some(Step::Raise) => {
            let size = rules::requested(&claim).to_string();
            let patch = json!({"metadata": {"uid": volume.metadata.uid, "resourceVersion": volume.metadata.resource_version},
                "spec": {"capacity": {"storage": size}}});
            call::merge(client, &*volume, patch).await.map_err(Error::api("raising the volume's capacity"))?;
            return Ok(Outcome::Again);
        }
        Some(Step::Finish(status)) => {
            write_status(client, &claim, *status).await?;
            context.recorder.normal(&*claim, "VolumeResizeSuccessful", "Resize volume succeeded");
        }
    }
    Ok(Outcome::Done)
}

async fn write_status(
    client: &kube::Client,
    claim: &PersistentVolumeClaim,
    status: k8s_openapi::api::core::v1::PersistentVolumeClaimStatus,
) -> Result<(), Error> {
    let changed = PersistentVolumeClaim { status: Some(status), ..claim.clone() };
    let written = errors::optional(call::replace_status(client, &changed).await);
    written.map(drop).map_err(Error::api("writing the claim's status"))
}

fn is_ours(volume: &PersistentVolume) -> bool {
    meta::annotation(&volume.metadata, rules::PROVISIONED_BY) == Some(rules::LOCAL_PROVISIONER)
}
