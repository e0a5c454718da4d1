//! Nearness to and distance from other pods, counted per value of a node label.
//! (<https://kubernetes.io/docs/concepts/scheduling-eviction/assign-pod-node/#inter-pod-affinity-and-anti-affinity>)

use std::collections::{HashMap, HashSet};

use super::{Plugin, Refusal};
use crate::{
    around::Around,
    cluster::{Cluster, NodeInfo},
    pod::PodInfo,
    tally::{Gone, PerNode},
    terms::PodTerm,
};

/// (label key, label value) of nodes.
type Domain = (String, String);

#[derive(Default)]
pub struct Counts {
    /// Where pods run that do not want this one near.
    unwelcome: HashSet<Domain>,
    /// Where pods run that this one's affinity terms select, all of them.
    near: HashMap<Domain, usize>,
    /// Where pods run that one of its anti-affinity terms selects.
    far: HashSet<Domain>,
    /// No pod matches its affinity anywhere, but it does itself: the first of a group has to go somewhere.
    is_first: bool,
}

impl Counts {
    pub fn of(pod: &PodInfo, cluster: &Cluster, around: &dyn Around, gone: &Gone<'_>) -> Self {
        let mut counts = Self::default();
        for (averse, per_node) in cluster.averse.iter() {
            if !averse.anti_affinity.iter().any(|term| term.selects(&pod.namespace, &pod.labels, around)) {
                continue;
            }
            let there = cluster.remaining(per_node, gone, |one| one.averse == averse.averse);
            for term in &averse.anti_affinity {
                if term.selects(&pod.namespace, &pod.labels, around) {
                    counts.unwelcome.extend(there.keys().filter_map(|index| domain(&cluster.nodes[*index], term)));
                }
            }
        }
        if pod.affinity.is_empty() && pod.anti_affinity.is_empty() {
            return counts;
        }
        for term in &pod.anti_affinity {
            let there = cluster.count_term(term, around, gone);
            counts.far.extend(there.keys().filter_map(|index| domain(&cluster.nodes[*index], term)));
        }
        // Only pods that all of the terms select make a place near.
        let near = match pod.affinity.as_slice() {
            [] => PerNode::new(),
            [only] => cluster.count_term(only, around, gone),
            several => cluster
                .count_where(gone, |one| several.iter().all(|term| term.selects(&one.namespace, &one.labels, around))),
        };
        for (index, count) in near {
            for domain in pod.affinity.iter().filter_map(|term| domain(&cluster.nodes[index], term)) {
                *counts.near.entry(domain).or_default() += count as usize;
            }
        }
        let wants_itself = |term: &PodTerm| term.selects(&pod.namespace, &pod.labels, around);
        counts.is_first = counts.near.is_empty() && pod.affinity.iter().all(wants_itself);
        counts
    }

    pub fn check(&self, pod: &PodInfo, node: &NodeInfo) -> Result<(), Refusal> {
        let has_all_keys = pod.affinity.iter().all(|term| node.labels.contains_key(&term.topology_key));
        let is_near = |term: &PodTerm| domain(node, term).is_some_and(|domain| self.near.contains_key(&domain));
        if !has_all_keys || !(self.is_first || pod.affinity.iter().all(is_near)) {
            return Err(Refusal::new(Plugin::PodAffinity, "node(s) didn't match pod affinity rules", false));
        }
        if pod.anti_affinity.iter().filter_map(|term| domain(node, term)).any(|domain| self.far.contains(&domain)) {
            return Err(Refusal::new(Plugin::PodAffinity, "node(s) didn't match pod anti-affinity rules", true));
        }
        if self.unwelcome.iter().any(|(key, value)| node.labels.get(key) == Some(value)) {
            let reason = "node(s) didn't satisfy existing pods anti-affinity rules";
            return Err(Refusal::new(Plugin::PodAffinity, reason, true));
        }
        Ok(())
    }
}

fn domain(node: &NodeInfo, term: &PodTerm) -> Option<Domain> {
    node.labels.get(&term.topology_key).map(|value| (term.topology_key.clone(), value.clone()))
}
