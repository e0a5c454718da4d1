use jiff::Timestamp;
use k8s_openapi::{
    api::core::v1::{
        PersistentVolume, PersistentVolumeClaim, PersistentVolumeClaimCondition, PersistentVolumeClaimStatus,
    },
    apimachinery::pkg::apis::meta::v1::Time,
};
use knarr_api::{quantity::Quantity, volume as rules};

use super::is_ours;

const RESIZING: &str = "Resizing";

/// One write; the next follows from what the watches show then.
#[derive(Debug)]
pub enum Step {
    /// Others expand this kind of volume.
    Elsewhere,
    /// The claim says that it is being resized.
    Begin(Box<PersistentVolumeClaimStatus>),
    /// The volume gets the size that is asked for.
    Raise,
    /// The claim has it.
    Finish(Box<PersistentVolumeClaimStatus>),
}

pub fn wants_more(claim: &PersistentVolumeClaim) -> bool {
    rules::is_bound(claim) && claim.metadata.deletion_timestamp.is_none() && rules::requested(claim) > has(claim)
}

fn has(claim: &PersistentVolumeClaim) -> Quantity {
    rules::storage(claim.status.as_ref().and_then(|status| status.capacity.as_ref()))
}

pub fn next(claim: &PersistentVolumeClaim, volume: &PersistentVolume, now: Timestamp) -> Option<Step> {
    let status = claim.status.clone().unwrap_or_default();
    // Until the claim is bound in its status as well, its capacity is not known.
    if !wants_more(claim) || status.phase.as_deref() != Some("Bound") {
        return None;
    }
    if !is_ours(volume) {
        return Some(Step::Elsewhere);
    }
    let conditions = status.conditions.clone().unwrap_or_default();
    let wanted = rules::requested(claim);
    if rules::capacity(volume) < wanted {
        if conditions.iter().any(|condition| condition.type_ == RESIZING) {
            return Some(Step::Raise);
        }
        let begun = PersistentVolumeClaimCondition {
            type_: RESIZING.to_owned(),
            status: "True".to_owned(),
            last_transition_time: Some(Time(now)),
            ..PersistentVolumeClaimCondition::default()
        };
        let conditions = conditions.into_iter().chain([begun]).collect();
        return Some(Step::Begin(Box::new(PersistentVolumeClaimStatus { conditions: Some(conditions), ..status })));
    }
    let left: Vec<_> = conditions.into_iter().filter(|condition| condition.type_ != RESIZING).collect();
    let mut capacity = status.capacity.clone().unwrap_or_default();
    let size = k8s_openapi::apimachinery::pkg::api::resource::Quantity(rules::capacity(volume).to_string());
    capacity.insert("storage".to_owned(), size);
    Some(Step::Finish(Box::new(PersistentVolumeClaimStatus {
        capacity: Some(capacity),
        conditions: (!left.is_empty()).then_some(left),
        ..status
    })))
}
