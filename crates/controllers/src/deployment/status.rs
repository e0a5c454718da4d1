//! A Deployment's counts and conditions, in upstream's words: `kubectl rollout status` reads them.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::{
    api::apps::v1::{Deployment, DeploymentCondition, DeploymentStatus, ReplicaSet},
    apimachinery::pkg::apis::meta::v1::Time,
};
use knarr_client::meta;

use super::scale;
use crate::common::unless_zero;

const PROGRESSING: &str = "Progressing";
const AVAILABLE: &str = "Available";
const REPLICA_FAILURE: &str = "ReplicaFailure";
const NEW_AVAILABLE: &str = "NewReplicaSetAvailable";
const TIMED_OUT: &str = "ProgressDeadlineExceeded";

/// The counts, and whether enough is available; other conditions as they are in `base`.
pub fn count(
    deployment: &Deployment,
    base: &DeploymentStatus,
    new: Option<&ReplicaSet>,
    old: &[&ReplicaSet],
    now: Timestamp,
) -> DeploymentStatus {
    let sets = || old.iter().copied().chain(new);
    let status_of = |set: &ReplicaSet| set.status.clone().unwrap_or_default();
    let available: i32 = sets().map(scale::available).sum();
    let asked: i32 = sets().map(scale::replicas).sum();
    let mut status = DeploymentStatus {
        observed_generation: deployment.metadata.generation,
        replicas: unless_zero(sets().map(|set| status_of(set).replicas).sum()),
        updated_replicas: unless_zero(new.map_or(0, |set| status_of(set).replicas)),
        ready_replicas: unless_zero(sets().map(|set| status_of(set).ready_replicas.unwrap_or(0)).sum()),
        available_replicas: unless_zero(available),
        unavailable_replicas: unless_zero((asked - available).max(0)),
        terminating_replicas: Some(sets().map(|set| status_of(set).terminating_replicas.unwrap_or(0)).sum()),
        collision_count: base.collision_count,
        conditions: base.conditions.clone(),
    };
    let enough = available >= scale::wanted(deployment) - scale::Limits::of(deployment).max_unavailable;
    if enough {
        set(&mut status, AVAILABLE, "True", "MinimumReplicasAvailable", "Deployment has minimum availability.", now);
    } else {
        let message = "Deployment does not have minimum availability.";
        set(&mut status, AVAILABLE, "False", "MinimumReplicasUnavailable", message, now);
    }
    status
}

pub fn has_deadline(deployment: &Deployment) -> bool {
    deadline(deployment).is_some()
}

/// The largest number means no deadline.
fn deadline(deployment: &Deployment) -> Option<SignedDuration> {
    let seconds = deployment.spec.as_ref().and_then(|spec| spec.progress_deadline_seconds)?;
    (seconds != i32::MAX).then(|| SignedDuration::from_secs(i64::from(seconds)))
}

pub fn is_complete(deployment: &Deployment, status: &DeploymentStatus) -> bool {
    let wanted = scale::wanted(deployment);
    status.updated_replicas.unwrap_or(0) == wanted
        && status.replicas.unwrap_or(0) == wanted
        && status.available_replicas.unwrap_or(0) == wanted
        && status.observed_generation >= deployment.metadata.generation
}

pub fn note_pause(status: &mut DeploymentStatus, paused: bool, now: Timestamp) {
    let reason = get(status, PROGRESSING).and_then(|condition| condition.reason.as_deref());
    let noted = reason == Some("DeploymentPaused");
    if reason == Some(TIMED_OUT) || paused == noted {
        return;
    }
    let (reason, message) = if paused {
        ("DeploymentPaused", "Deployment is paused")
    } else {
        ("DeploymentResumed", "Deployment is resumed")
    };
    set(status, PROGRESSING, "Unknown", reason, message, now);
}

/// The wished-for ReplicaSet was found, where nothing is known of progress yet, or made.
pub fn note_new_set(status: &mut DeploymentStatus, name: &str, found: bool, now: Timestamp) {
    if !found {
        let message = format!("Created new replica set {name:?}");
        set(status, PROGRESSING, "True", "NewReplicaSetCreated", &message, now);
    } else if get(status, PROGRESSING).is_none() {
        set(status, PROGRESSING, "True", "FoundNewReplicaSet", &format!("Found new replica set {name:?}"), now);
    }
}

