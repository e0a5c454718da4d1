//! What a node says about itself, against what the pod says it wants.

use k8s_openapi::api::core::v1::Taint;
use knarr_api::placement::{node_selector_matches, tolerates};

use super::{Plugin, Refusal};
use crate::{cluster::NodeInfo, pod::PodInfo};

const UNSCHEDULABLE_TAINT: &str = "node.kubernetes.io/unschedulable";

pub fn unschedulable(pod: &PodInfo, node: &NodeInfo) -> Result<(), Refusal> {
    if !node.unschedulable {
        return Ok(());
    }
    let cordon = Taint { key: UNSCHEDULABLE_TAINT.to_owned(), effect: "NoSchedule".to_owned(), ..Taint::default() };
    if tolerates(&pod.tolerations, &cordon) {
        return Ok(());
    }
    Err(Refusal::new(Plugin::Unschedulable, "node(s) were unschedulable", false))
}

pub fn taints(pod: &PodInfo, node: &NodeInfo) -> Result<(), Refusal> {
    let mut hard = node.taints.iter().filter(|taint| matches!(taint.effect.as_str(), "NoSchedule" | "NoExecute"));
    if hard.all(|taint| tolerates(&pod.tolerations, taint)) {
        return Ok(());
    }
    Err(Refusal::new(Plugin::Taints, "node(s) had untolerated taint(s)", false))
}

pub fn affinity(pod: &PodInfo, node: &NodeInfo) -> Result<(), Refusal> {
    if node_affinity_matches(pod, node) {
        return Ok(());
    }
    Err(Refusal::new(Plugin::Affinity, "node(s) didn't match Pod's node affinity/selector", false))
}

pub fn node_affinity_matches(pod: &PodInfo, node: &NodeInfo) -> bool {
    pod.node_selector.iter().all(|(key, value)| node.labels.get(key) == Some(value))
        && pod.required_nodes.as_ref().is_none_or(|selector| node_selector_matches(selector, &node.name, &node.labels))
}

pub fn ports(pod: &PodInfo, node: &NodeInfo) -> Result<(), Refusal> {
    let taken = |port| node.ports.iter().any(|other| other.conflicts_with(port));
    if pod.host_ports.iter().any(taken) {
        return Err(Refusal::new(Plugin::Ports, "node(s) didn't have free ports for the requested pod ports", true));
    }
    Ok(())
}
