//! (<https://kubernetes.io/docs/concepts/storage/volume-attributes-classes/>)

use k8s_openapi::api::{
    core::v1::{PersistentVolume, PersistentVolumeClaim},
    storage::v1::VolumeAttributesClass,
};
use knarr_client::{Informer, ObjectKey, Outcome, WorkQueue, call, errors, meta, worker};

use super::remove;
use crate::{Context, Error};

pub const ATTRIBUTES: &str = "volumeattributesclass-protection-controller";
const FINALIZER: &str = "kubernetes.io/vac-protection";

/// Who may name a class.
#[derive(Clone)]
struct Users {
    claims: Informer<PersistentVolumeClaim>,
    volumes: Informer<PersistentVolume>,
}

impl Users {
    fn are_there(&self, class: &str) -> bool {
        self.claims.list().iter().any(|claim| of_claim(claim).any(|name| name == class))
            || self.volumes.list().iter().any(|volume| of_volume(volume) == Some(class))
    }
}

/// The class that it wants, that it has, and that it is about to get.
fn of_claim(claim: &PersistentVolumeClaim) -> impl Iterator<Item = &str> {
    let wanted = claim.spec.as_ref().and_then(|spec| spec.volume_attributes_class_name.as_deref());
    let status = claim.status.as_ref();
    let has = status.and_then(|status| status.current_volume_attributes_class_name.as_deref());
    let modified = status.and_then(|status| status.modify_volume_status.as_ref());
    let target = modified.and_then(|modified| modified.target_volume_attributes_class_name.as_deref());
    [wanted, has, target].into_iter().flatten().filter(|name| !name.is_empty())
}

fn of_volume(volume: &PersistentVolume) -> Option<&str> {
    let name = volume.spec.as_ref()?.volume_attributes_class_name.as_deref()?;
    (!name.is_empty()).then_some(name)
}

pub async fn run_attributes(context: Context) {
    let queue = WorkQueue::new(context.cancel.clone());
    let classes = context.informers.of::<VolumeAttributesClass>();
    let users = Users { claims: context.informers.of(), volumes: context.informers.of() };
    if !(classes.synced().await && users.claims.synced().await && users.volumes.synced().await) {
        return;
    }
    classes.feed_keys(&queue);
    let key = |name: &str| ObjectKey::new("", name);
    // A class is free when the last one lets go of it: what an object named before counts.
    users.claims.feed(&queue, move |change| {
        let both = [&change.old, &change.new].into_iter().flatten();
        both.flat_map(|claim| of_claim(claim)).map(key).collect::<Vec<_>>()
    });
    users.volumes.feed(&queue, move |change| {
        let both = [&change.old, &change.new].into_iter().flatten();
        both.filter_map(|volume| of_volume(volume)).map(key).collect::<Vec<_>>()
    });
    worker::run(ATTRIBUTES, queue, 1, move |key| {
        let (context, classes, users) = (context.clone(), classes.clone(), users.clone());
        async move { protect(&context, &classes, &users, key).await }
    })
    .await;
}

async fn protect(
    context: &Context,
    classes: &Informer<VolumeAttributesClass>,
    users: &Users,
    key: ObjectKey,
) -> Result<Outcome, Error> {
    let Some(class) = classes.get("", &key.name) else { return Ok(Outcome::Done) };
    let mut changed = VolumeAttributesClass::clone(&class);
    let finalizers = &mut changed.metadata.finalizers;
    match (class.metadata.deletion_timestamp.is_some(), meta::has_finalizer(&class.metadata, FINALIZER)) {
        (false, false) => finalizers.get_or_insert_default().push(FINALIZER.to_owned()),
        (true, true) if !users.are_there(&key.name) => remove(finalizers, FINALIZER),
        _ => return Ok(Outcome::Done),
    }
    let written = errors::optional(call::replace(&context.client, &changed).await);
    written.map(|_| Outcome::Done).map_err(Error::api("writing the class's finalizers"))
}
