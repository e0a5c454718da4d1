//! The claims of a StatefulSet's pods: made before their pod, and let go of as the set's retention policy says.
//! (<https://kubernetes.io/docs/concepts/workloads/controllers/statefulset/#persistentvolumeclaim-retention>)

use k8s_openapi::{
    api::{apps::v1::StatefulSet, core::v1::PersistentVolumeClaim},
    apimachinery::pkg::apis::meta::v1::OwnerReference,
};
use knarr_client::{Informer, call, errors, lean::Pod, meta};

use super::identity;
use crate::{Context, Error};

/// Whose end ends a claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keeper {
    Nobody,
    Set,
    Pod,
}

/// `is_condemned`: the pod is about to go because the set got smaller.
pub fn keeper(set: &StatefulSet, is_condemned: bool) -> Keeper {
    let policy = set.spec.as_ref().and_then(|spec| spec.persistent_volume_claim_retention_policy.clone());
    let policy = policy.unwrap_or_default();
    let deletes = |when: Option<String>| when.as_deref() == Some("Delete");
    if is_condemned && deletes(policy.when_scaled) {
        Keeper::Pod
    } else if deletes(policy.when_deleted) {
        Keeper::Set
    } else {
        Keeper::Nobody
    }
}

/// The claim's owners with the keeper it is to have: references to the set and to pods of this name are this
/// controller's own, others stay.
fn owners(
    set: &StatefulSet,
    pod: Option<&Pod>,
    pod_name: &str,
    claim: &PersistentVolumeClaim,
    keeper: Keeper,
) -> Vec<OwnerReference> {
    let is_ours = |owner: &OwnerReference| {
        owner.uid == meta::uid(&set.metadata) || (owner.kind == "Pod" && owner.name == pod_name)
    };
    let mut owners: Vec<_> =
        claim.metadata.owner_references.iter().flatten().filter(|owner| !is_ours(owner)).cloned().collect();
    match keeper {
        Keeper::Nobody => {}
        Keeper::Set => owners.push(meta::controller_reference(set)),
        Keeper::Pod => owners.extend(pod.map(meta::controller_reference)),
    }
    owners
}

/// Makes the claims of a pod that are missing.
pub async fn make(
    context: &Context,
    claims: &Informer<PersistentVolumeClaim>,
    set: &StatefulSet,
    ordinal: i32,
) -> Result<(), Error> {
    for mut claim in identity::claims(set, ordinal) {
        let (namespace, name) = (meta::namespace(&claim.metadata), meta::name(&claim.metadata).to_owned());
        if let Some(there) = claims.get(namespace, &name) {
            if there.metadata.deletion_timestamp.is_some() {
                return Err(Error::NotYet("a claim of the pod is being deleted"));
            }
            continue;
        }
        let pod_name = identity::pod_name(set, ordinal);
        let owners = owners(set, None, &pod_name, &claim, keeper(set, false));
        claim.metadata.owner_references = Some(owners).filter(|owners| !owners.is_empty());
        let about = format!("Claim {name} Pod {pod_name} in StatefulSet {}", meta::name(&set.metadata));
        match call::create(&context.client, &claim).await {
            Ok(_) => context.recorder.normal(set, "SuccessfulCreate", format!("create {about} success")),
            // The cache is behind.
            Err(error) if errors::is_already_exists(&error) => {}
            Err(error) => {
                let message = format!("create {about} failed error: {}", errors::message(&error));
                context.recorder.warning(set, "FailedCreate", message);
                return Err(Error::Api { what: "creating a claim", source: error });
            }
        }
    }
    Ok(())
}

/// Gives the claims of a pod the owner that they are to have.
pub async fn hand_over(
    context: &Context,
    claims: &Informer<PersistentVolumeClaim>,
    set: &StatefulSet,
    (ordinal, pod): (i32, &Pod),
    keeper: Keeper,
) -> Result<(), Error> {
    for claim in identity::claims(set, ordinal) {
        let there = claims.get(meta::namespace(&claim.metadata), meta::name(&claim.metadata));
        let Some(there) = there.filter(|there| there.metadata.deletion_timestamp.is_none()) else { continue };
        let owners = owners(set, Some(pod), meta::name(&pod.metadata), &there, keeper);
        if there.metadata.owner_references.as_deref().unwrap_or_default() == owners {
            continue;
        }
        let mut changed = (*there).clone();
        changed.metadata.owner_references = Some(owners).filter(|owners| !owners.is_empty());
        let written = errors::optional(call::replace(&context.client, &changed).await);
        written.map_err(Error::api("changing who owns a claim"))?;
    }
    Ok(())
}
