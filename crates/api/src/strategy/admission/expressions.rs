//! The expressions of a policy, and what stands beside them. All are compiled: what does not compile is refused.

use std::collections::BTreeSet;

use knarr_cel::Env;
use serde_json::Value;

use super::SPEC;
use crate::{
    field::{FieldError, FieldPath},
    meta::names,
    policy::{Composition, Expression, Scope, Wanted, env},
    strategy::{check, rules::Errors},
    value::{is_empty, is_set, items, text},
};

const MAX_CONDITIONS: usize = 64;
const MAX_ANNOTATIONS: usize = 20;
const MAX_ANNOTATION_EXPRESSION_BYTES: usize = 5 * 1024;
const REASONS: [&str; 4] = ["Forbidden", "Invalid", "RequestEntityTooLarge", "Unauthorized"];

/// `shown`: the expression as it was written.
pub(super) fn compile(env: &Env, source: &str, shown: &str, wanted: Wanted, path: &FieldPath<'_>, errors: &mut Errors) {
    if let Err(why) = Expression::compile(env, source, wanted).program {
        errors.push(FieldError::invalid(path, shown, why));
    }
}

/// `matchConditions` of a policy or a webhook.
pub(in crate::strategy) fn match_conditions(
    conditions: &Value,
    has_params: bool,
    path: &FieldPath<'_>,
    errors: &mut Errors,
) {
    let conditions = items(conditions);
    if conditions.is_empty() {
        return;
    }
    if conditions.len() > MAX_CONDITIONS {
        errors.push(FieldError::too_many(path, conditions.len(), MAX_CONDITIONS));
    }
    let env = env(Scope { params: has_params, authorizer: true, patches: false });
    let mut taken = BTreeSet::new();
    for (i, condition) in conditions.iter().enumerate() {
        let path = path.index(i);
        let source = text(&condition["expression"]).trim();
        if source.is_empty() {
            errors.push(FieldError::required(&path.child("expression"), ""));
        } else {
            compile(&env, source, source, Wanted::Bool, &path.child("expression"), errors);
        }
        let name = text(&condition["name"]);
        check::name(&condition["name"], names::qualified_name, &path.child("name"), errors);
        if !name.is_empty() && !taken.insert(name) {
            errors.push(FieldError::duplicate(&path.child("name"), name));
        }
    }
}

pub(super) fn variables(spec: &Value, composition: &mut Composition, errors: &mut Errors) {
    let list = SPEC.child("variables");
    for (i, variable) in items(&spec["variables"]).iter().enumerate() {
        let path = list.index(i);
        let (name, source) = (text(&variable["name"]), text(&variable["expression"]));
        if name.trim().is_empty() {
            errors.push(FieldError::required(&path.child("name"), "name is not specified"));
        } else if !is_identifier(name) {
            errors.push(FieldError::invalid(&path.child("name"), name, "name is not a valid CEL identifier"));
        }
        if source.trim().is_empty() {
            errors.push(FieldError::required(&path.child("expression"), "expression is not specified"));
        } else if let Err(why) = composition.add(name, source) {
            errors.push(FieldError::invalid(&path.child("expression"), source, why));
        }
    }
}

fn is_identifier(name: &str) -> bool {
    name.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_')
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
        && !knarr_cel::is_reserved(name)
}

pub(super) fn validations(spec: &Value, scope: Scope, composition: &Composition, errors: &mut Errors) {
    if is_empty(&spec["validations"]) && is_empty(&spec["auditAnnotations"]) {
        let why = "validations or auditAnnotations must contain at least one item";
        errors.push(FieldError::required(&SPEC.child("validations"), why));
        errors.push(FieldError::required(&SPEC.child("auditAnnotations"), why));
        return;
    }
    let list = SPEC.child("validations");
    let full = composition.env();
    let plain = composition.extend(env(Scope { authorizer: false, ..scope }));
    for (i, validation) in items(&spec["validations"]).iter().enumerate() {
        let path = list.index(i);
        let source = text(&validation["expression"]);
        if source.trim().is_empty() {
            errors.push(FieldError::required(&path.child("expression"), "expression is not specified"));
        } else {
            compile(&full, source, source, Wanted::Bool, &path.child("expression"), errors);
        }
        let (at, source) = (path.child("messageExpression"), text(&validation["messageExpression"]));
        if !source.is_empty() && source.trim().is_empty() {
            errors.push(FieldError::invalid(&at, source, "must be non-empty if specified"));
        } else if !source.is_empty() {
            compile(&plain, source, source, Wanted::String, &at, errors);
        }
        let (at, message) = (path.child("message"), text(&validation["message"]));
        if !message.is_empty() && message.trim().is_empty() {
            errors.push(FieldError::invalid(&at, message, "message must be non-empty if specified"));
        } else if message.trim().contains(['\n', '\r']) {
            errors.push(FieldError::invalid(&at, message, "message must not contain line breaks"));
        }
        let reason = &validation["reason"];
        if is_set(reason) && !REASONS.contains(&text(reason)) {
            errors.push(FieldError::not_supported(&path.child("reason"), reason.clone(), &REASONS));
        }
    }
}

pub(super) fn audit_annotations(spec: &Value, policy: &str, composition: &Composition, errors: &mut Errors) {
    let (list, all) = (SPEC.child("auditAnnotations"), items(&spec["auditAnnotations"]));
    if all.len() > MAX_ANNOTATIONS {
        let why = format!("must not have more than {MAX_ANNOTATIONS} auditAnnotations");
        errors.push(FieldError::invalid(&list, spec["auditAnnotations"].clone(), why));
    }
    let env = composition.env();
    let mut taken = BTreeSet::new();
    for (i, annotation) in all.iter().enumerate() {
        let path = list.index(i);
        let key = text(&annotation["key"]);
        if policy.is_empty() {
            errors.push(FieldError::invalid(&path.child("key"), key, "requires metadata.name be non-empty"));
        } else {
            let full = format!("{policy}/{key}");
            check::faults(names::qualified_name(&full), &full, &path.child("key"), errors);
        }
        let (at, shown) = (path.child("valueExpression"), text(&annotation["valueExpression"]));
        let source = shown.trim();
        if source.is_empty() {
            errors.push(FieldError::required(&at, "valueExpression is not specified"));
        } else if source.len() > MAX_ANNOTATION_EXPRESSION_BYTES {
            let why = format!("must not exceed {MAX_ANNOTATION_EXPRESSION_BYTES} bytes in length");
            errors.push(FieldError::required(&at, why));
        } else {
            compile(&env, source, shown, Wanted::StringOrNull, &at, errors);
        }
        if !taken.insert(key) {
            errors.push(FieldError::duplicate(&path.child("key"), key));
        }
    }
}
