use k8s_openapi::api::core::v1::Node;
use serde_json::{Value, json};

use super::plan;

/// The node after all that is planned for it is done.
fn settle(mut node: Value, has_company: bool) -> Value {
    for _ in 0..4 {
        let parsed: Node = serde_json::from_value(node.clone()).unwrap();
        let Some(patch) = plan::patch(&parsed, has_company) else { return node };
        json_patch::merge(&mut node, &patch);
    }
    panic!("it does not come to an end: {node}");
}

fn taints(node: &Value) -> usize {
    node["spec"]["taints"].as_array().map_or(0, Vec::len)
}

#[test]
fn the_taint_comes_and_goes_with_company() {
    let other = json!({"key": "gpu", "effect": "NoSchedule"});
    let alone = settle(json!({"metadata": {"name": "n"}, "spec": {"taints": [other]}}), false);
    assert_eq!(alone["metadata"]["labels"]["node-role.kubernetes.io/control-plane"], "");
    assert_eq!(taints(&alone), 1);
    let joined = settle(alone.clone(), true);
    assert_eq!(taints(&joined), 2);
    assert_eq!(
        joined["spec"]["taints"][1],
        json!({"key": "node-role.kubernetes.io/control-plane", "effect": "NoSchedule"})
    );
    let left = settle(joined, false);
    assert_eq!(taints(&left), 1);
    assert_eq!(taints(&settle(left, true)), 2);
}

#[test]
fn what_an_administrator_does_stays() {
    let mut node = settle(json!({"metadata": {"name": "n"}}), true);
    node["spec"]["taints"] = json!([]);
    let node = settle(node, true);
    assert_eq!(taints(&node), 0);
    assert_eq!(taints(&settle(settle(node, false), true)), 0, "also when the others come back");
    let theirs = json!([{"key": "node-role.kubernetes.io/control-plane", "effect": "NoSchedule"}]);
    let node = settle(json!({"metadata": {"name": "n"}, "spec": {"taints": theirs}}), true);
    assert_eq!(taints(&settle(node, false)), 1);
}
