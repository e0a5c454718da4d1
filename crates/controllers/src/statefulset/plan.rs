//! Which pods are to be made and which to go, in the order that the set keeps; and what its status says. Pure.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use jiff::Timestamp;
use k8s_openapi::api::{
    apps::v1::{StatefulSet, StatefulSetSpec, StatefulSetStatus},
    core::v1::{self, PodTemplateSpec},
};
use knarr_client::{lean::Pod, meta};

use super::identity;
use crate::common::{
    history,
    intstr::{Round, resolve},
    pods, unless_zero,
};

/// A template under the name of its revision.
pub struct Version<'a> {
    pub name: &'a str,
    pub template: &'a PodTemplateSpec,
}

pub struct Observed<'a> {
    pub set: &'a StatefulSet,
    pub spec: &'a StatefulSetSpec,
    /// Those that belong to the set, by ordinal.
    pub pods: &'a BTreeMap<i32, Arc<Pod>>,
    /// What the pods were before the update under way, and what they are to become.
    pub current: Version<'a>,
    pub update: Version<'a>,
    pub now: Timestamp,
}

#[derive(Default)]
pub struct Plan {
    pub create: Vec<(i32, v1::Pod)>,
    pub delete: Vec<Arc<Pod>>,
    /// Pods that ended and are made anew.
    pub ended: Vec<(&'static str, String)>,
}

impl Observed<'_> {
    fn is_ordered(&self) -> bool {
        self.spec.pod_management_policy.as_deref() != Some("Parallel")
    }

    fn is_available(&self, pod: &Pod) -> bool {
        let wait = self.spec.min_ready_seconds.unwrap_or(0);
        pods::phase(pod) == "Running" && !pods::is_terminating(pod) && pods::is_available(pod, wait, self.now)
    }

    /// `None` where pods are exchanged only once somebody deletes them.
    fn partition(&self) -> Option<i32> {
        let strategy = self.spec.update_strategy.clone().unwrap_or_default();
        let partition = strategy.rolling_update.and_then(|rolling| rolling.partition).unwrap_or(0);
        (strategy.type_.as_deref() != Some("OnDelete")).then_some(partition)
    }

    fn new_pod(&self, ordinal: i32) -> v1::Pod {
        let first = identity::wanted(self.spec).start;
        let keeps = self.partition().is_some_and(|partition| ordinal < first.saturating_add(partition));
        let Version { name, template } = if keeps { &self.current } else { &self.update };
        identity::new_pod(self.set, template, name, ordinal)
    }
}

pub fn plan(seen: &Observed<'_>) -> Plan {
    let mut plan = Plan::default();
    let is_settled = fill(seen, &mut plan) && shrink(seen, &mut plan);
    if let Some(partition) = seen.partition().filter(|_| is_settled) {
        exchange(seen, partition, &mut plan);
    }
    plan
}

/// The ordinals that are wanted, from the lowest. False where the next has to wait for this one.
fn fill(seen: &Observed<'_>, plan: &mut Plan) -> bool {
    for ordinal in identity::wanted(seen.spec) {
        let is_done = match seen.pods.get(&ordinal) {
            None => {
                plan.create.push((ordinal, seen.new_pod(ordinal)));
                false
            }
            Some(pod) if pods::is_terminal(pod) => {
                if !pods::is_terminating(pod) {
                    plan.ended.push(ended(seen, pod));
                    plan.delete.push(pod.clone());
                }
                false
            }
            Some(pod) => seen.is_available(pod),
        };
        if !is_done && seen.is_ordered() {
            return false;
        }
    }
    true
}

fn ended(seen: &Observed<'_>, pod: &Pod) -> (&'static str, String) {
    let (reason, how) = match pods::phase(pod) {
        "Failed" => ("RecreatingFailedPod", "failed"),
        _ => ("RecreatingTerminatedPod", "terminated"),
    };
    let (namespace, name) = (meta::namespace(&seen.set.metadata), meta::name(&seen.set.metadata));
    let pod = meta::name(&pod.metadata);
    (reason, format!("StatefulSet {namespace}/{name} is recreating {how} Pod {pod}"))
}

