use serde_json::Value;

use super::{SPEC, ephemeral, resize, tolerations};
use crate::{
    field::{FieldError, FieldPath},
    strategy::{Part, rules::Errors},
    value::{int, items, object_mut, same, text},
};

/// What a change of a pod may not do.
pub(super) fn validate(new: &Value, old: &Value, part: Part, errors: &mut Errors) {
    match part {
        Part::Main => main(&new["spec"], &old["spec"], errors),
        Part::Subresource("ephemeralcontainers") => {
            super::validate_spec(&new["spec"], &SPEC, super::Context::Pod, errors);
            ephemeral::validate_update(new, old, errors);
        }
        Part::Subresource("resize") => resize::validate(new, old, errors),
        Part::Subresource("status") => status(&new["status"], &old["status"], errors),
        Part::Subresource(_) => {}
    }
}

fn main(new: &Value, old: &Value, errors: &mut Errors) {
    let before = errors.len();
    for (list, what) in [("containers", "containers"), ("initContainers", "initContainers")] {
        if items(&new[list]).len() != items(&old[list]).len() {
            let why = format!("pod updates may not add or remove {what}");
            errors.push(FieldError::forbidden(&SPEC.child(list), why));
        }
    }
    if errors.len() > before {
        return;
    }
    active_deadline(new, old, errors);
    removed_gates_only(new, old, errors);
    tolerations::only_added(&new["tolerations"], &old["tolerations"], &SPEC.child("tolerations"), errors);
    if errors.len() > before || same(new, old) {
        return;
    }
    let masked = with_updatable_fields_of(new, old);
    if !same(&masked, old) {
        let why = "pod updates may not change fields other than `spec.containers[*].image`,\
                   `spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to \
                   existing tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was \
                   previously negative)\n";
        let mut why = why.to_owned();
        differences("Spec", &masked, old, &mut why);
        errors.push(FieldError::forbidden(&SPEC, why));
    }
}

/// The new spec with everything that may change put back to what it was.
fn with_updatable_fields_of(new: &Value, old: &Value) -> Value {
    let mut masked = new.clone();
    for list in ["containers", "initContainers"] {
        let Some(containers) = masked.get_mut(list).and_then(Value::as_array_mut) else { continue };
        for (container, before) in containers.iter_mut().zip(items(&old[list])) {
            crate::value::keep(container, before, "image");
        }
    }
    for key in ["activeDeadlineSeconds", "tolerations", "schedulingGates"] {
        crate::value::keep(&mut masked, old, key);
    }
    if int(&old["terminationGracePeriodSeconds"]) < 0 && new["terminationGracePeriodSeconds"] == 1 {
        crate::value::keep(&mut masked, old, "terminationGracePeriodSeconds");
    }
    // A pod that waits behind a gate may still be narrowed to fewer nodes.
    if !items(&old["schedulingGates"]).is_empty() {
        let narrowed =
            crate::value::entries(&old["nodeSelector"]).all(|(key, value)| new["nodeSelector"][key.as_str()] == *value);
        if narrowed {
            crate::value::keep(&mut masked, old, "nodeSelector");
        }
        let required = "requiredDuringSchedulingIgnoredDuringExecution";
        let unset = old["affinity"]["nodeAffinity"][required].is_null();
        let others = ["podAffinity", "podAntiAffinity"]
            .iter()
            .all(|kind| same(&new["affinity"][*kind], &old["affinity"][*kind]));
        if unset && others {
            crate::value::keep(&mut masked, old, "affinity");
        }
    }
    masked
}

fn active_deadline(new: &Value, old: &Value, errors: &mut Errors) {
    let path = SPEC.child("activeDeadlineSeconds");
    match (&new["activeDeadlineSeconds"], &old["activeDeadlineSeconds"]) {
        (_, Value::Null) => {}
        (Value::Null, _) => {
            let why = "must not update from a positive integer to nil value";
            errors.push(FieldError::invalid(&path, Value::Null, why));
        }
        (new, old) if int(new) > int(old) => {
            let why = "must be less than or equal to previous value";
            errors.push(FieldError::invalid(&path, new.clone(), why));
        }
        _ => {}
    }
}

fn removed_gates_only(new: &Value, old: &Value, errors: &mut Errors) {
    let list = SPEC.child("schedulingGates");
    for (i, gate) in items(&new["schedulingGates"]).iter().enumerate() {
        if !items(&old["schedulingGates"]).contains(gate) {
            let why = format!("only deletion is allowed, but found new scheduling gate '{}'", text(&gate["name"]));
            errors.push(FieldError::forbidden(&list.index(i).child("name"), why));
        }
    }
}

fn status(new: &Value, old: &Value, errors: &mut Errors) {
    if !same(&new["qosClass"], &old["qosClass"]) {
        let path = FieldPath::new("status");
        crate::meta::immutable(&new["qosClass"], &old["qosClass"], &path.child("qosClass"), errors);
    }
}

/// Lists what differs, one line a field: upstream shows a diff here and people read it to find their mistake.
fn differences(at: &str, new: &Value, old: &Value, out: &mut String) {
    match (new, old) {
        (Value::Object(new_map), Value::Object(old_map)) => {
            let mut keys: Vec<&String> = new_map.keys().chain(old_map.keys()).collect();
            keys.sort_unstable();
            keys.dedup();
            for key in keys {
                differences(&format!("{at}.{key}"), &new[key.as_str()], &old[key.as_str()], out);
            }
        }
        (Value::Array(new), Value::Array(old)) if new.len() == old.len() => {
            for (i, (new, old)) in new.iter().zip(old).enumerate() {
                differences(&format!("{at}[{i}]"), new, old, out);
            }
        }
        _ if same(new, old) => {}
        _ => out.push_str(&format!("- {at}: {old}\n+ {at}: {new}\n")),
    }
}

/// Puts a negative grace period to its legal minimum, as upstream does before it compares.
pub(super) fn raise_negative_grace(pod: &mut Value) {
    if let Some(spec) = object_mut(pod, "spec")
        && spec.get("terminationGracePeriodSeconds").is_some_and(|seconds| int(seconds) < 0)
    {
        spec.insert("terminationGracePeriodSeconds".into(), 1.into());
    }
}
