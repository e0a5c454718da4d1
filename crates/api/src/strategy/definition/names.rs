//! Names of a custom resource's kind and collection.

use serde_json::Value;

use super::{SPEC, STATUS, joined};
use crate::{
    field::{FieldError, FieldPath},
    meta::names,
    strategy::rules::Errors,
    value::{is_empty, items, text},
};

/// `spec.names`: four must be there, and all must be labels.
pub(super) fn check(spec: &Value, errors: &mut Errors) {
    let path = SPEC.child("names");
    for key in ["plural", "singular", "kind", "listKind"] {
        if is_empty(&spec["names"][key]) {
            errors.push(FieldError::required(&path.child(key), ""));
        }
    }
    syntax(&spec["names"], &path, errors);
}

/// `status.acceptedNames`: none must be there.
pub(super) fn check_accepted(names: &Value, errors: &mut Errors) {
    syntax(names, &STATUS.child("acceptedNames"), errors);
}

fn syntax(all: &Value, path: &FieldPath<'_>, errors: &mut Errors) {
    for key in ["plural", "singular"] {
        let name = text(&all[key]);
        if !name.is_empty() {
            joined(names::dns1035(name), name, "", &path.child(key), errors);
        }
    }
    for key in ["kind", "listKind"] {
        let name = text(&all[key]);
        if !name.is_empty() {
            let before = "may have mixed case, but should otherwise match: ";
            joined(names::dns1035(&name.to_lowercase()), name, before, &path.child(key), errors);
        }
    }
    let each = |key: &str, errors: &mut Errors| {
        let path = path.child(key);
        for (i, name) in items(&all[key]).iter().map(text).enumerate() {
            joined(names::dns1035(name), name, "", &path.index(i), errors);
        }
    };
    each("shortNames", errors);
    if !is_empty(&all["kind"]) && all["kind"] == all["listKind"] {
        let why = "kind and listKind may not be the same";
        errors.push(FieldError::invalid(&path.child("listKind"), text(&all["listKind"]), why));
    }
    each("categories", errors);
}
