//! Priority and fairness of requests.
//! (<https://kubernetes.io/docs/concepts/cluster-administration/flow-control/>)

mod level;
mod schema;
#[cfg(test)]
mod tests;

use serde_json::{Value, json};

pub(super) use level::PRIORITY_LEVEL;
pub(super) use schema::FLOW_SCHEMA;

use super::rules::Errors;
use crate::{
    field::{FieldError, FieldPath},
    value::{Object, int, is_empty, items, same, set_default, text},
};

/// What is never limited, and what takes whatever nothing else took. The server cannot do without either of the two.
pub const EXEMPT: &str = "exempt";
pub const CATCH_ALL: &str = "catch-all";

const SPEC: FieldPath<'static> = FieldPath::new("spec");
const STATUS: FieldPath<'static> = FieldPath::new("status");

/// The spec that a mandatory FlowSchema has, whatever anybody writes; `None` for all others.
pub fn fixed_schema(name: &str) -> Option<Value> {
    let everything = |groups: &[&str]| {
        let subject = |group: &&str| json!({ "kind": "Group", "group": { "name": group } });
        json!([{
            "subjects": groups.iter().map(subject).collect::<Vec<_>>(),
            "resourceRules": [{
                "verbs": ["*"], "apiGroups": ["*"], "resources": ["*"], "clusterScope": true, "namespaces": ["*"],
            }],
            "nonResourceRules": [{ "verbs": ["*"], "nonResourceURLs": ["*"] }],
        }])
    };
    match name {
        EXEMPT => Some(json!({
            "priorityLevelConfiguration": { "name": EXEMPT },
            "matchingPrecedence": 1,
            "rules": everything(&["system:masters"]),
        })),
        CATCH_ALL => Some(json!({
            "priorityLevelConfiguration": { "name": CATCH_ALL },
            "matchingPrecedence": 10_000,
            "distinguisherMethod": { "type": "ByUser" },
            "rules": everything(&["system:unauthenticated", "system:authenticated"]),
        })),
        _ => None,
    }
}

/// The spec of a mandatory PriorityLevelConfiguration. How much `exempt` lends is the administrator's to choose.
pub fn fixed_level(name: &str) -> Option<Value> {
    match name {
        EXEMPT => Some(json!({
            "type": "Exempt", "exempt": { "nominalConcurrencyShares": 0, "lendablePercent": 0 },
        })),
        CATCH_ALL => Some(json!({
            "type": "Limited",
            "limited": {
                "nominalConcurrencyShares": 5, "lendablePercent": 0, "limitResponse": { "type": "Reject" },
            },
        })),
        _ => None,
    }
}

/// Fills in a number that Go cannot tell from one that was left out.
fn default_number(object: &mut Object, key: &str, value: i64) {
    if object.get(key).and_then(Value::as_i64) == Some(0) {
        object.remove(key);
    }
    set_default(object, key, value);
}

fn must_be_fixed(spec: &Value, fixed: &Value, words: String, errors: &mut Errors) {
    if !same(spec, fixed) {
        errors.push(FieldError::invalid(&SPEC, spec.clone(), words));
    }
}

/// Each condition has a type, and no two have the same.
fn conditions(object: &Value, errors: &mut Errors) {
    let list = STATUS.child("conditions");
    let conditions = items(&object["status"]["conditions"]);
    for (i, condition) in conditions.iter().enumerate() {
        let (at, kind) = (list.index(i), &condition["type"]);
        if conditions[..i].iter().any(|other| text(&other["type"]) == text(kind)) {
            errors.push(FieldError::duplicate(&at.child("type"), text(kind)));
        }
        if is_empty(kind) {
            errors.push(FieldError::required(&at.child("type"), "must not be empty"));
        }
    }
}

fn positive(value: &Value, path: &FieldPath<'_>, errors: &mut Errors) -> bool {
    let is_positive = int(value) > 0;
    if !is_positive {
        errors.push(FieldError::invalid(path, int(value), "must be positive"));
    }
    is_positive
}
