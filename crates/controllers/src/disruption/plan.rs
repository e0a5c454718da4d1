//! A budget's numbers. Pure.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::{
    api::policy::v1::{PodDisruptionBudget, PodDisruptionBudgetStatus},
    apimachinery::pkg::{
        apis::meta::v1::{Condition, Time},
        util::intstr::IntOrString,
    },
};
use knarr_api::selector::LabelSelector;
use knarr_client::{lean::Pod, meta};

use crate::common::{
    intstr::{Round, resolve},
    pods, selector,
};

/// A pod whose eviction was granted but that is still there after this long was not evicted after all.
const GRANT: SignedDuration = SignedDuration::from_mins(2);
const ALLOWED: &str = "DisruptionAllowed";

/// An empty selector protects every pod of the namespace; none protects nothing.
pub fn selector(budget: &PodDisruptionBudget) -> Option<LabelSelector> {
    selector::of(budget.spec.as_ref()?.selector.as_ref()?).ok()
}

/// `scale` is how many pods the owners want, or why that is not known. Also answers when to look again.
pub fn status(
    budget: &PodDisruptionBudget,
    selected: &[Arc<Pod>],
    scale: Result<i32, String>,
    now: Timestamp,
) -> (PodDisruptionBudgetStatus, Option<Duration>) {
    let before = budget.status.clone().unwrap_or_default();
    let (disrupted, again) = still_disrupted(before.disrupted_pods.unwrap_or_default(), selected, now);
    let is_healthy = |pod: &&Arc<Pod>| {
        pods::is_ready(pod) && !pods::is_terminating(pod) && !disrupted.contains_key(meta::name(&pod.metadata))
    };
    let healthy = selected.iter().filter(is_healthy).count() as i32;
    let (expected, desired, failure) = match numbers(budget, selected.len() as i32, scale) {
        Ok((expected, desired)) => (expected, desired, None),
        Err(why) => (before.expected_pods.unwrap_or(0), before.desired_healthy.unwrap_or(0), Some(why)),
    };
    let allowed = if expected <= 0 || failure.is_some() { 0 } else { (healthy - desired).max(0) };
    let (truth, reason, message) = match failure {
        Some(why) => ("False", "SyncFailed", why),
        None if allowed > 0 => ("True", "SufficientPods", String::new()),
        None => ("False", "InsufficientPods", String::new()),
    };
    let status = PodDisruptionBudgetStatus {
        current_healthy: Some(healthy),
        desired_healthy: Some(desired),
        expected_pods: Some(expected),
        disruptions_allowed: Some(allowed),
        disrupted_pods: Some(disrupted).filter(|disrupted| !disrupted.is_empty()),
        observed_generation: budget.metadata.generation,
        conditions: Some(conditions(budget, before.conditions, (truth, reason, message), now)),
    };
    (status, again)
}

/// A share of the pods, or how many may be missing, means nothing without knowing how many there ought to be.
pub fn needs_scale(budget: &PodDisruptionBudget) -> bool {
    let spec = budget.spec.clone().unwrap_or_default();
    spec.max_unavailable.is_some() || matches!(spec.min_available, Some(IntOrString::String(_)))
}

/// (expected, desired healthy)
fn numbers(budget: &PodDisruptionBudget, pods: i32, scale: Result<i32, String>) -> Result<(i32, i32), String> {
    let spec = budget.spec.clone().unwrap_or_default();
    if let Some(unavailable) = spec.max_unavailable {
        let expected = scale?;
        return Ok((expected, (expected - resolve(&unavailable, expected, Round::Up)).max(0)));
    }
    match spec.min_available {
        Some(IntOrString::Int(number)) => Ok((pods, number)),
        Some(percentage) => {
            let expected = scale?;
            Ok((expected, resolve(&percentage, expected, Round::Up)))
        }
        None => Ok((pods, 0)),
    }
}

/// Evictions that were granted and have not shown yet.
fn still_disrupted(
    granted: BTreeMap<String, Time>,
    selected: &[Arc<Pod>],
    now: Timestamp,
) -> (BTreeMap<String, Time>, Option<Duration>) {
    let is_there =
        |name: &str| selected.iter().any(|pod| meta::name(&pod.metadata) == name && !pods::is_terminating(pod));
    let left = |at: &Time| Duration::try_from(GRANT - now.duration_since(at.0)).ok().filter(|left| !left.is_zero());
    let mut still = granted;
    still.retain(|name, at| is_there(name) && left(at).is_some());
    let again = still.values().filter_map(left).min();
    (still, again)
}

fn conditions(
    budget: &PodDisruptionBudget,
    before: Option<Vec<Condition>>,
    (truth, reason, message): (&str, &str, String),
    now: Timestamp,
) -> Vec<Condition> {
    let mut conditions = before.unwrap_or_default();
    let known = conditions.iter().position(|condition| condition.type_ == ALLOWED);
    let same = known.map(|at| &conditions[at]).filter(|known| known.status == truth);
    let since = same.map(|known| known.last_transition_time.clone());
    let new = Condition {
        type_: ALLOWED.to_owned(),
        status: truth.to_owned(),
        reason: reason.to_owned(),
        message,
        observed_generation: budget.metadata.generation,
        last_transition_time: since.unwrap_or(Time(now)),
    };
    match known {
        Some(at) => conditions[at] = new,
        None => conditions.push(new),
    }
    conditions
}
