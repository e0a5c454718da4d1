//! What a node says about itself, against what the pod says it wants.

use k8s_openapi::api::core::v1::{Taint, Toleration};

use super::{Plugin, Refusal};
use crate::{cluster::NodeInfo, pod::PodInfo, terms};

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

/// (<https://kubernetes.io/docs/concepts/scheduling-eviction/taint-and-toleration/>)
pub fn tolerates(tolerations: &[Toleration], taint: &Taint) -> bool {
    tolerations.iter().any(|toleration| {
        let effect = toleration.effect.as_deref().unwrap_or_default();
        let key = toleration.key.as_deref().unwrap_or_default();
        let value = |value: &Option<String>| value.clone().unwrap_or_default();
        (effect.is_empty() || effect == taint.effect)
            && (key.is_empty() || key == taint.key)
            && match toleration.operator.as_deref() {
                Some("Exists") => true,
                None | Some("" | "Equal") => !key.is_empty() && value(&toleration.value) == value(&taint.value),
                Some(operator @ ("Lt" | "Gt")) => compare(operator, &value(&taint.value), &value(&toleration.value)),
                Some(_) => false,
            }
    })
}

/// `Gt` tolerates taints whose number is larger than the toleration's, `Lt` smaller.
fn compare(operator: &str, taint: &str, toleration: &str) -> bool {
    match (taint.parse::<i64>(), toleration.parse::<i64>()) {
        (Ok(taint), Ok(toleration)) if operator == "Gt" => taint > toleration,
        (Ok(taint), Ok(toleration)) => taint < toleration,
        _ => false,
    }
}

pub fn affinity(pod: &PodInfo, node: &NodeInfo) -> Result<(), Refusal> {
    if node_affinity_matches(pod, node) {
        return Ok(());
    }
    Err(Refusal::new(Plugin::Affinity, "node(s) didn't match Pod's node affinity/selector", false))
}

pub fn node_affinity_matches(pod: &PodInfo, node: &NodeInfo) -> bool {
    pod.node_selector.iter().all(|(key, value)| node.labels.get(key) == Some(value))
        && pod
            .required_nodes
            .as_ref()
            .is_none_or(|selector| terms::node_selector_matches(selector, &node.name, &node.labels))
}

pub fn ports(pod: &PodInfo, node: &NodeInfo) -> Result<(), Refusal> {
    let taken = |port| node.ports.iter().any(|other| other.conflicts_with(port));
    if pod.host_ports.iter().any(taken) {
        return Err(Refusal::new(Plugin::Ports, "node(s) didn't have free ports for the requested pod ports", true));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn tolerations() {
        let taint = |value: &str| Taint {
            key: "k".into(),
            value: Some(value.into()),
            effect: "NoSchedule".into(),
            ..Taint::default()
        };
        for (toleration, value, expected) in [
            (json!({"operator": "Exists"}), "v", true),
            (json!({"key": "k", "operator": "Exists"}), "v", true),
            (json!({"key": "k", "value": "v"}), "v", true),
            (json!({"key": "k", "operator": "Equal", "value": "w"}), "v", false),
            (json!({"key": "k", "operator": "Exists", "effect": "NoExecute"}), "v", false),
            (json!({"key": "other", "operator": "Exists"}), "v", false),
            (json!({"key": "k", "operator": "Gt", "value": "5"}), "9", true),
            (json!({"key": "k", "operator": "Lt", "value": "5"}), "9", false),
        ] as [(Value, &str, bool); 8]
        {
            let parsed: Toleration = serde_json::from_value(toleration.clone()).unwrap();
            assert_eq!(tolerates(&[parsed], &taint(value)), expected, "{toleration}");
        }
    }
}
