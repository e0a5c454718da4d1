//! Exchanging pods of an old template for those of the new one, a few nodes at a time. Pure.
//! (<https://kubernetes.io/docs/tasks/manage-daemon/update-daemon-set/>)

use std::sync::Arc;

use k8s_openapi::{
    api::apps::v1::{DaemonSet, RollingUpdateDaemonSet},
    apimachinery::pkg::util::intstr::IntOrString,
};
use knarr_client::lean::Pod;

use super::plan::{Observed, Plan};
use crate::common::{
    intstr::{Round, resolve},
    pods,
};

fn rules(set: &DaemonSet) -> Option<RollingUpdateDaemonSet> {
    let strategy = set.spec.as_ref()?.update_strategy.clone().unwrap_or_default();
    (strategy.type_.as_deref() != Some("OnDelete")).then(|| strategy.rolling_update.unwrap_or_default())
}

fn surge(rules: &RollingUpdateDaemonSet, desired: i32) -> i32 {
    rules.max_surge.as_ref().map_or(0, |surge| resolve(surge, desired, Round::Up))
}

/// New pods start beside old ones.
pub fn surges(set: &DaemonSet) -> bool {
    rules(set).is_some_and(|rules| surge(&rules, 100) > 0)
}

/// What there is on a node that is to run a pod.
enum State<'a> {
    Old(&'a Arc<Pod>),
    New(&'a Arc<Pod>),
    Both {
        old: &'a Arc<Pod>,
        new: &'a Arc<Pod>,
    },
    /// None, or too many: not settled.
    Other,
}

fn state<'a>(seen: &Observed<'_>, there: &[&'a Arc<Pod>]) -> State<'a> {
    let alive = there.iter().copied().filter(|pod| !pods::is_terminating(pod));
    let (new, old): (Vec<_>, Vec<_>) = alive.partition(|pod| seen.is_current(pod));
    match (old.as_slice(), new.as_slice()) {
        ([old], []) => State::Old(old),
        ([], [new]) => State::New(new),
        ([old], [new]) => State::Both { old, new },
        _ => State::Other,
    }
}

/// `running` are the nodes that are to run a pod and have some, with those; nodes without any count as unavailable.
pub fn exchange(seen: &Observed<'_>, running: &[(&str, &[&Arc<Pod>])], plan: &mut Plan) {
    let Some(rules) = rules(seen.set) else { return };
    let desired = running.len() as i32;
    if surge(&rules, desired) > 0 {
        return surging(seen, running, surge(&rules, desired), plan);
    }
    let one = IntOrString::Int(1);
    let most = resolve(rules.max_unavailable.as_ref().unwrap_or(&one), desired, Round::Up).max(1) as usize;
    let mut unavailable = 0;
    let (mut broken, mut candidates) = (Vec::new(), Vec::new());
    for (_, there) in running {
        match state(seen, there) {
            State::New(new) if seen.is_available(new) => {}
            State::New(_) | State::Both { .. } | State::Other => unavailable += 1,
            // One that does not serve anyway is exchanged at no cost.
            State::Old(old) if !seen.is_available(old) => {
                unavailable += 1;
                broken.push(old.clone());
            }
            State::Old(old) => candidates.push(old.clone()),
        }
    }
    candidates.truncate(most.saturating_sub(unavailable));
    plan.delete.extend(broken.into_iter().chain(candidates));
}

fn surging(seen: &Observed<'_>, running: &[(&str, &[&Arc<Pod>])], most: i32, plan: &mut Plan) {
    let mut surging = 0;
    let (mut broken, mut candidates) = (Vec::new(), Vec::new());
    for (node, there) in running {
        match state(seen, there) {
            State::New(_) => {}
            State::Both { old, new } if seen.is_available(new) => plan.delete.push(old.clone()),
            State::Both { .. } | State::Other => surging += 1,
            State::Old(old) if !seen.is_available(old) => broken.push((*node).to_owned()),
            State::Old(_) => candidates.push((*node).to_owned()),
        }
    }
    candidates.truncate((most as usize).saturating_sub(surging));
    plan.create.extend(broken.into_iter().chain(candidates));
}
