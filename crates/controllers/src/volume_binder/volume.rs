//! What becomes of one volume. Pure.

use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim};
use knarr_api::volume as rules;
use knarr_client::meta;

#[derive(Debug)]
pub enum Fate {
    Stay,
    Phase(&'static str),
    /// Its claim has still to name it.
    BindClaim,
    /// Its claim has another: without this reference it is free, or kept for the claim by its user alone.
    Unbind(Box<PersistentVolume>),
    /// Its claim is gone.
    Release,
}

pub fn phase(volume: &PersistentVolume) -> &str {
    volume.status.as_ref().and_then(|status| status.phase.as_deref()).unwrap_or_default()
}

/// `claim` is the one of the name that the volume says, as it is now.
pub fn fate(volume: &PersistentVolume, claim: Option<&PersistentVolumeClaim>) -> Fate {
    let become_ = |wanted| if phase(volume) == wanted { Fate::Stay } else { Fate::Phase(wanted) };
    let reference = volume.spec.as_ref().and_then(|spec| spec.claim_ref.as_ref());
    let uid = reference.and_then(|reference| reference.uid.as_deref()).unwrap_or_default();
    if uid.is_empty() {
        return become_("Available");
    }
    // One that came after the volume's own, under the same name, has nothing to do with it.
    let Some(claim) = claim.filter(|claim| claim.metadata.uid.as_deref() == Some(uid)) else { return Fate::Release };
    let named = claim.spec.as_ref().and_then(|spec| spec.volume_name.as_deref()).unwrap_or_default();
    if named.is_empty() {
        return Fate::BindClaim;
    }
    if named == meta::name(&volume.metadata) {
        return become_("Bound");
    }
    if rules::provisioned_by(volume).is_some() && policy(volume) == "Delete" {
        return Fate::Release;
    }
    let mut unbound = volume.clone();
    let by_controller = unbound.metadata.annotations.get_or_insert_default().remove(rules::BOUND_BY_CONTROLLER);
    let spec = unbound.spec.get_or_insert_default();
    match (by_controller, &mut spec.claim_ref) {
        (None, Some(reference)) => (reference.uid, reference.resource_version) = (None, None),
        _ => spec.claim_ref = None,
    }
    Fate::Unbind(Box::new(unbound))
}

fn policy(volume: &PersistentVolume) -> &str {
    let policy = volume.spec.as_ref().and_then(|spec| spec.persistent_volume_reclaim_policy.as_deref());
    policy.unwrap_or("Retain")
}

/// Why the volume cannot be reclaimed as it asks for: an event's reason and message. What was provisioned is deleted by
/// whoever made it, and a retained one waits for its administrator.
pub fn cannot_reclaim(volume: &PersistentVolume) -> Option<(&'static str, String)> {
    match policy(volume) {
        "Retain" => None,
        "Recycle" => Some(("VolumeFailedRecycle", "No recycler plugin found for the volume!".to_owned())),
        _ if rules::provisioned_by(volume).is_some() => None,
        _ => {
            let name = meta::name(&volume.metadata);
            let why = "no deletable volume plugin matched";
            Some(("VolumeFailedDelete", format!("error getting deleter volume plugin for volume {name:?}: {why}")))
        }
    }
}
