use serde_json::{Value, json};

use super::{qos, resize};
use crate::{
    strategy::Part,
    value::{is_empty, items, items_mut, keep, object_mut, set_default, text},
};

/// The status that a new pod begins with, and the selectors that depend on its own labels.
pub(super) fn create(pod: &mut Value) {
    let class = qos::class(&pod["spec"]);
    let gated = !is_empty(&pod["spec"]["schedulingGates"]);
    if let Some(status) = object_mut(pod, "status") {
        status.insert("qosClass".into(), class.into());
        if gated {
            let condition = json!({
                "type": "PodScheduled", "status": "False", "reason": "SchedulingGated",
                "message": "Scheduling is blocked due to non-empty scheduling gates",
            });
            status.insert("conditions".into(), json!([condition]));
        }
    }
    super::update::raise_negative_grace(pod);
    match_label_keys(pod);
}

/// Turns `matchLabelKeys` into expressions over the pod's own labels, for affinity terms and spread constraints.
fn match_label_keys(pod: &mut Value) {
    let spec = &pod["spec"];
    if spec["affinity"].is_null() && spec["topologySpreadConstraints"].is_null() {
        return;
    }
    let labels = pod["metadata"]["labels"].clone();
    let Some(spec) = object_mut(pod, "spec") else { return };
    for constraint in items_mut(spec, "topologySpreadConstraints") {
        add_expressions(constraint, &labels);
    }
    let Some(affinity) = spec.get_mut("affinity").and_then(Value::as_object_mut) else { return };
    for kind in ["podAffinity", "podAntiAffinity"] {
        let Some(terms) = affinity.get_mut(kind).and_then(Value::as_object_mut) else { continue };
        for term in items_mut(terms, "requiredDuringSchedulingIgnoredDuringExecution") {
            add_expressions(term, &labels);
        }
        for weighted in items_mut(terms, "preferredDuringSchedulingIgnoredDuringExecution") {
            if let Some(term) = weighted.get_mut("podAffinityTerm") {
                add_expressions(term, &labels);
            }
        }
    }
}

fn add_expressions(term: &mut Value, labels: &Value) {
    if term["labelSelector"].is_null() {
        return;
    }
    let mut added = Vec::new();
    for (keys, operator) in [("matchLabelKeys", "In"), ("mismatchLabelKeys", "NotIn")] {
        for key in items(&term[keys]).iter().map(text) {
            let Some(value) = labels.get(key) else { continue };
            let expression = json!({"key": key, "operator": operator, "values": [value]});
            if !items(&term["labelSelector"]["matchExpressions"]).contains(&expression) {
                added.push(expression);
            }
        }
    }
    if !added.is_empty()
        && let Some(selector) = object_mut(term, "labelSelector")
    {
        set_default(selector, "matchExpressions", json!([]));
        if let Some(Value::Array(list)) = selector.get_mut("matchExpressions") {
            list.extend(added);
        }
    }
}

pub(super) fn update(new: &mut Value, old: &Value, part: Part) {
    match part {
        Part::Main => keep_quality(new, old),
        Part::Subresource("status") => {
            if let Some(meta) = object_mut(new, "metadata") {
                // Who owns a pod is not the node's to say.
                match old["metadata"].get("ownerReferences") {
                    Some(owners) => meta.insert("ownerReferences".into(), owners.clone()),
                    None => meta.remove("ownerReferences"),
                };
            }
            keep_quality(new, old);
        }
        Part::Subresource("ephemeralcontainers") => keep_spec_but(new, old, "ephemeralContainers"),
        Part::Subresource("resize") => keep_all_but_resources(new, old),
        Part::Subresource(_) => {}
    }
}

/// All but the version that the client read and the field managers, which the write itself sets.
fn keep_metadata(new: &mut Value, old: &Value) {
    let own: Vec<_> = ["resourceVersion", "managedFields"]
        .into_iter()
        .filter_map(|key| Some((key, new["metadata"].get(key)?.clone())))
        .collect();
    keep(new, old, "metadata");
    if let Some(meta) = object_mut(new, "metadata") {
        for (key, value) in own {
            meta.insert(key.into(), value);
        }
    }
}

/// The class of a running pod never changes.
fn keep_quality(new: &mut Value, old: &Value) {
    if let (Some(status), Some(class)) = (object_mut(new, "status"), old["status"].get("qosClass")) {
        set_default(status, "qosClass", class.clone());
    }
}

fn keep_spec_but(new: &mut Value, old: &Value, key: &str) {
    let changed = new["spec"].get(key).cloned();
    keep(new, old, "spec");
    keep_metadata(new, old);
    if let Some(spec) = object_mut(new, "spec") {
        match changed {
            Some(value) => spec.insert(key.into(), value),
            None => spec.remove(key),
        };
    }
}

fn keep_all_but_resources(new: &mut Value, old: &Value) {
    let wished = resize::wished(&new["spec"], &old["spec"]);
    keep_metadata(new, old);
    if let Some(new) = new.as_object_mut() {
        new.insert("spec".into(), wished);
    }
}
