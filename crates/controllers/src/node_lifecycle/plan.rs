//! What a node's state means for its conditions, taints and pods. Pure.

use std::{slice, sync::Arc, time::Duration};

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::{
    api::{
        coordination::v1::Lease,
        core::v1::{Node, NodeCondition, NodeStatus, PodCondition, Taint, Toleration},
    },
    apimachinery::pkg::apis::meta::v1::Time,
};
use knarr_api::placement::tolerates;
use knarr_client::{lean::Pod, meta};

use crate::common::pods;

/// What agents go by where nothing else is said.
const USUAL_GRACE: Duration = Duration::from_secs(40);
const NOT_READY: &str = "node.kubernetes.io/not-ready";
const UNREACHABLE: &str = "node.kubernetes.io/unreachable";
const NO_SCHEDULE: &str = "NoSchedule";
const NO_EXECUTE: &str = "NoExecute";
/// (condition, the status that is bad, taint)
const BY_CONDITION: [(&str, &str, &str); 6] = [
    ("Ready", "False", NOT_READY),
    ("Ready", "Unknown", UNREACHABLE),
    ("MemoryPressure", "True", "node.kubernetes.io/memory-pressure"),
    ("DiskPressure", "True", "node.kubernetes.io/disk-pressure"),
    ("PIDPressure", "True", "node.kubernetes.io/pid-pressure"),
    ("NetworkUnavailable", "True", "node.kubernetes.io/network-unavailable"),
];
const UNSCHEDULABLE: &str = "node.kubernetes.io/unschedulable";

/// What a node says to show that it lives. Two that differ are a sign of life; the times themselves are not compared
/// with any clock.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Heartbeat {
    renewed: Option<Timestamp>,
    posted: Option<Timestamp>,
}

impl Heartbeat {
    pub fn is_never(&self) -> bool {
        self.renewed.is_none() && self.posted.is_none()
    }
}

pub struct Silence {
    /// How long the node may go on saying nothing; `None` once that is over.
    pub left: Option<Duration>,
}

impl Silence {
    pub fn is_over_grace(&self) -> bool {
        self.left.is_none()
    }
}

pub fn heartbeat(node: &Node, lease: Option<&Lease>) -> Heartbeat {
    let renewed = lease.and_then(|lease| lease.spec.as_ref()?.renew_time.as_ref().map(|time| time.0));
    let posted = condition(node, "Ready").and_then(|ready| ready.last_heartbeat_time.as_ref().map(|time| time.0));
    Heartbeat { renewed, posted }
}

fn condition<'a>(node: &'a Node, kind: &str) -> Option<&'a NodeCondition> {
    node.status.as_ref()?.conditions.iter().flatten().find(|condition| condition.type_ == kind)
}

pub fn is_ready(node: &Node) -> bool {
    condition(node, "Ready").is_some_and(|ready| ready.status == "True")
}

pub fn has_ready_condition(node: &Node) -> bool {
    condition(node, "Ready").is_some()
}

/// What the Node should say about how long it may be silent; `None` where it says so, or where it is as usual.
pub fn lease_duration(node: &Node, grace: Duration) -> Option<String> {
    let said = meta::annotation(&node.metadata, meta::LEASE_DURATION);
    let wanted = grace.as_secs().to_string();
    let usual = said.is_none() && grace == USUAL_GRACE;
    (!usual && said != Some(&wanted)).then_some(wanted)
}

/// The status of a node that says nothing any more; `None` where it says so already.
pub fn status_of_silent(node: &Node, now: Timestamp) -> Option<NodeStatus> {
    let mut status = node.status.clone().unwrap_or_default();
    let conditions = status.conditions.get_or_insert_default();
    let mut changed = false;
    for kind in ["Ready", "MemoryPressure", "DiskPressure", "PIDPressure"] {
        let known = conditions.iter_mut().find(|condition| condition.type_ == kind);
        match known {
            None => conditions.push(NodeCondition {
                type_: kind.to_owned(),
                status: "Unknown".to_owned(),
                reason: Some("NodeStatusNeverUpdated".to_owned()),
                message: Some("Kubelet never posted node status.".to_owned()),
                last_heartbeat_time: node.metadata.creation_timestamp.clone(),
                last_transition_time: Some(Time(now)),
            }),
            Some(known) if known.status != "Unknown" => {
                known.status = "Unknown".to_owned();
                known.reason = Some("NodeStatusUnknown".to_owned());
                known.message = Some("Kubelet stopped posting node status.".to_owned());
                known.last_transition_time = Some(Time(now));
            }
            Some(_) => continue,
        }
        changed = true;
    }
    changed.then_some(status)
}

/// What is to become of the pods of a node that is not ready.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Evict {
    /// It is the node's turn.
    Now,
    /// It is not its turn. A node that had its turn before keeps the taint.
    Not,
    /// Nobody's are taken away: the taint goes, and its time begins anew when it comes back.
    Nobody,
}

/// Whether the node has a taint of this controller that evicts.
pub fn is_evicted(node: &Node) -> bool {
    no_execute_taints(node).any(is_ours)
}

