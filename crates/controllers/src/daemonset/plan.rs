//! Which nodes are to get a pod, which pods are to go; and what the status says. Pure.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use jiff::Timestamp;
use k8s_openapi::api::{
    apps::v1::{DaemonSet, DaemonSetStatus},
    core::v1::{Node, PodSpec},
};
use knarr_api::placement;
use knarr_client::{lean::Pod, meta};

use super::{
    pod::{self, node_of},
    rolling,
};
use crate::common::{history, pods};

/// Pods made or deleted in one go, at most (upstream's BurstReplicas).
const BURST: usize = 250;

pub struct Observed<'a> {
    pub set: &'a DaemonSet,
    pub nodes: &'a [Arc<Node>],
    /// Those that belong to the set.
    pub pods: &'a [Arc<Pod>],
    /// Of the current template.
    pub hash: &'a str,
    pub now: Timestamp,
}

#[derive(Default)]
pub struct Plan {
    /// Names of nodes.
    pub create: Vec<String>,
    pub delete: Vec<Arc<Pod>>,
    /// Of pods that ended and are replaced: (is a warning, reason, message).
    pub ended: Vec<(bool, &'static str, String)>,
    /// When a pod that failed may be replaced.
    pub retry: Option<Duration>,
}

/// What a node has to do with a DaemonSet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fit {
    /// It is to run a pod.
    Runs,
    /// It gets none, and keeps one that it has: a taint that came later does not drive it out.
    Keeps,
    /// It gets none, and loses one that it has.
    Refuses,
}

/// The pods by node, of each node the oldest first. Those that are gone but for their record do not count.
pub type ByNode<'a> = HashMap<&'a str, Vec<&'a Arc<Pod>>>;

impl Observed<'_> {
    pub fn is_current(&self, pod: &Pod) -> bool {
        meta::label(&pod.metadata, history::OF_POD) == Some(self.hash)
    }

    pub fn is_available(&self, pod: &Pod) -> bool {
        let wait = self.set.spec.as_ref().and_then(|spec| spec.min_ready_seconds).unwrap_or(0);
        pods::is_available(pod, wait, self.now)
    }
}

/// `may_replace` is asked before a pod that failed on a node is deleted, and says how long it has to wait.
pub fn plan(seen: &Observed<'_>, may_replace: &mut dyn FnMut(&str) -> Result<(), Duration>) -> Plan {
    let by_node = by_node(seen.pods);
    let wishes = pod::new(seen.set, seen.hash).spec.unwrap_or_default();
    let mut plan = Plan::default();
    let mut running = Vec::new();
    let no_pods = Vec::new();
    for node in seen.nodes {
        let name = meta::name(&node.metadata);
        let there = by_node.get(name).unwrap_or(&no_pods);
        match fit(&wishes, node) {
            Fit::Runs if there.is_empty() => plan.create.push(name.to_owned()),
            Fit::Keeps if there.is_empty() => {}
            fit @ (Fit::Runs | Fit::Keeps) => {
                manage(seen, name, there, may_replace, &mut plan);
                if fit == Fit::Runs {
                    running.push((name, there.as_slice()));
                }
            }
            Fit::Refuses => plan.delete.extend(alive(there)),
        }
    }
    let names: HashSet<&str> = seen.nodes.iter().map(|node| meta::name(&node.metadata)).collect();
    let waits_in_vain = |pod: &&Arc<Pod>| {
        let is_unbound = pods::node_name(pod).is_empty() && !pods::is_terminating(pod);
        is_unbound && node_of(pod).is_none_or(|node| !names.contains(node))
    };
    plan.delete.extend(seen.pods.iter().filter(waits_in_vain).cloned());
    // What is to be there comes first; until that has happened nothing is exchanged.
    if plan.create.is_empty() && plan.delete.is_empty() {
        rolling::exchange(seen, &running, &mut plan);
    }
    plan.create.truncate(BURST);
    plan.delete.truncate(BURST);
    plan
}

fn by_node(all: &[Arc<Pod>]) -> ByNode<'_> {
    let mut by_node = ByNode::new();
    for pod in all.iter().filter(|pod| !(pods::is_terminating(pod) && pods::is_terminal(pod))) {
        if let Some(node) = node_of(pod) {
            by_node.entry(node).or_default().push(pod);
        }
    }
    // A pod that was never bound is none to keep, however old.
    let order = |pod: &Pod| {
        let created = pod.metadata.creation_timestamp.as_ref().map(|time| time.0);
        (pods::node_name(pod).is_empty(), created, pod.metadata.name.clone())
    };
    by_node.values_mut().for_each(|pods| pods.sort_by_key(|pod| order(pod)));
    by_node
}

fn alive<'a>(there: &'a [&Arc<Pod>]) -> impl Iterator<Item = Arc<Pod>> + 'a {
    there.iter().filter(|pod| !pods::is_terminating(pod)).map(|pod| (*pod).clone())
}