/// The ordinals that are not wanted, from the highest.
fn shrink(seen: &Observed<'_>, plan: &mut Plan) -> bool {
    let wanted = identity::wanted(seen.spec);
    let condemned: Vec<_> =
        seen.pods.iter().filter(|(ordinal, _)| !wanted.contains(ordinal)).map(|(_, pod)| pod).collect();
    // Of several that are not well only the lowest goes at once; the others may be needed to make it well again.
    let first_unwell = condemned.iter().position(|pod| !seen.is_available(pod));
    for (at, pod) in condemned.iter().enumerate().rev() {
        let waits = seen.is_ordered() && !seen.is_available(pod) && first_unwell != Some(at);
        if !pods::is_terminating(pod) && !waits {
            plan.delete.push((*pod).clone());
        }
        if seen.is_ordered() {
            return false;
        }
    }
    true
}

/// Pods of an older template, from the highest ordinal down to the partition.
fn exchange(seen: &Observed<'_>, partition: i32, plan: &mut Plan) {
    let wanted = identity::wanted(seen.spec);
    let first = wanted.start.saturating_add(partition);
    let is_old = |pod: &Pod| meta::label(&pod.metadata, history::OF_POD) != Some(seen.update.name);
    let is_available = |pod: Option<&Arc<Pod>>| pod.is_some_and(|pod| seen.is_available(pod));
    let rolling = seen.spec.update_strategy.as_ref().and_then(|strategy| strategy.rolling_update.as_ref());
    let Some(most) = rolling.and_then(|rolling| rolling.max_unavailable.as_ref()) else {
        // One after the other, and none while one above it is not available again.
        for ordinal in wanted.filter(|ordinal| *ordinal >= first).rev() {
            let pod = seen.pods.get(&ordinal);
            match pod.filter(|pod| is_old(pod) && !pods::is_terminating(pod)) {
                Some(old) => return plan.delete.push(old.clone()),
                None if is_available(pod) => {}
                None => return,
            }
        }
        return;
    };
    let most = resolve(most, wanted.len() as i32, Round::Down).max(1) as usize;
    let unavailable = wanted.clone().filter(|ordinal| !is_available(seen.pods.get(ordinal))).count();
    let mut left = most.saturating_sub(unavailable);
    for pod in wanted.filter(|ordinal| *ordinal >= first).rev().filter_map(|ordinal| seen.pods.get(&ordinal)) {
        if pods::is_terminating(pod) || !is_old(pod) {
            continue;
        }
        // One that does not serve anyway is exchanged at no cost.
        if !seen.is_available(pod) {
            plan.delete.push(pod.clone());
        } else if left > 0 {
            left -= 1;
            plan.delete.push(pod.clone());
        }
    }
}

/// Also answers when a pod will have been ready for long enough, which no event will say.
pub fn status(seen: &Observed<'_>) -> (StatefulSetStatus, Option<Duration>) {
    let count = |yes: &dyn Fn(&Pod) -> bool| seen.pods.values().filter(|pod| yes(pod)).count() as i32;
    let of = |revision: &str| {
        count(&|pod| !pods::is_terminating(pod) && meta::label(&pod.metadata, history::OF_POD) == Some(revision))
    };
    let is_ready = |pod: &Pod| pods::phase(pod) == "Running" && pods::is_ready(pod);
    let wait = seen.spec.min_ready_seconds.unwrap_or(0);
    let (replicas, ready, updated) = (count(&|_| true), count(&is_ready), of(seen.update.name));
    let wanted = seen.spec.replicas.unwrap_or(1);
    let is_complete = seen.partition().is_some() && [replicas, ready, updated] == [wanted; 3];
    let current = if is_complete { seen.update.name } else { seen.current.name };
    let before = seen.set.status.clone().unwrap_or_default();
    let status = StatefulSetStatus {
        available_replicas: Some(count(&|pod| is_ready(pod) && pods::is_available(pod, wait, seen.now))),
        collision_count: before.collision_count,
        conditions: before.conditions,
        current_replicas: unless_zero(of(current)),
        current_revision: Some(current.to_owned()),
        observed_generation: seen.set.metadata.generation,
        ready_replicas: unless_zero(ready),
        replicas,
        update_revision: Some(seen.update.name.to_owned()),
        updated_replicas: unless_zero(updated),
    };
    let waiting = seen.pods.values().filter(|pod| is_ready(pod) && !pods::is_available(pod, wait, seen.now));
    let soonest = waiting.filter_map(|pod| pods::ready_since(pod)).min();
    (status, soonest.map(|since| pods::available_in(since, wait, seen.now)))
}