/// The taints the node should have; `None` where it has them. Those that others put there stay.
pub fn taints(node: &Node, evict: Evict, now: Timestamp) -> Option<Vec<Taint>> {
    let evicts = match evict {
        Evict::Now => true,
        Evict::Not => is_evicted(node),
        Evict::Nobody => false,
    };
    let spec = node.spec.clone().unwrap_or_default();
    let before = spec.taints.unwrap_or_default();
    let is_bad = |kind: &str, bad: &str| condition(node, kind).is_some_and(|condition| condition.status == bad);
    let mut wanted: Vec<(&str, &str)> = Vec::new();
    for (kind, bad, key) in BY_CONDITION {
        let bad = is_bad(kind, bad);
        if bad {
            wanted.push((key, NO_SCHEDULE));
        }
        if bad && kind == "Ready" && evicts {
            wanted.push((key, NO_EXECUTE));
        }
    }
    if !has_ready_condition(node) && before.iter().any(|taint| taint.key == NOT_READY && taint.effect == NO_SCHEDULE) {
        // Put there when the node was registered; it stays until the node says how it is.
        wanted.push((NOT_READY, NO_SCHEDULE));
    }
    if spec.unschedulable == Some(true) {
        wanted.push((UNSCHEDULABLE, NO_SCHEDULE));
    }
    let is_wanted = |taint: &Taint| wanted.iter().any(|(key, effect)| taint.key == *key && taint.effect == *effect);
    let mut after: Vec<_> = before.iter().filter(|taint| !is_ours(taint) || is_wanted(taint)).cloned().collect();
    for (key, effect) in wanted {
        if !after.iter().any(|taint| taint.key == key && taint.effect == effect) {
            after.push(Taint {
                key: key.to_owned(),
                effect: effect.to_owned(),
                time_added: Some(Time(now)),
                value: None,
            });
        }
    }
    (after != before).then_some(after)
}

fn is_ours(taint: &Taint) -> bool {
    let by_condition = BY_CONDITION.iter().any(|(_, _, key)| taint.key == *key) || taint.key == UNSCHEDULABLE;
    let no_execute = taint.effect == NO_EXECUTE && [NOT_READY, UNREACHABLE].contains(&taint.key.as_str());
    (by_condition && taint.effect == NO_SCHEDULE) || no_execute
}

pub fn no_execute_taints(node: &Node) -> impl Iterator<Item = &Taint> {
    let taints = node.spec.iter().flat_map(|spec| spec.taints.iter().flatten());
    taints.filter(|taint| taint.effect == NO_EXECUTE)
}

pub fn conditions_unready(pod: &Pod, now: Timestamp) -> Vec<PodCondition> {
    let mut conditions = pod.status.clone().unwrap_or_default().conditions.unwrap_or_default();
    for condition in conditions.iter_mut().filter(|condition| condition.type_ == "Ready") {
        condition.status = "False".to_owned();
        condition.last_transition_time = Some(Time(now));
    }
    conditions
}

/// The pod's conditions with the reason why it is deleted, for a Job's failure policy and for people.
pub fn conditions_disrupted(pod: &Pod, now: Timestamp) -> Vec<PodCondition> {
    let mut conditions = pod.status.clone().unwrap_or_default().conditions.unwrap_or_default();
    conditions.retain(|condition| condition.type_ != "DisruptionTarget");
    conditions.push(PodCondition {
        type_: "DisruptionTarget".to_owned(),
        status: "True".to_owned(),
        reason: Some("DeletionByTaintManager".to_owned()),
        message: Some("Taint manager: deleting due to NoExecute taint".to_owned()),
        last_transition_time: Some(Time(now)),
        ..PodCondition::default()
    });
    conditions
}

#[derive(Default)]
pub struct Evictions {
    pub due: Vec<Arc<Pod>>,
    /// When the next pod's toleration ends.
    pub next_after: Option<Duration>,
}

pub fn evictions(node: &Node, on_node: &[Arc<Pod>], now: Timestamp) -> Evictions {
    let taints: Vec<_> = no_execute_taints(node).collect();
    let mut evictions = Evictions::default();
    if taints.is_empty() {
        return evictions;
    }
    for pod in on_node.iter().filter(|pod| !pods::is_terminating(pod) && !pods::is_terminal(pod)) {
        let tolerations = pod.spec.as_ref().and_then(|spec| spec.tolerations.as_deref()).unwrap_or_default();
        let Some(at) = taints.iter().filter_map(|taint| ends(taint, tolerations, now)).min() else { continue };
        match Duration::try_from(at.duration_since(now)) {
            Ok(left) if !left.is_zero() => {
                evictions.next_after = Some(evictions.next_after.map_or(left, |next| next.min(left)));
            }
            _ => evictions.due.push(pod.clone()),
        }
    }
    evictions
}

/// When the pod has to go because of the taint; `None` where it is tolerated for ever.
fn ends(taint: &Taint, tolerations: &[Toleration], now: Timestamp) -> Option<Timestamp> {
    let since = taint.time_added.as_ref().map_or(now, |time| time.0);
    let matching: Vec<_> = tolerations.iter().filter(|one| tolerates(slice::from_ref(one), taint)).collect();
    if matching.is_empty() {
        return Some(now);
    }
    let seconds = matching.iter().filter_map(|toleration| toleration.toleration_seconds).min()?;
    Some(since.saturating_add(SignedDuration::from_secs(seconds.max(0))).unwrap_or(Timestamp::MAX))
}