/// `spec` has the tolerations of the set's pods.
pub fn fit(spec: &PodSpec, node: &Node) -> Fit {
    let no_labels = placement::Labels::new();
    let (name, labels) = (meta::name(&node.metadata), node.metadata.labels.as_ref().unwrap_or(&no_labels));
    let is_elsewhere = spec.node_name.as_deref().is_some_and(|wanted| !wanted.is_empty() && wanted != name);
    if is_elsewhere || !placement::wants_node(spec, name, labels) {
        return Fit::Refuses;
    }
    let tolerations = spec.tolerations.as_deref().unwrap_or_default();
    let taints = node.spec.iter().flat_map(|spec| spec.taints.iter().flatten());
    let untolerated =
        |effect: &str| taints.clone().any(|taint| taint.effect == effect && !placement::tolerates(tolerations, taint));
    if untolerated("NoExecute") {
        Fit::Refuses
    } else if untolerated("NoSchedule") {
        Fit::Keeps
    } else {
        Fit::Runs
    }
}

/// One pod stays on a node; while pods are exchanged with a surge, one of each template.
fn manage(
    seen: &Observed<'_>,
    node: &str,
    there: &[&Arc<Pod>],
    may_replace: &mut dyn FnMut(&str) -> Result<(), Duration>,
    plan: &mut Plan,
) {
    let mut running = Vec::new();
    for pod in there.iter().copied().filter(|pod| !pods::is_terminating(pod)) {
        let name = format!("{}/{}", meta::namespace(&pod.metadata), meta::name(&pod.metadata));
        match pods::phase(pod) {
            "Failed" => match may_replace(node) {
                Ok(()) => {
                    let message = format!("Found failed daemon pod {name} on node {node}, will try to kill it");
                    plan.ended.push((true, "FailedDaemonPod", message));
                    plan.delete.push(pod.clone());
                }
                Err(left) => plan.retry = Some(plan.retry.map_or(left, |other| other.min(left))),
            },
            "Succeeded" => {
                let message = format!("Found succeeded daemon pod {name} on node {node}, will try to delete it");
                plan.ended.push((false, "SucceededDaemonPod", message));
                plan.delete.push(pod.clone());
            }
            _ => running.push(pod),
        }
    }
    if !rolling::surges(seen.set) {
        plan.delete.extend(running.into_iter().skip(1).cloned());
        return;
    }
    let (new, old): (Vec<_>, Vec<_>) = running.into_iter().partition(|pod| seen.is_current(pod));
    plan.delete.extend(new.iter().skip(1).chain(old.iter().skip(1)).map(|pod| (*pod).clone()));
    if let (Some(new), Some(old)) = (new.first(), old.first())
        && (seen.is_available(new) || !pods::is_ready(old))
    {
        plan.delete.push((*old).clone());
    }
}

/// Also answers when a pod will have been ready for long enough, which no event will say.
pub fn status(seen: &Observed<'_>) -> (DaemonSetStatus, Option<Duration>) {
    let by_node = by_node(seen.pods);
    let wishes = pod::new(seen.set, seen.hash).spec.unwrap_or_default();
    let before = seen.set.status.clone().unwrap_or_default();
    let (mut desired, mut current, mut misplaced, mut ready, mut available, mut updated) = (0, 0, 0, 0, 0, 0);
    let mut soonest: Option<Timestamp> = None;
    for node in seen.nodes {
        let oldest = by_node.get(meta::name(&node.metadata)).and_then(|pods| pods.first());
        if fit(&wishes, node) != Fit::Runs {
            misplaced += i32::from(oldest.is_some());
            continue;
        }
        desired += 1;
        let Some(pod) = oldest else { continue };
        current += 1;
        updated += i32::from(seen.is_current(pod));
        if let Some(since) = pods::ready_since(pod).filter(|_| pods::is_ready(pod)) {
            ready += 1;
            match seen.is_available(pod) {
                true => available += 1,
                false => soonest = Some(soonest.map_or(since, |other| other.min(since))),
            }
        }
    }
    let unless_zero = crate::common::unless_zero;
    let status = DaemonSetStatus {
        collision_count: before.collision_count,
        conditions: before.conditions,
        current_number_scheduled: current,
        desired_number_scheduled: desired,
        number_available: unless_zero(available),
        number_misscheduled: misplaced,
        number_ready: ready,
        number_unavailable: unless_zero(desired - available),
        observed_generation: seen.set.metadata.generation,
        updated_number_scheduled: unless_zero(updated),
    };
    let wait = seen.set.spec.as_ref().and_then(|spec| spec.min_ready_seconds).unwrap_or(0);
    (status, soonest.map(|since| pods::available_in(since, wait, seen.now)))
}
