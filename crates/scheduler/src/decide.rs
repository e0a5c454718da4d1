//! One pod, one decision: a node, or why there is none.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use k8s_openapi::api::resource::v1::ResourceClaim;
use rand::{Rng as _, rngs::SmallRng};

use crate::{
    around::Around,
    cluster::Cluster,
    filter::{Filters, Plugin, Refusal},
    pod::PodInfo,
    preempt::{self, Hopeless},
    score,
};

/// Below this many nodes all are looked at.
const ALWAYS_ENOUGH: usize = 100;
/// At least this many percent of a large cluster are looked at.
const LEAST_PERCENT: usize = 5;

#[derive(Debug)]
pub enum Decision {
    /// Index into the cluster's nodes.
    Place(usize),
    Nowhere(Box<Nowhere>),
}

/// Why no node takes the pod.
#[derive(Debug)]
pub struct Nowhere {
    /// As the pod's condition and event say it.
    pub message: String,
    pub refused_by: Vec<Plugin>,
    /// Evicting these pods from this node would make room.
    pub preemption: Option<preempt::Preemption>,
    /// A promise of room that was made to the pod before stands, or, where there is a preemption, a new one is made.
    pub keeps_nomination: bool,
    /// A claim that nobody uses keeps the pod from nodes by where its devices are: it gives them back.
    pub idle_claim: Option<Arc<ResourceClaim>>,
}

/// Looks at nodes from `start` on, round, until enough can take the pod; moves `start` so that the next pod looks at
/// others.
pub fn decide(
    pod: &PodInfo,
    cluster: &Cluster,
    start: &mut usize,
    random: &mut SmallRng,
    around: &dyn Around,
) -> Decision {
    let filters = Filters::prepare(pod, cluster, around);
    if let Some((plugin, why)) = filters.hopeless() {
        return Decision::Nowhere(Box::new(nowhere_at_all(cluster, plugin, why)));
    }
    let nowhere = |refusals| {
        let mut nowhere = nowhere(pod, cluster, refusals, around);
        if nowhere.refused_by.contains(&Plugin::Devices) {
            nowhere.idle_claim = filters.idle_claim(cluster);
        }
        Decision::Nowhere(Box::new(nowhere))
    };
    // Where room was made for it, it goes.
    let status = pod.object.status.as_ref();
    let promised = status.and_then(|status| status.nominated_node_name.as_deref());
    for only in [pod.only_node.as_deref(), promised].into_iter().flatten() {
        let Some(index) = cluster.index_of(only).filter(|index| cluster.nodes[*index].exists) else { continue };
        match filters.check_with_nominated(&cluster.nodes[index], cluster) {
            Ok(()) => return Decision::Place(index),
            Err(refusal) if pod.only_node.is_some() => {
                return nowhere(BTreeMap::from([(index, refusal)]));
            }
            Err(_) => {}
        }
    }
    if pod.only_node.is_some() {
        return nowhere(BTreeMap::new());
    }
    let count = cluster.nodes.len();
    let enough = enough_of(count);
    let mut refusals: BTreeMap<usize, Refusal> = BTreeMap::new();
    let mut candidates = Vec::new();
    let mut seen = 0;
    while seen < count && candidates.len() < enough {
        let index = (*start + seen) % count;
        seen += 1;
        let node = &cluster.nodes[index];
        if !node.exists {
            continue;
        }
        match filters.check_with_nominated(node, cluster) {
            Ok(()) => candidates.push(index),
            Err(refusal) => drop(refusals.insert(index, refusal)),
        }
    }
    *start = if count == 0 { 0 } else { (*start + seen) % count };
    match candidates.as_slice() {
        [] => nowhere(refusals),
        [only] => Decision::Place(*only),
        several => {
            let totals = score::totals(pod, cluster, several, around);
            Decision::Place(several[best(&totals, random)])
        }
    }
}

