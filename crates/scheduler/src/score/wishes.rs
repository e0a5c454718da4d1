//! What the pod would like but does not insist on. `None` where it has no such wish, so that nothing is counted.

use std::collections::{HashMap, HashSet};

use knarr_api::placement::{node_term_matches, tolerates};

use super::{MAX, normalize};
use crate::{
    around::Around,
    cluster::Cluster,
    pod::PodInfo,
    tally::{Gone, PerNode},
    terms::{Labels, PodTerm},
};

const ZONE: &str = "topology.kubernetes.io/zone";
/// What it counts that a pod which is there cannot do without this one (upstream's HardPodAffinityWeight).
const NEEDED: i64 = 1;
/// Images smaller than this (per container) are no reason, larger than that no better one.
const IMAGE_BYTES: (i64, i64) = (23 << 20, 1000 << 20);

/// The fewer PreferNoSchedule taints the pod does not tolerate, the better.
pub fn taints(pod: &PodInfo, cluster: &Cluster, candidates: &[usize]) -> Option<Vec<i64>> {
    let untolerated = |index: &usize| {
        let soft = cluster.nodes[*index].taints.iter().filter(|taint| taint.effect == "PreferNoSchedule");
        soft.filter(|taint| !tolerates(&pod.tolerations, taint)).count() as i64
    };
    let counts: Vec<_> = candidates.iter().map(untolerated).collect();
    counts.iter().any(|count| *count > 0).then(|| normalize(counts, true))
}

pub fn node_affinity(pod: &PodInfo, cluster: &Cluster, candidates: &[usize]) -> Option<Vec<i64>> {
    if pod.preferred_nodes.is_empty() {
        return None;
    }
    let score = |index: &usize| {
        let node = &cluster.nodes[*index];
        let holding =
            pod.preferred_nodes.iter().filter(|term| node_term_matches(&term.preference, &node.name, &node.labels));
        holding.map(|term| i64::from(term.weight)).sum()
    };
    Some(normalize(candidates.iter().map(score).collect(), false))
}

/// Soft spread constraints; without any, pods of one controller, or behind one Service, go where fewest of them are, by
/// node and by zone.
pub fn spread(pod: &PodInfo, cluster: &Cluster, candidates: &[usize], around: &dyn Around) -> Option<Vec<i64>> {
    if pod.spread.is_empty() {
        return match pod.owner.as_deref() {
            Some(owner) => away_from(cluster.siblings(owner).collect(), cluster, candidates),
            None => away_from(behind_services(pod, cluster, around), cluster, candidates),
        };
    }
    let soft: Vec<_> = pod.spread.iter().filter(|constraint| !constraint.is_hard).collect();
    if soft.is_empty() {
        return None;
    }
    let mut crowd = vec![0; candidates.len()];
    for constraint in soft {
        let counts = crate::filter::spread_count(pod, constraint, cluster, &Gone::new());
        let worst = counts.values().copied().max().unwrap_or(0) + 1;
        for (total, index) in crowd.iter_mut().zip(candidates) {
            let value = cluster.nodes[*index].labels.get(&constraint.topology_key);
            *total += value.and_then(|value| counts.get(value)).copied().unwrap_or(worst);
        }
    }
    Some(normalize(crowd, true))
}

/// How many pods of the Services that select this one are on each node.
fn behind_services(pod: &PodInfo, cluster: &Cluster, around: &dyn Around) -> HashMap<usize, i64> {
    let mut counts = HashMap::new();
    let selectors = around.services(&pod.namespace).into_iter().filter_map(|service| service.spec.clone()?.selector);
    for selector in selectors.filter(|selector| !selector.is_empty()) {
        let selects = |labels: &Labels| selector.iter().all(|(key, value)| labels.get(key) == Some(value));
        if !selects(&pod.labels) {
            continue;
        }
        for other in cluster.pods_in(&pod.namespace).filter(|other| selects(&other.labels)) {
            if let Some(index) = cluster.place_of(other) {
                *counts.entry(index).or_default() += 1;
            }
        }
    }
    counts
}

