//! The workload kinds of `apps/v1`, and ReplicationController, which shares their rules.
//! (<https://kubernetes.io/docs/concepts/workloads/controllers/>)

mod daemonset;
mod deployment;
mod replicaset;
mod statefulset;
#[cfg(test)]
mod tests;

pub(super) use daemonset::DAEMON_SET;
pub(super) use deployment::DEPLOYMENT;
pub(super) use replicaset::{REPLICA_SET, REPLICATION_CONTROLLER};
pub(super) use statefulset::STATEFUL_SET;

use serde_json::Value;

use super::{
    Part, check, pod,
    rules::{Errors, Rules},
};
use crate::{
    field::{FieldError, FieldPath},
    selector::LabelSelector,
    value::{Object, get, is_set, items, object_at, set_default},
};

const SPEC: FieldPath<'static> = FieldPath::new("spec");

/// A snapshot that a controller keeps; its data never changes.
pub(super) static CONTROLLER_REVISION: Rules = Rules {
    validate: |object, errors| {
        check::not_negative(&object["revision"], &FieldPath::new("revision"), errors);
        check::required(&object["data"], &FieldPath::new("data"), errors);
    },
    validate_update: |new, old, _, errors| {
        check::immutable(&new["data"], &old["data"], &FieldPath::new("data"), errors)
    },
    ..Rules::DATA
};

/// `spec.selector` is there, selects something, and selects the pods of `spec.template`.
fn selector_and_template(spec: &Value, kind: &str, errors: &mut Errors) {
    let selector = &spec["selector"];
    let path = SPEC.child("selector");
    if selector.is_null() {
        errors.push(FieldError::required(&path, ""));
    } else {
        check::label_selector(selector, &path, errors);
        if items(&selector["matchExpressions"]).is_empty() && crate::value::is_empty(&selector["matchLabels"]) {
            let why = format!("empty selector is invalid for {kind}");
            errors.push(FieldError::invalid(&path, selector.clone(), why));
        }
    }
    let template = SPEC.child("template");
    matches_template(selector, &spec["template"], &template, errors);
    pod::validate_template(&spec["template"], &template, errors);
}

fn matches_template(selector: &Value, template: &Value, path: &FieldPath<'_>, errors: &mut Errors) {
    let labels = &template["metadata"]["labels"];
    if LabelSelector::from_value(selector).is_ok_and(|selector| !selector.is_empty() && !selector.matches_value(labels))
    {
        let meta = path.child("metadata");
        let why = "`selector` does not match template `labels`";
        errors.push(FieldError::invalid(&meta.child("labels"), labels.clone(), why));
    }
}

/// The pods of a controller that keeps them running restart always and have no deadline.
fn runs_forever(template: &Value, kind: &str, errors: &mut Errors) {
    let path = SPEC.child("template");
    let path = path.child("spec");
    let spec = &template["spec"];
    if is_set(&spec["restartPolicy"]) && spec["restartPolicy"] != "Always" {
        let path = path.child("restartPolicy");
        errors.push(FieldError::not_supported(&path, spec["restartPolicy"].clone(), &["Always"]));
    }
    if is_set(&spec["activeDeadlineSeconds"]) {
        let why = format!("activeDeadlineSeconds in {kind} is not Supported");
        errors.push(FieldError::forbidden(&path.child("activeDeadlineSeconds"), why));
    }
}

/// A share of the pods is at most all of them.
fn at_most_all(value: &Value, path: &FieldPath<'_>, errors: &mut Errors) {
    if check::percent_of(value).is_some_and(|percent| percent > 100) {
        errors.push(FieldError::invalid(path, value.clone(), "must not be greater than 100%"));
    }
}

fn selector_is_immutable(new: &Value, old: &Value, part: Part, errors: &mut Errors) {
    if part == Part::Main {
        check::immutable(&new["spec"]["selector"], &old["spec"]["selector"], &SPEC.child("selector"), errors);
    }
}

/// What a strategy is, and how far pods are replaced together, where nobody says.
fn default_rolling<const N: usize, V: Into<Value>>(spec: &mut Object, key: &str, amounts: [(&str, V); N]) {
    let Some(strategy) = object_at(spec, key) else { return };
    set_default(strategy, "type", "RollingUpdate");
    if get(strategy, "type") == "RollingUpdate"
        && let Some(rolling) = object_at(strategy, "rollingUpdate")
    {
        for (key, amount) in amounts {
            set_default(rolling, key, amount);
        }
    }
}

fn template_warnings(object: &Value) -> Vec<String> {
    pod::warnings(&object["spec"]["template"]["spec"], "spec.template.spec")
}