/// How many feasible nodes are enough to choose among (upstream: numFeasibleNodesToFind).
fn enough_of(count: usize) -> usize {
    if count < ALWAYS_ENOUGH {
        return count;
    }
    let percent = (50usize.saturating_sub(count / 125)).max(LEAST_PERCENT);
    (count * percent / 100).max(ALWAYS_ENOUGH)
}

/// The position of the highest total; among equals chance decides.
fn best(totals: &[i64], random: &mut SmallRng) -> usize {
    let (mut chosen, mut equals) = (0, 1u32);
    for (position, total) in totals.iter().enumerate().skip(1) {
        if *total > totals[chosen] {
            (chosen, equals) = (position, 1);
        } else if *total == totals[chosen] {
            equals += 1;
            if random.random_range(0..equals) == 0 {
                chosen = position;
            }
        }
    }
    chosen
}

/// The pod itself is not ready to go anywhere, whatever the nodes are like.
fn nowhere_at_all(cluster: &Cluster, plugin: Plugin, why: &str) -> Nowhere {
    let message = match cluster.existing_nodes() {
        0 => "no nodes available to schedule pods".to_owned(),
        count => format!(
            "0/{count} nodes are available: {why}. preemption: 0/{count} nodes are available: {count} Preemption is not \
             helpful for scheduling."
        ),
    };
    Nowhere { message, refused_by: vec![plugin], preemption: None, keeps_nomination: false, idle_claim: None }
}

fn nowhere(pod: &PodInfo, cluster: &Cluster, refusals: BTreeMap<usize, Refusal>, around: &dyn Around) -> Nowhere {
    let count = cluster.existing_nodes();
    if count == 0 {
        let message = "no nodes available to schedule pods".to_owned();
        return Nowhere {
            message,
            refused_by: Vec::new(),
            preemption: None,
            keeps_nomination: false,
            idle_claim: None,
        };
    }
    let mut reasons: BTreeMap<&str, usize> = BTreeMap::new();
    for reason in refusals.values().flat_map(|refusal| &refusal.reasons) {
        *reasons.entry(reason).or_default() += 1;
    }
    let passed_over = count - refusals.len();
    if passed_over > 0 {
        reasons.insert("node(s) didn't satisfy plugin(s) [NodeAffinity]", passed_over);
    }
    // Sorted as texts, number included, which is how upstream sorts them.
    let reasons: BTreeSet<_> = reasons.into_iter().map(|(reason, count)| format!("{count} {reason}")).collect();
    let reasons: Vec<_> = reasons.into_iter().collect();
    let mut refused_by: BTreeSet<_> = refusals.values().map(|refusal| refusal.plugin).collect();
    refused_by.extend((passed_over > 0).then_some(Plugin::Affinity));
    let preemption = preempt::find(pod, cluster, &refusals, around);
    let (hope, keeps_nomination) = match &preemption {
        Ok(_) => (String::new(), true),
        Err(Hopeless { why, keeps_nomination }) => (format!(" preemption: {why}"), *keeps_nomination),
    };
    Nowhere {
        message: format!("0/{count} nodes are available: {}.{hope}", reasons.join(", ")),
        refused_by: refused_by.into_iter().collect(),
        preemption: preemption.ok(),
        keeps_nomination,
        idle_claim: None,
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng as _;

    use super::*;

    #[test]
    fn large_clusters_are_sampled() {
        for (count, expected) in [(1, 1), (99, 99), (100, 100), (500, 230), (1000, 420), (5000, 500), (15000, 750)] {
            assert_eq!(enough_of(count), expected, "{count} nodes");
        }
    }

    #[test]
    fn the_best_wins_and_chance_is_fair() {
        let mut random = SmallRng::seed_from_u64(1);
        assert_eq!(best(&[1, 5, 3], &mut random), 1);
        let mut hits = [0; 4];
        for _ in 0..9000 {
            hits[best(&[7, 2, 7, 7], &mut random)] += 1;
        }
        assert_eq!(hits[1], 0);
        assert!([0, 2, 3].iter().all(|position| (2700..3300).contains(&hits[*position])), "{hits:?}");
    }
}
