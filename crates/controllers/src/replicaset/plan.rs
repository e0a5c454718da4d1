//! How many pods to make, or which to delete; and what the status says. Pure.

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;
use k8s_openapi::{
    api::apps::v1::{ReplicaSet, ReplicaSetCondition, ReplicaSetStatus},
    apimachinery::pkg::apis::meta::v1::Time,
};
use knarr_client::lean::Pod;

use crate::common::{pods, rank, selector, unless_zero};

/// So many pods at most are made or deleted in one go (upstream's BurstReplicas).
const BURST: usize = 500;
const REPLICA_FAILURE: &str = "ReplicaFailure";

#[derive(Debug)]
pub enum Step {
    Nothing,
    Create(usize),
    Delete(Vec<Arc<Pod>>),
}

/// Why a step did not go as wished.
pub struct Failure {
    /// `FailedCreate` or `FailedDelete`.
    pub reason: &'static str,
    pub message: String,
}

/// `pods` are those that belong to the set; `related` (asked for only when pods are to be deleted) those of its siblings.
pub fn step(set: &ReplicaSet, owned: &[Arc<Pod>], related: impl Fn() -> Vec<Arc<Pod>>, now: Timestamp) -> Step {
    let wanted = wanted(set);
    let mut active: Vec<_> = owned.iter().filter(|pod| pods::is_active(pod)).cloned().collect();
    if active.len() < wanted {
        return Step::Create((wanted - active.len()).min(BURST));
    }
    let excess = (active.len() - wanted).min(BURST);
    if excess == 0 {
        return Step::Nothing;
    }
    if excess < active.len() {
        rank::sort_by_deletion(&mut active, &related(), now);
    }
    active.truncate(excess);
    Step::Delete(active)
}

pub fn status(set: &ReplicaSet, owned: &[Arc<Pod>], failure: Option<Failure>, now: Timestamp) -> ReplicaSetStatus {
    let active: Vec<_> = owned.iter().filter(|pod| pods::is_active(pod)).collect();
    let count = |yes: &dyn Fn(&Pod) -> bool| active.iter().filter(|pod| yes(pod)).count() as i32;
    let labels = template_labels(set);
    let min_ready = min_ready_seconds(set);
    let terminating = owned.iter().filter(|pod| pods::is_terminating(pod) && !pods::is_terminal(pod)).count() as i32;
    ReplicaSetStatus {
        replicas: active.len() as i32,
        fully_labeled_replicas: unless_zero(count(&|pod| selector::is_subset(&labels, &pod.metadata))),
        ready_replicas: unless_zero(count(&pods::is_ready)),
        available_replicas: unless_zero(count(&|pod| pods::is_available(pod, min_ready, now))),
        terminating_replicas: Some(terminating),
        observed_generation: set.metadata.generation,
        conditions: conditions(set, failure, now),
    }
}

/// When to look again although nothing will have changed: pods that are ready become available by waiting.
pub fn recheck_after(
    set: &ReplicaSet,
    status: &ReplicaSetStatus,
    owned: &[Arc<Pod>],
    now: Timestamp,
) -> Option<Duration> {
    let min_ready = min_ready_seconds(set);
    if min_ready == 0 || status.ready_replicas == status.available_replicas {
        return None;
    }
    let due =
        owned.iter().filter(|pod| pods::is_active(pod)).filter_map(|pod| pods::ready_since(pod)).filter_map(|since| {
            let left = jiff::SignedDuration::from_secs(i64::from(min_ready)) - now.duration_since(since);
            Duration::try_from(left).ok().filter(|left| !left.is_zero())
        });
    due.min().map(|left| left + Duration::from_millis(50))
}

fn conditions(set: &ReplicaSet, failure: Option<Failure>, now: Timestamp) -> Option<Vec<ReplicaSetCondition>> {
    let old = set.status.iter().flat_map(|status| status.conditions.iter().flatten());
    let mut conditions: Vec<_> = old.clone().filter(|condition| condition.type_ != REPLICA_FAILURE).cloned().collect();
    if let Some(Failure { reason, message }) = failure {
        // One that is there already keeps its time and message, so that a failure that goes on is one write.
        let known = old.clone().find(|condition| condition.type_ == REPLICA_FAILURE);
        conditions.push(known.cloned().unwrap_or_else(|| ReplicaSetCondition {
            type_: REPLICA_FAILURE.to_owned(),
            status: "True".to_owned(),
            last_transition_time: Some(Time(now)),
            reason: Some(reason.to_owned()),
            message: Some(message),
        }));
    }
    (!conditions.is_empty()).then_some(conditions)
}

fn wanted(set: &ReplicaSet) -> usize {
    set.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1).max(0) as usize
}

pub fn min_ready_seconds(set: &ReplicaSet) -> i32 {
    set.spec.as_ref().and_then(|spec| spec.min_ready_seconds).unwrap_or(0)
}

fn template_labels(set: &ReplicaSet) -> std::collections::BTreeMap<String, String> {
    let template = set.spec.as_ref().and_then(|spec| spec.template.as_ref());
    template.and_then(|template| template.metadata.as_ref()?.labels.clone()).unwrap_or_default()
}
