//! Room for an important pod by evicting less important ones.
//! (<https://kubernetes.io/docs/concepts/scheduling-eviction/pod-priority-preemption/#preemption>)

use std::{collections::BTreeMap, sync::Arc};

use crate::{
    cluster::{Cluster, NodeInfo},
    filter::{Filters, Refusal},
    pod::PodInfo,
    terms::Labels,
};

/// Nodes that are tried out in full, at most.
const MAX_CANDIDATES: usize = 100;

#[derive(Debug)]
pub struct Preemption {
    pub node_name: String,
    /// To be evicted, the most important first.
    pub victims: Vec<Arc<PodInfo>>,
}

/// The node where evicting hurts least; or why evicting does not help, in upstream's words.
pub fn find(
    pod: &PodInfo,
    cluster: &Cluster,
    refusals: &BTreeMap<usize, Refusal>,
    labels_of: &dyn Fn(&str) -> Labels,
) -> Result<Preemption, String> {
    if pod.never_preempts {
        return Err("not eligible due to preemptionPolicy=Never.".to_owned());
    }
    if is_room_being_made(pod, cluster) {
        return Err("not eligible due to a terminating pod on the nominated node.".to_owned());
    }
    let filters = Filters::prepare(pod, cluster, labels_of);
    let mut best: Option<(Cost, Preemption)> = None;
    let (mut hopeless, mut without_victims, mut tried) = (0, 0, 0);
    for (index, refusal) in refusals {
        if !refusal.resolvable {
            hopeless += 1;
            continue;
        }
        if tried == MAX_CANDIDATES && best.is_some() {
            break;
        }
        let node = &cluster.nodes[*index];
        let Some(victims) = victims(pod, node, &filters) else {
            without_victims += 1;
            continue;
        };
        tried += 1;
        let cost = cost(&victims);
        if best.as_ref().is_none_or(|(other, _)| cost < *other) {
            best = Some((cost, Preemption { node_name: node.name.clone(), victims }));
        }
    }
    if let Some((_, preemption)) = best {
        return Ok(preemption);
    }
    let counted = [
        (hopeless, "Preemption is not helpful for scheduling"),
        (without_victims, "No preemption victims found for incoming pod"),
    ];
    let mut parts: Vec<_> =
        counted.iter().filter(|(count, _)| *count > 0).map(|(count, why)| format!("{count} {why}")).collect();
    parts.sort();
    Err(format!("0/{} nodes are available: {}.", cluster.existing_nodes(), parts.join(", ")))
}

/// Somebody was evicted for this pod already and has not gone yet; more need not go.
fn is_room_being_made(pod: &PodInfo, cluster: &Cluster) -> bool {
    let nominated = pod.object.status.as_ref().and_then(|status| status.nominated_node_name.as_deref());
    let node = cluster.nodes.iter().find(|node| Some(node.name.as_str()) == nominated);
    node.is_some_and(|node| {
        let mut lower = node.pods.values().filter(|other| other.priority < pod.priority);
        lower.any(|other| other.object.metadata.deletion_timestamp.is_some())
    })
}

/// Highest priority of a victim, sum of priorities, number of victims: less is better.
type Cost = (i32, i64, usize);

fn cost(victims: &[Arc<PodInfo>]) -> Cost {
    let highest = victims.iter().map(|victim| victim.priority).max().unwrap_or(i32::MIN);
    let sum = victims.iter().map(|victim| i64::from(victim.priority) - i64::from(i32::MIN)).sum();
    (highest, sum, victims.len())
}

/// Takes all less important pods away, then puts back as many as fit, the most important first. `None` where the pod
/// does not fit even without any of them, or none has to go.
///
/// Pods elsewhere keep the affinity counts they were prepared with, so that a preemption that would need a pod in
/// another place of the same topology to go is not found.
fn victims(pod: &PodInfo, node: &NodeInfo, filters: &Filters<'_>) -> Option<Vec<Arc<PodInfo>>> {
    let mut lower: Vec<_> = node.pods.values().filter(|other| other.priority < pod.priority).cloned().collect();
    if lower.is_empty() {
        return None;
    }
    let mut trial = node.clone();
    for other in &lower {
        trial.remove(&other.uid);
    }
    filters.check(&trial).ok()?;
    lower.sort_by_key(|other| std::cmp::Reverse(other.priority));
    let mut victims = Vec::new();
    for other in lower {
        trial.add(&other);
        if filters.check(&trial).is_err() {
            trial.remove(&other.uid);
            victims.push(other);
        }
    }
    (!victims.is_empty()).then_some(victims)
}
