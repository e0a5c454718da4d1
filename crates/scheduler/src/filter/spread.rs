//! Even spread over the values of a node label: no value may have more than `maxSkew` above the emptiest.
//! (<https://kubernetes.io/docs/concepts/scheduling-eviction/topology-spread-constraints/>)

use std::collections::HashMap;

use super::{Plugin, Refusal, basic};
use crate::{
    cluster::{Cluster, NodeInfo},
    pod::PodInfo,
    tally::Gone,
    terms::{self, Spread},
};

pub struct Counts {
    topology_key: String,
    max_skew: i64,
    /// One more, where the pod counts itself.
    own: i64,
    lowest: i64,
    per_value: HashMap<String, i64>,
}

impl Counts {
    pub fn of(pod: &PodInfo, constraint: &Spread, cluster: &Cluster, gone: &Gone<'_>) -> Self {
        let per_value = count(pod, constraint, cluster, gone);
        let too_few_domains = (per_value.len() as i64) < constraint.min_domains;
        let lowest = if too_few_domains { 0 } else { per_value.values().copied().min().unwrap_or(0) };
        Self {
            topology_key: constraint.topology_key.clone(),
            max_skew: constraint.max_skew,
            own: i64::from(terms::matches(&constraint.selector, &pod.labels)),
            lowest,
            per_value,
        }
    }

    pub fn check(&self, _pod: &PodInfo, node: &NodeInfo) -> Result<(), Refusal> {
        let Some(value) = node.labels.get(&self.topology_key) else {
            let reason = "node(s) didn't match pod topology spread constraints (missing required label)";
            return Err(Refusal::new(Plugin::Spread, reason, false));
        };
        let here = self.per_value.get(value).copied().unwrap_or(0);
        if here + self.own - self.lowest > self.max_skew {
            let reason = "node(s) didn't match pod topology spread constraints";
            return Err(Refusal::new(Plugin::Spread, reason, true));
        }
        Ok(())
    }
}

/// Matching pods of the pod's namespace per value of the label, over the nodes that count for it.
pub fn count(pod: &PodInfo, constraint: &Spread, cluster: &Cluster, gone: &Gone<'_>) -> HashMap<String, i64> {
    let mut per_value: HashMap<String, i64> = HashMap::new();
    for node in cluster.nodes.iter().filter(|node| counts(pod, constraint, node)) {
        if let Some(value) = node.labels.get(&constraint.topology_key).filter(|value| !per_value.contains_key(*value)) {
            per_value.insert(value.clone(), 0);
        }
    }
    for (index, there) in cluster.count(&constraint.question, gone) {
        let node = &cluster.nodes[index];
        if counts(pod, constraint, node)
            && let Some(count) = node.labels.get(&constraint.topology_key).and_then(|value| per_value.get_mut(value))
        {
            *count += there;
        }
    }
    per_value
}

fn counts(pod: &PodInfo, constraint: &Spread, node: &NodeInfo) -> bool {
    // Nodes that lack a label which a constraint of the same kind spreads over take no part in any of them.
    let mut alike = pod.spread.iter().filter(|other| other.is_hard == constraint.is_hard);
    node.exists
        && alike.all(|other| node.labels.contains_key(&other.topology_key))
        && (!constraint.honors_affinity || basic::node_affinity_matches(pod, node))
        && (!constraint.honors_taints || basic::taints(pod, node).is_ok())
}
