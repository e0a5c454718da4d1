//! Which pods a scale-down deletes first: those whose loss matters least.

use std::{cmp::Ordering, collections::HashMap, sync::Arc};

use jiff::Timestamp;
use knarr_client::lean::Pod;
use knarr_client::meta;

use super::pods;

const DELETION_COST: &str = "controller.kubernetes.io/pod-deletion-cost";

/// Sorts so that the pods to delete come first (upstream: ActivePodsWithRanks). `related` are the active pods of all
/// ReplicaSets with the same owner: of pods alike, those go first that share their node with most of them.
pub fn sort_by_deletion(candidates: &mut [Arc<Pod>], related: &[Arc<Pod>], now: Timestamp) {
    let mut on_node: HashMap<&str, usize> = HashMap::new();
    for pod in related.iter().filter(|pod| pods::is_active(pod)) {
        *on_node.entry(pods::node_name(pod)).or_default() += 1;
    }
    let rank = |pod: &Pod| match pods::node_name(pod) {
        "" => 0,
        node => on_node.get(node).copied().unwrap_or(0),
    };
    candidates.sort_by(|a, b| {
        let unassigned_first = (!pods::node_name(a).is_empty()).cmp(&!pods::node_name(b).is_empty());
        unassigned_first
            .then_with(|| phase_rank(a).cmp(&phase_rank(b)))
            .then_with(|| pods::is_ready(a).cmp(&pods::is_ready(b)))
            .then_with(|| deletion_cost(a).cmp(&deletion_cost(b)))
            .then_with(|| rank(b).cmp(&rank(a)))
            .then_with(|| youngest_first(pods::ready_since(a), pods::ready_since(b), now))
            .then_with(|| restarts(b).cmp(&restarts(a)))
            .then_with(|| youngest_first(created(a), created(b), now))
            .then_with(|| a.metadata.uid.cmp(&b.metadata.uid))
    });
}

fn phase_rank(pod: &Pod) -> u8 {
    match pods::phase(pod) {
        "Pending" => 0,
        "Unknown" => 1,
        _ => 2,
    }
}

fn deletion_cost(pod: &Pod) -> i32 {
    meta::annotation(&pod.metadata, DELETION_COST).and_then(|cost| cost.parse().ok()).unwrap_or(0)
}

fn created(pod: &Pod) -> Option<Timestamp> {
    pod.metadata.creation_timestamp.as_ref().map(|time| time.0)
}

fn restarts(pod: &Pod) -> i32 {
    let statuses = pod.status.iter().flat_map(|status| status.container_statuses.iter().flatten());
    statuses.map(|status| status.restart_count).max().unwrap_or(0)
}

/// Ages count by their order of magnitude only, so that repeated scaling does not always hit the newest; within
/// one the uid decides, which is as good as chance.
fn youngest_first(a: Option<Timestamp>, b: Option<Timestamp>, now: Timestamp) -> Ordering {
    match (a, b) {
        (None, None) => Ordering::Equal,
        // One that has no time yet is younger than any that has.
        (None, Some(_)) => Ordering::Less,
        (Some(_), None) => Ordering::Greater,
        (Some(a), Some(b)) => magnitude(a, now).cmp(&magnitude(b, now)),
    }
}

fn magnitude(since: Timestamp, now: Timestamp) -> i32 {
    let nanoseconds = now.duration_since(since).as_nanos();
    if nanoseconds <= 0 { -1 } else { nanoseconds.ilog2() as i32 }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pod(name: &str, node: &str, change: serde_json::Value) -> Arc<Pod> {
        let mut value = json!({
            "metadata": {"name": name, "uid": name, "creationTimestamp": "2024-01-01T00:00:00Z"},
            "spec": {"nodeName": node, "containers": []},
            "status": {"phase": "Running", "conditions": [
                {"type": "Ready", "status": "True", "lastTransitionTime": "2024-01-01T00:00:00Z"}]},
        });
        json_patch::merge(&mut value, &change);
        Arc::new(serde_json::from_value(value).unwrap())
    }

    #[test]
    fn order() {
        let now: Timestamp = "2024-01-02T00:00:00Z".parse().unwrap();
        let ready_at = |at: &str| json!({"status": {"conditions": [{"type": "Ready", "status": "True", "lastTransitionTime": at}]}});
        let expected = [
            pod("unassigned", "", json!({"status": {"phase": "Pending", "conditions": null}})),
            pod("pending", "n1", json!({"status": {"phase": "Pending", "conditions": null}})),
            pod("unready", "n1", json!({"status": {"conditions": null}})),
            pod("cheap", "n1", json!({"metadata": {"annotations": {DELETION_COST: "-5"}}})),
            pod("crowded", "n2", json!({})),
            pod("young", "n1", ready_at("2024-01-01T23:59:00Z")),
            pod(
                "restarted",
                "n1",
                json!({"status": {"containerStatuses": [
                {"name": "c", "image": "", "imageID": "", "ready": true, "restartCount": 3}]}}),
            ),
            pod("a", "n1", json!({})),
            pod("b", "n1", json!({})),
            pod("dear", "n1", json!({"metadata": {"annotations": {DELETION_COST: "7"}}})),
        ];
        let mut related = expected.to_vec();
        related.extend((0..9).map(|i| pod(&format!("x{i}"), "n2", json!({}))));
        let mut shuffled = expected.to_vec();
        shuffled.reverse();
        sort_by_deletion(&mut shuffled, &related, now);
        let names = |pods: &[Arc<Pod>]| pods.iter().map(|pod| pod.metadata.name.clone().unwrap()).collect::<Vec<_>>();
        assert_eq!(names(&shuffled), names(&expected));
    }
}
