//! Bindings: where a policy holds, with which parameters, and what comes of what it says.

use serde_json::Value;

use super::{SPEC, matching};
use crate::{
    field::{FieldError, FieldPath},
    meta::names,
    strategy::{check, rules::Errors},
    value::{is_set, items, text},
};

pub(super) fn check(spec: &Value, errors: &mut Errors) {
    check::name(&spec["policyName"], names::subdomain, &SPEC.child("policyName"), errors);
    if is_set(&spec["paramRef"]) {
        param_ref(&spec["paramRef"], &SPEC.child("paramRef"), errors);
    }
    // Upstream's path has a letter too few.
    matching::check(&spec["matchResources"], &SPEC.child("matchResouces"), errors);
}

fn param_ref(reference: &Value, path: &FieldPath<'_>, errors: &mut Errors) {
    const EXCLUSIVE: &str = "name and selector are mutually exclusive";
    let (name, selector) = (text(&reference["name"]), &reference["selector"]);
    if !name.is_empty() {
        check::faults(names::path_segment(name), name, &path.child("name"), errors);
        if is_set(selector) {
            errors.push(FieldError::forbidden(&path.child("name"), EXCLUSIVE));
        }
    }
    if is_set(selector) {
        check::label_selector(selector, &path.child("selector"), errors);
        if !name.is_empty() {
            errors.push(FieldError::forbidden(&path.child("selector"), EXCLUSIVE));
        }
    } else if name.is_empty() {
        errors.push(FieldError::required(path, "one of name or selector must be specified"));
    }
    let action = &reference["parameterNotFoundAction"];
    check::one_of(action, &["Deny", "Allow"], &path.child("parameterNotFoundAction"), errors);
}

/// `validationActions`
pub(super) fn actions(actions: &Value, errors: &mut Errors) {
    let path = SPEC.child("validationActions");
    let all: Vec<&str> = items(actions).iter().map(text).collect();
    let known = ["Audit", "Deny", "Warn"];
    for (i, action) in all.iter().copied().enumerate() {
        if !known.contains(&action) {
            errors.push(FieldError::not_supported(&path.index(i), action, &known));
        }
        if all[..i].contains(&action) {
            errors.push(FieldError::duplicate(&path.index(i), action));
        }
    }
    if all.contains(&"Deny") && all.contains(&"Warn") {
        let why = "must not contain both Deny and Warn (repeating the same validation failure information in the API \
                   response and headers serves no purpose)";
        errors.push(FieldError::invalid(&path, actions.clone(), why));
    }
    if all.is_empty() {
        errors.push(FieldError::required(&path, "at least one validation action is required"));
    }
}
