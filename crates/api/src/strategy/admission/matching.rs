//! Which requests a policy or a binding is for.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::{
    field::{FieldError, FieldPath},
    meta::names,
    strategy::{check, rules::Errors, webhooks},
    value::{is_set, items, text},
};

/// A `MatchResources`; one that is not there is fine.
pub(super) fn check(resources: &Value, path: &FieldPath<'_>, errors: &mut Errors) {
    if !is_set(resources) {
        return;
    }
    check::one_of(&resources["matchPolicy"], &["Equivalent", "Exact"], &path.child("matchPolicy"), errors);
    for key in ["namespaceSelector", "objectSelector"] {
        match &resources[key] {
            Value::Null => errors.push(FieldError::required(&path.child(key), "")),
            selector => check::label_selector(selector, &path.child(key), errors),
        }
    }
    for key in ["resourceRules", "excludeResourceRules"] {
        let list = path.child(key);
        for (i, rule) in items(&resources[key]).iter().enumerate() {
            named_rule(rule, &list.index(i), errors);
        }
    }
}

fn named_rule(rule: &Value, path: &FieldPath<'_>, errors: &mut Errors) {
    let list = path.child("resourceNames");
    let mut taken = BTreeSet::new();
    for (i, name) in items(&rule["resourceNames"]).iter().map(text).enumerate() {
        check::faults(names::path_segment(name), name, &list.index(i), errors);
        if !taken.insert(name) {
            errors.push(FieldError::duplicate(&list.index(i), name));
        }
    }
    webhooks::rule(rule, path, errors);
}
