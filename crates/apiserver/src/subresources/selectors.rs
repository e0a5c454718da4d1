use knarr_api::field::{FieldError, FieldPath};
use serde_json::Value;

use crate::json::{items, text};

/// Checks a selector of an access review. Operators that are not known here are let pass, as upstream does: whoever asks
/// may be newer.
pub(super) fn check(selector: &Value, path: &FieldPath<'_>, of_labels: bool, errors: &mut Vec<FieldError>) {
    if !selector.is_object() {
        return;
    }
    let (raw, requirements) = (text(&selector["rawSelector"]), items(&selector["requirements"]));
    if !raw.is_empty() && !requirements.is_empty() {
        let why = "may not specified at the same time as requirements";
        errors.push(FieldError::invalid(&path.child("rawSelector"), raw, why));
    }
    if raw.is_empty() && requirements.is_empty() {
        let why = format!("when {path} is specified, requirements or rawSelector is required");
        errors.push(FieldError::required(&path.child("requirements"), why));
    }
    let list = path.child("requirements");
    for (at, requirement) in requirements.iter().enumerate() {
        check_requirement(requirement, &list.index(at), of_labels, errors);
    }
}

fn check_requirement(requirement: &Value, path: &FieldPath<'_>, of_labels: bool, errors: &mut Vec<FieldError>) {
    let values = items(&requirement["values"]);
    match text(&requirement["operator"]) {
        "In" | "NotIn" if values.is_empty() => {
            let why = "must be specified when `operator` is 'In' or 'NotIn'";
            errors.push(FieldError::required(&path.child("values"), why));
        }
        "Exists" | "DoesNotExist" if !values.is_empty() => {
            let why = "may not be specified when `operator` is 'Exists' or 'DoesNotExist'";
            errors.push(FieldError::forbidden(&path.child("values"), why));
        }
        _ => {}
    }
    let key = text(&requirement["key"]);
    if !of_labels {
        if key.is_empty() {
            errors.push(FieldError::required(&path.child("key"), "must be specified"));
        }
        return;
    }
    for why in knarr_api::meta::names::qualified_name(key) {
        errors.push(FieldError::invalid(&path.child("key"), key, why));
    }
}