/// Compares `status` with what the Deployment has: complete, progressing, or stuck for too long.
pub fn note_progress(deployment: &Deployment, status: &mut DeploymentStatus, new: Option<&ReplicaSet>, now: Timestamp) {
    let Some(deadline) = deadline(deployment) else {
        remove(status, PROGRESSING);
        return;
    };
    let known = get(status, PROGRESSING).cloned();
    let reason = known.as_ref().and_then(|condition| condition.reason.as_deref());
    if status.replicas == status.updated_replicas && reason == Some(NEW_AVAILABLE) {
        return;
    }
    let subject = match new {
        Some(set) => format!("ReplicaSet {:?}", meta::name(&set.metadata)),
        None => format!("Deployment {:?}", meta::name(&deployment.metadata)),
    };
    let before = deployment.status.clone().unwrap_or_default();
    if is_complete(deployment, status) {
        set(status, PROGRESSING, "True", NEW_AVAILABLE, &format!("{subject} has successfully progressed."), now);
    } else if moved(&before, status) {
        let mut condition =
            condition(PROGRESSING, "True", "ReplicaSetUpdated", &format!("{subject} is progressing."), now);
        // Every step counts as an update, so that the deadline starts anew.
        if let Some(known) = known.filter(|known| known.status == "True") {
            condition.last_transition_time = known.last_transition_time;
        }
        remove(status, PROGRESSING);
        status.conditions.get_or_insert_default().push(condition);
    } else if let Some(known) = known
        && reason_is_open(&known)
        && known.last_update_time.is_some_and(|since| now.duration_since(since.0) > deadline)
    {
        set(status, PROGRESSING, "False", TIMED_OUT, &format!("{subject} has timed out progressing."), now);
    }
}

/// A rollout that is neither finished nor given up.
fn reason_is_open(condition: &DeploymentCondition) -> bool {
    !matches!(condition.reason.as_deref(), Some(NEW_AVAILABLE | TIMED_OUT))
}

fn moved(before: &DeploymentStatus, after: &DeploymentStatus) -> bool {
    let count = |count: Option<i32>| count.unwrap_or(0);
    let old = |status: &DeploymentStatus| count(status.replicas) - count(status.updated_replicas);
    count(after.updated_replicas) > count(before.updated_replicas)
        || old(after) < old(before)
        || count(after.ready_replicas) > count(before.ready_replicas)
        || count(after.available_replicas) > count(before.available_replicas)
}

/// Takes over why pods could not be made, the new set's reason before an old one's.
pub fn note_failure(status: &mut DeploymentStatus, new: Option<&ReplicaSet>, old: &[ReplicaSet], now: Timestamp) {
    let failure = new.into_iter().chain(old).find_map(|set| {
        set.status.as_ref()?.conditions.iter().flatten().find(|condition| condition.type_ == REPLICA_FAILURE)
    });
    match failure {
        Some(failure) => {
            let (reason, message) =
                (failure.reason.as_deref().unwrap_or_default(), failure.message.as_deref().unwrap_or_default());
            set(status, REPLICA_FAILURE, &failure.status, reason, message, now);
        }
        None => remove(status, REPLICA_FAILURE),
    }
}

/// True where the Deployment's status changed.
pub fn set_create_error(deployment: &mut Deployment, message: &str, now: Timestamp) -> bool {
    let before = deployment.status.clone();
    if has_deadline(deployment) {
        let status = deployment.status.get_or_insert_default();
        set(status, PROGRESSING, "False", "ReplicaSetCreateError", message, now);
    }
    deployment.status != before
}

/// When the deadline will have passed: no event tells of that.
pub fn look_again(deployment: &Deployment, status: &DeploymentStatus, now: Timestamp) -> Option<Duration> {
    let deadline = deadline(deployment)?;
    let condition = get(status, PROGRESSING).filter(|condition| reason_is_open(condition))?;
    if is_complete(deployment, status) {
        return None;
    }
    let left = deadline - now.duration_since(condition.last_update_time.as_ref()?.0);
    Some(super::wait(left) + Duration::from_secs(1))
}

fn get<'a>(status: &'a DeploymentStatus, kind: &str) -> Option<&'a DeploymentCondition> {
    status.conditions.iter().flatten().find(|condition| condition.type_ == kind)
}

fn condition(kind: &str, status: &str, reason: &str, message: &str, now: Timestamp) -> DeploymentCondition {
    DeploymentCondition {
        type_: kind.to_owned(),
        status: status.to_owned(),
        last_update_time: Some(Time(now)),
        last_transition_time: Some(Time(now)),
        reason: Some(reason.to_owned()),
        message: Some(message.to_owned()),
    }
}

/// Does nothing where status and reason are so already: times tell when that began.
fn set(status: &mut DeploymentStatus, kind: &str, truth: &str, reason: &str, message: &str, now: Timestamp) {
    let mut new = condition(kind, truth, reason, message, now);
    if let Some(known) = get(status, kind) {
        if known.status == truth && known.reason.as_deref() == Some(reason) {
            return;
        }
        if known.status == truth {
            new.last_transition_time = known.last_transition_time.clone();
        }
    }
    remove(status, kind);
    status.conditions.get_or_insert_default().push(new);
}

fn remove(status: &mut DeploymentStatus, kind: &str) {
    if let Some(conditions) = &mut status.conditions {
        conditions.retain(|condition| condition.type_ != kind);
        if conditions.is_empty() {
            status.conditions = None;
        }
    }
}
