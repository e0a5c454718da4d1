//! The scale subresource: `autoscaling/v1` Scale seen through a workload, and written back into it.

use serde_json::{Value, json};

use super::{check, rules::Errors};
use crate::{
    field::{FieldError, FieldPath},
    selector::LabelSelector,
    value::{get, int, is_empty, keep, object_at, text},
};

/// The Scale of a Deployment, ReplicaSet, StatefulSet or ReplicationController.
pub fn read(object: &Value) -> Value {
    let meta = &object["metadata"];
    let mut own = serde_json::Map::new();
    for key in ["name", "namespace", "uid", "resourceVersion", "creationTimestamp"] {
        if !is_empty(&meta[key]) {
            own.insert(key.into(), meta[key].clone());
        }
    }
    let mut status = json!({"replicas": int(&object["status"]["replicas"])});
    let selector = match object["kind"] == "ReplicationController" {
        true => LabelSelector::from_map(&object["spec"]["selector"]),
        false => LabelSelector::from_value(&object["spec"]["selector"]).unwrap_or(LabelSelector::nothing()),
    };
    if !selector.requirements().is_empty() {
        status["selector"] = selector.to_string().into();
    }
    let spec = json!({"replicas": int(&object["spec"]["replicas"])});
    json!({"kind": "Scale", "apiVersion": "autoscaling/v1", "metadata": own, "spec": spec, "status": status})
}

/// Puts the replicas of a Scale into its object. A resourceVersion and a uid that the Scale carries come along, so that
/// a stale write, or one meant for another object of that name, is noticed.
pub fn write(scale: &Value, object: &mut Value) {
    let replicas = int(&scale["spec"]["replicas"]);
    if let Some(spec) = object.as_object_mut().and_then(|object| object_at(object, "spec"))
        && get(spec, "replicas") != &json!(replicas)
    {
        spec.insert("replicas".into(), replicas.into());
    }
    for key in ["resourceVersion", "uid"] {
        if !text(&scale["metadata"][key]).is_empty()
            && let Some(meta) = object.get_mut("metadata")
        {
            keep(meta, &scale["metadata"], key);
        }
    }
}

/// What is wrong with a Scale that a client sent.
pub fn validate(scale: &Value) -> Vec<FieldError> {
    let mut errors: Errors = Vec::new();
    let spec = FieldPath::new("spec");
    check::not_negative(&scale["spec"]["replicas"], &spec.child("replicas"), &mut errors);
    errors
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scale_reads_from_and_writes_into_its_object() {
        let mut object = json!({
            "kind": "Deployment",
            "metadata": {"name": "web", "namespace": "d", "uid": "u", "resourceVersion": "7", "labels": {"a": "b"}},
            "spec": {"replicas": 3, "selector": {"matchLabels": {"app": "web"}}}, "status": {"replicas": 2},
        });
        let mut scale = read(&object);
        assert_eq!(
            scale,
            json!({
                "kind": "Scale", "apiVersion": "autoscaling/v1",
                "metadata": {"name": "web", "namespace": "d", "uid": "u", "resourceVersion": "7"},
                "spec": {"replicas": 3}, "status": {"replicas": 2, "selector": "app=web"},
            })
        );
        scale["spec"]["replicas"] = json!(5);
        scale["metadata"]["resourceVersion"] = json!("6");
        write(&scale, &mut object);
        assert_eq!((&object["spec"]["replicas"], &object["metadata"]["resourceVersion"]), (&json!(5), &json!("6")));
        scale["spec"]["replicas"] = json!(-1);
        assert_eq!(
            validate(&scale)[0].to_string(),
            "spec.replicas: Invalid value: -1: must be greater than or equal to 0"
        );
    }

    #[test]
    fn a_controller_with_a_map_for_a_selector() {
        let object =
            json!({"kind": "ReplicationController", "spec": {"replicas": 0, "selector": {"b": "2", "a": "1"}}});
        let scale = read(&object);
        assert_eq!((&scale["status"]["selector"], &scale["spec"]), (&json!("a=1,b=2"), &json!({"replicas": 0})));
    }
}
