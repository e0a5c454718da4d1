//! Which of the nodes that can take a pod is best. Each plugin gives every node 0 to 100; the weighted sum decides.

mod balance;
mod wishes;

use crate::{around::Around, cluster::Cluster, pod::PodInfo};

/// The best a plugin can say of a node.
pub const MAX: i64 = 100;

/// Upstream's default weights.
const TAINTS: i64 = 3;
const NODE_AFFINITY: i64 = 2;
const SPREAD: i64 = 2;
const POD_AFFINITY: i64 = 2;
const ROOM: i64 = 1;
const BALANCE: i64 = 1;
const IMAGES: i64 = 1;

/// The sum for each of the candidates (indexes of nodes).
pub fn totals(pod: &PodInfo, cluster: &Cluster, candidates: &[usize], around: &dyn Around) -> Vec<i64> {
    let mut totals = vec![0; candidates.len()];
    let mut add = |weight: i64, scores: Option<Vec<i64>>| {
        for (total, score) in totals.iter_mut().zip(scores.into_iter().flatten()) {
            *total += weight * score;
        }
    };
    let each = |score: &dyn Fn(usize) -> i64| Some(candidates.iter().map(|index| score(*index)).collect());
    add(ROOM, each(&|index| balance::room(pod, &cluster.nodes[index])));
    add(BALANCE, each(&|index| balance::evenness(pod, &cluster.nodes[index])));
    add(TAINTS, wishes::taints(pod, cluster, candidates));
    add(NODE_AFFINITY, wishes::node_affinity(pod, cluster, candidates));
    add(SPREAD, wishes::spread(pod, cluster, candidates, around));
    add(POD_AFFINITY, wishes::pod_affinity(pod, cluster, candidates, around));
    add(IMAGES, wishes::images(pod, cluster, candidates));
    totals
}

/// Stretches scores so that the best is 100; `lower_is_better` turns them round.
fn normalize(mut scores: Vec<i64>, lower_is_better: bool) -> Vec<i64> {
    let highest = scores.iter().copied().max().unwrap_or(0);
    for score in &mut scores {
        let share = if highest == 0 { 0 } else { *score * MAX / highest };
        *score = if lower_is_better { MAX - share } else { share };
    }
    scores
}
