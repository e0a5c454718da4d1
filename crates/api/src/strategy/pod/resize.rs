//! The `resize` subresource: a running pod's containers may ask for other amounts of cpu and memory, and nothing else of
//! the pod changes.
//! (<https://kubernetes.io/docs/tasks/configure-pod-container/resize-container-resources/>)

use serde_json::{Map, Value, json};

use super::{SPEC, qos, resources};
use crate::{
    field::{FieldError, FieldPath},
    strategy::rules::Errors,
    value::{entries, items, keep, same, text},
};

const ONLY_CPU_AND_MEMORY: &str = "only cpu and memory resources are mutable";
const MIRROR: &str = "kubernetes.io/config.mirror";

/// Of the pod as it is wished for, only what may be resized; which containers there are stays in it, for the validation.
pub(super) fn wished(wished: &Value, old: &Value) -> Value {
    let mut spec = old.clone();
    for list in ["containers", "initContainers"] {
        let known = items(&old[list]);
        let containers = items(&wished[list]).iter().map(|wish| {
            let same_name = known.iter().find(|container| container["name"] == wish["name"]);
            let mut container = same_name.cloned().unwrap_or_else(|| json!({"name": wish["name"]}));
            keep(&mut container, wish, "resources");
            keep(&mut container, wish, "resizePolicy");
            container
        });
        let containers: Vec<Value> = containers.collect();
        if let Value::Object(spec) = &mut spec
            && (!containers.is_empty() || spec.contains_key(list))
        {
            spec.insert(list.into(), containers.into());
        }
    }
    keep(&mut spec, wished, "resources");
    spec
}

pub(super) fn validate(new: &Value, old: &Value, errors: &mut Errors) {
    let before = errors.len();
    let never = [
        ("static", !old["metadata"]["annotations"][MIRROR].is_null()),
        ("windows", old["spec"]["os"]["name"] == "windows"),
    ];
    if let Some((which, _)) = never.iter().find(|(_, is_one)| *is_one) {
        let why = format!("{which} pods cannot be resized");
        return errors.push(FieldError::forbidden(&FieldPath::new(""), why));
    }
    let (new, old) = (&new["spec"], &old["spec"]);
    for list in ["containers", "initContainers"] {
        order(list, new, old, errors);
    }
    if errors.len() > before {
        return;
    }
    for list in ["containers", "initContainers"] {
        for (i, (container, old)) in items(&new[list]).iter().zip(items(&old[list])).enumerate() {
            let list_path = SPEC.child(list);
            let path = list_path.index(i);
            let path = path.child("resources");
            resources::validate(&container["resources"], &path, errors);
            nothing_removed(&container["resources"], &old["resources"], &path, errors);
        }
    }
    if qos::class(new) != qos::class(old) {
        let why = "Pod QOS Class may not change as a result of resizing";
        errors.push(FieldError::invalid(&SPEC, qos::class(new), why));
    }
    if errors.len() == before {
        nothing_else(new, old, errors);
    }
}

fn order(list: &str, new: &Value, old: &Value, errors: &mut Errors) {
    let (new, old, path) = (items(&new[list]), items(&old[list]), SPEC.child(list));
    if new.len() != old.len() {
        return errors.push(FieldError::forbidden(&path, format!("{list} may not be added or removed on resize")));
    }
    for (i, _) in new.iter().zip(old).enumerate().filter(|(_, (new, old))| new["name"] != old["name"]) {
        let why = format!("{list} may not be renamed or reordered on resize");
        errors.push(FieldError::forbidden(&path.index(i).child("name"), why));
    }
}

fn nothing_removed(new: &Value, old: &Value, path: &FieldPath<'_>, errors: &mut Errors) {
    for list in ["requests", "limits"] {
        if entries(&old[list]).any(|(resource, _)| new[list][resource.as_str()].is_null()) {
            errors.push(FieldError::forbidden(&path.child(list), format!("resource {list} cannot be removed")));
        }
    }
}

/// What is left when cpu and memory are as they were has to be the old spec.
fn nothing_else(new: &Value, old: &Value, errors: &mut Errors) {
    let before = errors.len();
    let mut masked = new.clone();
    for list in ["containers", "initContainers"] {
        let Some(containers) = masked.get_mut(list).and_then(Value::as_array_mut) else { continue };
        for (container, old) in containers.iter_mut().zip(items(&old[list])) {
            let (resizable, why) = match (list, text(&old["restartPolicy"])) {
                ("containers", _) => (true, ONLY_CPU_AND_MEMORY),
                (_, "Always") => (true, "only cpu and memory resources for sidecar containers are mutable"),
                _ => (false, "resources for non-sidecar init containers are immutable"),
            };
            if resizable {
                put_back(container, old);
            }
            if !same(container, old) {
                errors.push(FieldError::forbidden(&SPEC, why));
            }
        }
    }
    if !old["resources"].is_null() {
        put_back(&mut masked, old);
    }
    if errors.len() == before && !same(&masked, old) {
        errors.push(FieldError::forbidden(&SPEC, ONLY_CPU_AND_MEMORY));
    }
}

fn put_back(container: &mut Value, old: &Value) {
    for list in ["requests", "limits"] {
        let mut amounts: Map<String, Value> = container["resources"][list].as_object().cloned().unwrap_or_default();
        for resource in ["cpu", "memory"] {
            match &old["resources"][list][resource] {
                Value::Null => amounts.remove(resource),
                amount => amounts.insert(resource.into(), amount.clone()),
            };
        }
        let Some(container) = container.as_object_mut() else { return };
        let resources = container.entry("resources").or_insert_with(|| json!({}));
        let Some(resources) = resources.as_object_mut() else { return };
        // What had none before has none, and not an empty list.
        if amounts.is_empty() && old["resources"][list].is_null() {
            resources.remove(list);
        } else {
            resources.insert(list.into(), amounts.into());
        }
    }
    let nothing = container["resources"].as_object().is_some_and(Map::is_empty);
    if nothing
        && old["resources"].is_null()
        && let Some(container) = container.as_object_mut()
    {
        container.remove("resources");
    }
}
