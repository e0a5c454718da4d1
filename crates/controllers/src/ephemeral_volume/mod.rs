//! Makes the claims of generic ephemeral volumes: each is its pod's own, and goes with it.
//! (<https://kubernetes.io/docs/concepts/storage/ephemeral-volumes/#generic-ephemeral-volumes>)

use k8s_openapi::{api::core::v1::PersistentVolumeClaim, apimachinery::pkg::apis::meta::v1::ObjectMeta};
use knarr_api::volume as rules;
use knarr_client::{
    Informer, ObjectKey, Outcome, WorkQueue, call, errors,
    lean::{Pod, Volume},
    meta, worker,
};

use crate::{Context, Error};

pub const NAME: &str = "ephemeral-volume-controller";

pub async fn run(context: Context) {
    let queue = WorkQueue::new(context.cancel.clone());
    let (pods, claims) = (context.informers.of::<Pod>(), context.informers.of::<PersistentVolumeClaim>());
    if !(pods.synced().await && claims.synced().await) {
        return;
    }
    pods.feed(&queue, |change| {
        let pod = change.new.as_ref().filter(|pod| own_volumes(pod).next().is_some())?;
        Some(ObjectKey::of(&**pod))
    });
    // A claim that went away is made again, and one of another pod may have made room.
    claims.feed(&queue, |change| {
        let claim = change.latest();
        let owner = meta::controller_of(&claim.metadata).filter(|owner| change.is_deletion() && owner.kind == "Pod");
        owner.map(|owner| ObjectKey::new(meta::namespace(&claim.metadata), &owner.name))
    });
    worker::run(NAME, queue, 4, move |key| {
        let (context, pods, claims) = (context.clone(), pods.clone(), claims.clone());
        async move { reconcile(&context, &pods, &claims, key).await }
    })
    .await;
}

fn own_volumes(pod: &Pod) -> impl Iterator<Item = &Volume> {
    let volumes = pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten());
    volumes.filter(|volume| volume.ephemeral.is_some())
}

async fn reconcile(
    context: &Context,
    pods: &Informer<Pod>,
    claims: &Informer<PersistentVolumeClaim>,
    key: ObjectKey,
) -> Result<Outcome, Error> {
    let Some(pod) = pods.get(&key.namespace, &key.name) else { return Ok(Outcome::Done) };
    if pod.metadata.deletion_timestamp.is_some() {
        return Ok(Outcome::Done);
    }
    for volume in own_volumes(&pod) {
        let name = rules::own_claim_name(&pod.metadata, &volume.name);
        match claims.get(&key.namespace, &name) {
            Some(claim) if rules::is_made_for(&claim, &pod.metadata) => {}
            Some(_) => {
                let why = format!("PVC {0}/{name} was not created for pod {key} (pod is not owner)", key.namespace);
                let message = format!("ephemeral volume {}: {why}", volume.name);
                context.recorder.warning(&*pod, "FailedBinding", message);
            }
            None => {
                let made = call::create(&context.client, &claim(&pod, volume, name)).await;
                match made {
                    Ok(_) => {}
                    // The cache lags; whose it is shows at the next look.
                    Err(error) if errors::is_already_exists(&error) => return Ok(Outcome::Again),
                    Err(error) if errors::is_namespace_terminating(&error) => return Ok(Outcome::Done),
                    Err(source) => {
                        let message = format!("ephemeral volume {}: {}", volume.name, errors::message(&source));
                        context.recorder.warning(&*pod, "FailedBinding", message);
                        return Err(Error::Api { what: "making the claim of an ephemeral volume", source });
                    }
                }
            }
        }
    }
    Ok(Outcome::Done)
}

fn claim(pod: &Pod, volume: &Volume, name: String) -> PersistentVolumeClaim {
    let template = volume.ephemeral.as_ref().and_then(|source| source.volume_claim_template.clone());
    let template = template.unwrap_or_default();
    let written = template.metadata.unwrap_or_default();
    PersistentVolumeClaim {
        metadata: ObjectMeta {
            name: Some(name),
            namespace: pod.metadata.namespace.clone(),
            labels: written.labels,
            annotations: written.annotations,
            owner_references: Some(vec![meta::controller_reference(pod)]),
            ..ObjectMeta::default()
        },
        spec: Some(template.spec),
        status: None,
    }
}
