//! The pods that wait for a node with a claim of theirs. Pure.

use std::sync::Arc;

use knarr_client::lean::Pod;
use knarr_client::{ObjectKey, events::EventType, meta};

use super::Said;
use crate::common::pods;

/// Finds the pods without a node by the key of each claim that they name.
pub(super) const BY_CLAIM: &str = "waiting-by-claim";

/// One that has its node, and one that never gets any, waits no more.
pub(super) fn claims_of_waiting(pod: &Pod) -> Vec<String> {
    if !pods::is_active(pod) || !pods::node_name(pod).is_empty() {
        return Vec::new();
    }
    let namespace = meta::namespace(&pod.metadata);
    pod.claims().map(|(claim, _)| ObjectKey::new(namespace, claim).to_string()).collect()
}

/// What a claim waits for whose volume is to be where its pod goes.
pub(super) fn wait(consumers: &[Arc<Pod>]) -> Said {
    let names: Vec<&str> = consumers.iter().map(|pod| meta::name(&pod.metadata)).collect();
    let (reason, message) = match &*names {
        [] => ("WaitForFirstConsumer", "waiting for first consumer to be created before binding".to_owned()),
        [name] => ("WaitForPodScheduled", format!("waiting for pod {name} to be scheduled")),
        // Which of them the scheduler looks at nobody here knows.
        _ => ("WaitForPodScheduled", format!("waiting for pods {} to be scheduled", names.join(","))),
    };
    (EventType::Normal, reason, message)
}
