//! The small checks that strategies are made of. Each adds what is wrong to `errors` and nothing otherwise.

use serde_json::Value;

use super::rules::Errors;
use crate::{
    field::{FieldError, FieldPath},
    meta::{self, names},
    quantity::Quantity,
    value::{entries, int, is_empty, is_set, items, text},
};

pub(super) use crate::meta::immutable;

pub(super) const NOT_NEGATIVE: &str = "must be greater than or equal to 0";
pub(super) const MUST_BE_POSITIVE: &str = "must be greater than 0";

pub(super) fn faults(faults: names::Faults, value: &str, path: &FieldPath<'_>, errors: &mut Errors) {
    errors.extend(faults.into_iter().map(|fault| FieldError::invalid(path, value, fault)));
}

pub(super) fn required(value: &Value, path: &FieldPath<'_>, errors: &mut Errors) -> bool {
    let missing = is_empty(value);
    if missing {
        errors.push(FieldError::required(path, ""));
    }
    !missing
}

/// A name that must be there and follow `rule`.
pub(super) fn name(value: &Value, rule: fn(&str) -> names::Faults, path: &FieldPath<'_>, errors: &mut Errors) {
    if required(value, path, errors) {
        faults(rule(text(value)), text(value), path, errors);
    }
}

/// A name that may be left out.
pub(super) fn optional_name(value: &Value, rule: fn(&str) -> names::Faults, path: &FieldPath<'_>, errors: &mut Errors) {
    if !is_empty(value) {
        faults(rule(text(value)), text(value), path, errors);
    }
}

/// A value that must be there and be one of a few.
pub(super) fn one_of(value: &Value, supported: &[&str], path: &FieldPath<'_>, errors: &mut Errors) {
    if is_empty(value) {
        errors.push(FieldError::required(path, ""));
    } else {
        optional_one_of(value, supported, path, errors);
    }
}

pub(super) fn optional_one_of(value: &Value, supported: &[&str], path: &FieldPath<'_>, errors: &mut Errors) {
    if !is_empty(value) && !supported.contains(&text(value)) {
        errors.push(FieldError::not_supported(path, value.clone(), supported));
    }
}

pub(super) fn not_negative(value: &Value, path: &FieldPath<'_>, errors: &mut Errors) {
    if int(value) < 0 {
        errors.push(FieldError::invalid(path, value.clone(), NOT_NEGATIVE));
    }
}

/// Each of `keys` in `object`.
pub(super) fn none_negative(object: &Value, keys: &[&str], path: &FieldPath<'_>, errors: &mut Errors) {
    for key in keys {
        not_negative(&object[*key], &path.child(key), errors);
    }
}

/// Checks a number that is there.
pub(super) fn in_range(value: &Value, low: i64, high: i64, path: &FieldPath<'_>, errors: &mut Errors) {
    if is_set(value) && !(low..=high).contains(&int(value)) {
        errors.push(FieldError::invalid(path, value.clone(), names::in_range(low, high)));
    }
}

/// A port by number or by name.
pub(super) fn port(value: &Value, path: &FieldPath<'_>, errors: &mut Errors) {
    match value {
        Value::String(name) => faults(names::port_name(name), name, path, errors),
        other => {
            for fault in names::port_number(int(other)) {
                errors.push(FieldError::invalid(path, int(other), fault));
            }
        }
    }
}

pub(super) fn protocol(value: &Value, path: &FieldPath<'_>, errors: &mut Errors) {
    one_of(value, &["SCTP", "TCP", "UDP"], path, errors);
}

/// A number of objects, or a share of them: `3` or `25%`.
pub(super) fn int_or_percent(value: &Value, path: &FieldPath<'_>, errors: &mut Errors) {
    match value {
        Value::String(share) => faults(names::percent(share), share, path, errors),
        other => not_negative(other, path, errors),
    }
}

/// The number before `%`; `None` for a plain number.
pub(super) fn percent_of(value: &Value) -> Option<i64> {
    value.as_str()?.strip_suffix('%')?.parse().ok()
}

/// True for `0` and `0%`.
pub(super) fn is_zero_int_or_percent(value: &Value) -> bool {
    match value {
        Value::Number(number) => number.as_i64() == Some(0),
        _ => percent_of(value) == Some(0),
    }
}

/// Reads a quantity, and says so where it cannot be read.
pub(super) fn quantity(value: &Value, path: &FieldPath<'_>, errors: &mut Errors) -> Option<Quantity> {
    match Quantity::from_value(value) {
        Ok(quantity) => Some(quantity),
        Err(why) => {
            errors.push(FieldError::invalid(path, value.clone(), why.to_string()));
            None
        }
    }
}

