//! Nearness to and distance from other pods, counted per value of a node label.
//! (<https://kubernetes.io/docs/concepts/scheduling-eviction/assign-pod-node/#inter-pod-affinity-and-anti-affinity>)

use std::collections::{HashMap, HashSet};

use super::{Plugin, Refusal};
use crate::{
    around::Around,
    cluster::{Cluster, NodeInfo},
    pod::PodInfo,
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
    pub fn of(pod: &PodInfo, cluster: &Cluster, around: &dyn Around, gone: &HashSet<&str>) -> Self {
        let mut counts = Self::default();
        for averse in cluster.averse.values().filter(|other| !gone.contains(&*other.uid)) {
            let Some(node) = cluster.node_of(averse) else { continue };
            for term in &averse.anti_affinity {
                if term.selects(&pod.namespace, &pod.labels, around) {
                    counts.unwelcome.extend(domain(node, term));
                }
            }
        }
        if pod.affinity.is_empty() && pod.anti_affinity.is_empty() {
            return counts;
        }
        let candidates = cluster.pods_for(pod.affinity.iter().chain(&pod.anti_affinity));
        for other in candidates.into_iter().filter(|other| !gone.contains(&*other.uid)) {
            let selects = |term: &PodTerm| term.selects(&other.namespace, &other.labels, around);
            let Some(node) = cluster.node_of(other) else { continue };
            if !pod.affinity.is_empty() && pod.affinity.iter().all(selects) {
                for domain in pod.affinity.iter().filter_map(|term| domain(node, term)) {
                    *counts.near.entry(domain).or_default() += 1;
                }
            }
            counts
                .far
                .extend(pod.anti_affinity.iter().filter(|term| selects(term)).filter_map(|term| domain(node, term)));
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
