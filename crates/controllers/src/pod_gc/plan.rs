//! Which pods nobody will delete. Pure.

use std::sync::Arc;

use k8s_openapi::api::core::v1::Node;
use knarr_client::lean::Pod;

use crate::common::pods;

const OUT_OF_SERVICE: &str = "node.kubernetes.io/out-of-service";
/// So many pods that have ended are kept (upstream's --terminated-pod-gc-threshold).
const MAX_ENDED: usize = 12_500;

pub fn to_delete(all: &[Arc<Pod>]) -> Vec<Arc<Pod>> {
    let never_placed = |pod: &&Arc<Pod>| pods::is_terminating(pod) && pods::node_name(pod).is_empty();
    let mut chosen: Vec<_> = all.iter().filter(never_placed).cloned().collect();
    let mut ended: Vec<_> = all.iter().filter(|pod| pods::is_terminal(pod) && !pods::is_terminating(pod)).collect();
    if ended.len() > MAX_ENDED {
        ended.sort_by_key(|pod| (pod.metadata.creation_timestamp.as_ref().map(|at| at.0), pod.metadata.name.clone()));
        chosen.extend(ended[..ended.len() - MAX_ENDED].iter().map(|pod| (*pod).clone()));
    }
    chosen
}

/// Pods that are to end on a node that is down and of which an administrator said, by a taint, that it will not come
/// back as it was: nobody is left to confirm their end, and volumes and names wait for it.
/// (<https://kubernetes.io/docs/concepts/cluster-administration/node-shutdown/#non-graceful-node-shutdown>)
pub fn is_out_of_service(node: &Node) -> bool {
    let taints = node.spec.iter().flat_map(|spec| spec.taints.iter().flatten());
    let conditions = node.status.iter().flat_map(|status| status.conditions.iter().flatten());
    let is_ready = conditions.into_iter().any(|condition| condition.type_ == "Ready" && condition.status == "True");
    !is_ready && taints.into_iter().any(|taint| taint.key == OUT_OF_SERVICE)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn pod(value: Value) -> Arc<Pod> {
        Arc::new(serde_json::from_value(value).unwrap())
    }

    #[test]
    fn those_never_placed_and_the_oldest_of_too_many() {
        let going = json!({"metadata": {"name": "a", "deletionTimestamp": "2024-01-01T00:00:00Z"}});
        let mut placed = going.clone();
        json_patch::merge(&mut placed, &json!({"spec": {"containers": [], "nodeName": "n"}}));
        let mut all = vec![pod(going), pod(placed), pod(json!({"metadata": {"name": "b"}}))];
        assert_eq!(to_delete(&all).len(), 1);
        for index in 0..=MAX_ENDED {
            let at = jiff::Timestamp::from_second(1_700_000_000 - index as i64).unwrap();
            all.push(pod(json!({"metadata": {"name": format!("p{index}"), "creationTimestamp": at}, "status": {"phase": "Succeeded"}})));
        }
        let chosen = to_delete(&all);
        assert_eq!(chosen.len(), 2);
        assert_eq!(chosen[1].metadata.name, Some(format!("p{MAX_ENDED}")));
    }

    #[test]
    fn out_of_service_is_said_and_seen() {
        let node = |ready: &str, key: &str| -> Node {
            let node = json!({"spec": {"taints": [{"key": key, "effect": "NoExecute"}]},
                              "status": {"conditions": [{"type": "Ready", "status": ready}]}});
            serde_json::from_value(node).unwrap()
        };
        for (ready, key, expected) in
            [("Unknown", OUT_OF_SERVICE, true), ("True", OUT_OF_SERVICE, false), ("False", "x", false)]
        {
            assert_eq!(is_out_of_service(&node(ready, key)), expected, "{ready} {key}");
        }
    }
}