/// Every amount of a resource list is a quantity and none is negative.
pub(super) fn resource_list(list: &Value, path: &FieldPath<'_>, errors: &mut Errors) {
    for (resource, amount) in entries(list) {
        let path = path.key(resource);
        faults(names::qualified_name(resource), resource, &path, errors);
        if quantity(amount, &path, errors).is_some_and(|amount| amount.is_negative()) {
            errors.push(FieldError::invalid(&path, amount.clone(), NOT_NEGATIVE));
        }
    }
}

const NEEDS_VALUES: &str = "must be specified when `operator` is 'In' or 'NotIn'";
const NEEDS_NO_VALUES: &str = "may not be specified when `operator` is 'Exists' or 'DoesNotExist'";
const NO_OPERATOR: &str = "not a valid selector operator";

/// A `metav1.LabelSelector`.
pub(super) fn label_selector(selector: &Value, path: &FieldPath<'_>, errors: &mut Errors) {
    if selector.is_null() {
        return;
    }
    meta::validate_labels(&selector["matchLabels"], &path.child("matchLabels"), errors);
    let list = path.child("matchExpressions");
    for (i, expression) in items(&selector["matchExpressions"]).iter().enumerate() {
        let path = list.index(i);
        operator_and_values(expression, &path, errors);
        faults(names::qualified_name(text(&expression["key"])), text(&expression["key"]), &path.child("key"), errors);
        let values = path.child("values");
        for (i, value) in items(&expression["values"]).iter().enumerate() {
            faults(names::label_value(text(value)), text(value), &values.index(i), errors);
        }
    }
}

fn operator_and_values(expression: &Value, path: &FieldPath<'_>, errors: &mut Errors) {
    let has_values = !items(&expression["values"]).is_empty();
    match text(&expression["operator"]) {
        "In" | "NotIn" if !has_values => errors.push(FieldError::required(&path.child("values"), NEEDS_VALUES)),
        "Exists" | "DoesNotExist" if has_values => {
            errors.push(FieldError::forbidden(&path.child("values"), NEEDS_NO_VALUES));
        }
        "In" | "NotIn" | "Exists" | "DoesNotExist" => {}
        other => errors.push(FieldError::invalid(&path.child("operator"), other, NO_OPERATOR)),
    }
}

/// One expression of a node selector, which knows `Gt` and `Lt` beside a label selector's operators.
pub(super) fn node_selector_requirement(expression: &Value, path: &FieldPath<'_>, errors: &mut Errors) {
    match text(&expression["operator"]) {
        "Gt" | "Lt" => {
            if items(&expression["values"]).len() != 1 {
                let why = "must be specified single value when `operator` is 'Lt' or 'Gt'";
                errors.push(FieldError::required(&path.child("values"), why));
            }
        }
        _ => operator_and_values(expression, path, errors),
    }
    faults(names::qualified_name(text(&expression["key"])), text(&expression["key"]), &path.child("key"), errors);
}

/// The terms of a `v1.NodeSelector`.
pub(super) fn node_selector(selector: &Value, path: &FieldPath<'_>, errors: &mut Errors) {
    let list = path.child("nodeSelectorTerms");
    let terms = items(&selector["nodeSelectorTerms"]);
    if terms.is_empty() {
        errors.push(FieldError::required(&list, "must have at least one node selector term"));
    }
    for (i, term) in terms.iter().enumerate() {
        node_selector_term(term, &list.index(i), errors);
    }
}

pub(super) fn node_selector_term(term: &Value, path: &FieldPath<'_>, errors: &mut Errors) {
    let list = path.child("matchExpressions");
    for (i, expression) in items(&term["matchExpressions"]).iter().enumerate() {
        node_selector_requirement(expression, &list.index(i), errors);
    }
    let list = path.child("matchFields");
    for (i, expression) in items(&term["matchFields"]).iter().enumerate() {
        let path = list.index(i);
        if !matches!(text(&expression["operator"]), "In" | "NotIn") {
            let why = "not a valid selector operator";
            errors.push(FieldError::invalid(&path.child("operator"), text(&expression["operator"]), why));
        } else if items(&expression["values"]).len() != 1 {
            let why = "must be only one value when `operator` is 'In' or 'NotIn' for node field selector";
            errors.push(FieldError::required(&path.child("values"), why));
        }
        if expression["key"] != "metadata.name" {
            let why = "not a valid field selector key";
            errors.push(FieldError::invalid(&path.child("key"), text(&expression["key"]), why));
        }
    }
}

/// A path inside a volume: relative, and never up.
pub(super) fn descending_path(path_text: &str, path: &FieldPath<'_>, errors: &mut Errors) {
    if path_text.starts_with('/') {
        errors.push(FieldError::invalid(path, path_text, "must be a relative path"));
    }
    no_backsteps(path_text, path, errors);
}

pub(super) fn no_backsteps(path_text: &str, path: &FieldPath<'_>, errors: &mut Errors) {
    if path_text.split('/').any(|step| step == "..") {
        errors.push(FieldError::invalid(path, path_text, "must not contain '..'"));
    }
}