/// `alike` says how many pods that are better apart are on each node.
fn away_from(alike: HashMap<usize, i64>, cluster: &Cluster, candidates: &[usize]) -> Option<Vec<i64>> {
    if alike.is_empty() {
        return None;
    }
    let mut zones: HashMap<&str, i64> = HashMap::new();
    for (index, count) in &alike {
        if let Some(zone) = cluster.nodes[*index].labels.get(ZONE) {
            *zones.entry(zone).or_default() += count;
        }
    }
    let crowd = |index: &usize| {
        let zone = cluster.nodes[*index].labels.get(ZONE).and_then(|zone| zones.get(zone.as_str()));
        alike.get(index).copied().unwrap_or(0) * 2 + zone.copied().unwrap_or(0)
    };
    Some(normalize(candidates.iter().map(crowd).collect(), true))
}

/// Nearness and distance: what the pod prefers, and what pods that are there prefer about it. Those that insist on
/// having it near count as preferring it a little.
pub fn pod_affinity(pod: &PodInfo, cluster: &Cluster, candidates: &[usize], around: &dyn Around) -> Option<Vec<i64>> {
    let mut weights: HashMap<(&str, &str), i64> = HashMap::new();
    let mut add = |term: &PodTerm, weight: i64, there: &PerNode| {
        for (index, count) in there {
            if let Some((key, value)) = cluster.nodes[*index].labels.get_key_value(&term.topology_key) {
                *weights.entry((key, value)).or_default() += weight * count;
            }
        }
    };
    for (weight, term) in &pod.preferences {
        add(term, *weight, &cluster.count_term(term, around, &Gone::new()));
    }
    for (other, there) in cluster.sociable.iter() {
        let wishes = other.preferences.iter().map(|(weight, term)| (*weight, term));
        let needs = other.affinity.iter().map(|term| (NEEDED, term));
        let about_it = wishes.chain(needs).filter(|(_, term)| term.selects(&pod.namespace, &pod.labels, around));
        about_it.for_each(|(weight, term)| add(term, weight, there));
    }
    if weights.is_empty() {
        return None;
    }
    let keys: HashSet<&str> = weights.keys().map(|(key, _)| *key).collect();
    let weight = |index: &usize| {
        let labels = &cluster.nodes[*index].labels;
        keys.iter().filter_map(|key| weights.get(&(*key, labels.get(*key)?.as_str()))).sum()
    };
    let sums: Vec<i64> = candidates.iter().map(weight).collect();
    let (lowest, highest) = (sums.iter().copied().min()?, sums.iter().copied().max()?);
    (lowest != highest).then(|| sums.iter().map(|sum| (sum - lowest) * MAX / (highest - lowest)).collect())
}

/// Nodes that have the images spare a pull; an image that most nodes have counts more, so that pods do not heap up
/// on the one node that has it.
pub fn images(pod: &PodInfo, cluster: &Cluster, candidates: &[usize]) -> Option<Vec<i64>> {
    let spread = |image: &str| {
        let having = candidates.iter().filter(|index| cluster.nodes[**index].images.contains_key(image)).count();
        having as f64 / candidates.len() as f64
    };
    let wanted: Vec<_> = pod.images.iter().map(|image| tagged(image)).collect();
    let shares: Vec<_> = wanted.iter().map(|image| spread(image)).collect();
    if shares.iter().all(|share| *share == 0.0 || *share == 1.0) {
        return None;
    }
    let containers = wanted.len() as i64;
    let (low, high) = (IMAGE_BYTES.0, IMAGE_BYTES.1 * containers);
    let score = |index: &usize| {
        let there = &cluster.nodes[*index].images;
        let bytes = wanted
            .iter()
            .zip(&shares)
            .map(|(image, share)| there.get(image).map_or(0, |bytes| (*bytes as f64 * share) as i64));
        (bytes.sum::<i64>().clamp(low, high) - low) * MAX / (high - low)
    };
    Some(candidates.iter().map(score).collect())
}

/// An image without a tag means `latest`.
fn tagged(image: &str) -> String {
    let last = image.rsplit('/').next().unwrap_or(image);
    if last.contains(':') || last.contains('@') { image.to_owned() } else { format!("{image}:latest") }
}
