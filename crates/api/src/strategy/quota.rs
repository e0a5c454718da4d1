//! What a ResourceQuota may limit, and in which scopes.
//! (<https://kubernetes.io/docs/concepts/policy/resource-quotas/>)

use serde_json::Value;

use super::rules::Errors;
use crate::{
    field::{FieldError, FieldPath},
    quantity::Quantity,
    value::{entries, items, text},
};

const SPEC: FieldPath<'static> = FieldPath::new("spec");
/// Counted in whole objects.
const OBJECTS: [&str; 9] = [
    "configmaps",
    "persistentvolumeclaims",
    "pods",
    "replicationcontrollers",
    "resourcequotas",
    "secrets",
    "services",
    "services.loadbalancers",
    "services.nodeports",
];
const AMOUNTS: [&str; 4] = ["cpu", "ephemeral-storage", "memory", "storage"];
const SCOPES: [&str; 7] = [
    "BestEffort",
    "CrossNamespacePodAffinity",
    "NotBestEffort",
    "NotTerminating",
    "PriorityClass",
    "Terminating",
    "VolumeAttributesClass",
];

pub(super) fn validate(spec: &Value, errors: &mut Errors) {
    let hard = SPEC.child("hard");
    for (name, amount) in entries(&spec["hard"]) {
        let path = hard.key(name);
        if !name.contains('/') && !is_standard(name) {
            errors.push(FieldError::invalid(&path, name.as_str(), "must be a standard resource for quotas"));
        }
        let is_count = OBJECTS.contains(&name.as_str()) || name.starts_with("count/");
        if is_count && Quantity::or_zero(amount).milli_value() % 1000 != 0 {
            errors.push(FieldError::invalid(&path, amount.clone(), "must be an integer"));
        }
    }
    let scopes: Vec<&str> = items(&spec["scopes"]).iter().map(text).collect();
    let path = SPEC.child("scopes");
    check_scopes(&scopes, spec, &path, &spec["scopes"], errors);
    let selector = SPEC.child("scopeSelector");
    let list = selector.child("matchExpressions");
    let expressions = items(&spec["scopeSelector"]["matchExpressions"]);
    let selected: Vec<&str> = expressions.iter().map(|one| text(&one["scopeName"])).collect();
    check_scopes(&selected, spec, &list.child("scopeName"), &spec["scopeSelector"], errors);
    expressions.iter().for_each(|expression| check_operator(expression, &list, errors));
}

fn is_standard(name: &str) -> bool {
    let plain = name.strip_prefix("requests.").or_else(|| name.strip_prefix("limits.")).unwrap_or(name);
    let is_amount = match plain {
        "storage" => name == "requests.storage",
        _ => AMOUNTS.contains(&plain),
    };
    is_amount || OBJECTS.contains(&name) || (plain.starts_with("hugepages-") && !name.starts_with("limits."))
}

fn check_scopes(scopes: &[&str], spec: &Value, path: &FieldPath<'_>, whole: &Value, errors: &mut Errors) {
    for scope in scopes {
        if !SCOPES.contains(scope) {
            errors.push(FieldError::invalid(path, *scope, "unsupported scope"));
        } else if entries(&spec["hard"]).any(|(name, _)| !is_limited_in(scope, name)) {
            errors.push(FieldError::invalid(path, whole.clone(), "unsupported scope applied to resource"));
        }
    }
    for pair in [["BestEffort", "NotBestEffort"], ["Terminating", "NotTerminating"]] {
        if pair.iter().all(|scope| scopes.contains(scope)) {
            errors.push(FieldError::invalid(path, whole.clone(), "conflicting scopes"));
        }
    }
}

/// Pods without requests have none to be limited; claims are in a scope of their own.
fn is_limited_in(scope: &str, name: &str) -> bool {
    let is_claims = name == "requests.storage"
        || name.contains("persistentvolumeclaims")
        || name.ends_with(".storageclass.storage.k8s.io/requests.storage");
    let is_pods = matches!(name, "pods" | "count/pods");
    let plain = name.strip_prefix("requests.").or_else(|| name.strip_prefix("limits.")).unwrap_or(name);
    let is_compute = plain != "storage" && (AMOUNTS.contains(&plain) || plain.starts_with("hugepages-"));
    match scope {
        "VolumeAttributesClass" => is_claims,
        "BestEffort" => is_pods,
        _ => is_pods || is_compute || (name.starts_with("requests.") && name.contains('/')),
    }
}

fn check_operator(expression: &Value, list: &FieldPath<'_>, errors: &mut Errors) {
    let (scope, operator) = (text(&expression["scopeName"]), text(&expression["operator"]));
    let only_exists = !matches!(scope, "PriorityClass" | "VolumeAttributesClass") && SCOPES.contains(&scope);
    if only_exists && operator != "Exists" {
        let why = "must be 'Exist' when scope is any of ResourceQuotaScopeTerminating, \
                   ResourceQuotaScopeNotTerminating, ResourceQuotaScopeBestEffort, ResourceQuotaScopeNotBestEffort or \
                   ResourceQuotaScopeCrossNamespacePodAffinity";
        errors.push(FieldError::invalid(&list.child("operator"), operator, why));
    }
    let has_values = !items(&expression["values"]).is_empty();
    match operator {
        "In" | "NotIn" if !has_values => {
            let why = "must be at least one value when `operator` is 'In' or 'NotIn' for scope selector";
            errors.push(FieldError::required(&list.child("values"), why));
        }
        "Exists" | "DoesNotExist" if has_values => {
            let why = "must be no value when `operator` is 'Exist' or 'DoesNotExist' for scope selector";
            errors.push(FieldError::invalid(&list.child("values"), expression["values"].clone(), why));
        }
        "In" | "NotIn" | "Exists" | "DoesNotExist" => {}
        other => errors.push(FieldError::invalid(&list.child("operator"), other, "not a valid selector operator")),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_can_be_limited_where() {
        let selector = |scope: &str, operator: &str, values: &[&str]| json!({"matchExpressions": [{"scopeName": scope, "operator": operator, "values": values}]});
        for (spec, expected) in [
            (
                json!({"hard": {"pods": "3", "requests.cpu": "1500m", "requests.nvidia.com/gpu": "2", "count/widgets.example.com": "1"}}),
                vec![],
            ),
            (
                json!({"hard": {"hugepages-2Mi": "4Mi", "gold.storageclass.storage.k8s.io/requests.storage": "5Gi"}}),
                vec![],
            ),
            (json!({"hard": {"podz": "3"}}), vec!["must be a standard resource for quotas"]),
            (json!({"hard": {"pods": "1500m"}}), vec!["must be an integer"]),
            (json!({"hard": {"pods": "3"}, "scopes": ["Odd"]}), vec!["unsupported scope"]),
            (
                json!({"hard": {"services": "3"}, "scopes": ["Terminating"]}),
                vec!["unsupported scope applied to resource"],
            ),
            (json!({"hard": {"cpu": "3"}, "scopes": ["BestEffort"]}), vec!["unsupported scope applied to resource"]),
            (json!({"hard": {"pods": "3"}, "scopes": ["Terminating", "NotTerminating"]}), vec!["conflicting scopes"]),
            (json!({"hard": {"pods": "3"}, "scopeSelector": selector("PriorityClass", "In", &["high"])}), vec![]),
            (
                json!({"hard": {"pods": "3"}, "scopeSelector": selector("PriorityClass", "In", &[])}),
                vec!["must be at least one value when `operator` is 'In' or 'NotIn' for scope selector"],
            ),
            (
                json!({"hard": {"pods": "3"}, "scopeSelector": selector("PriorityClass", "Exists", &["x"])}),
                vec!["must be no value when `operator` is 'Exist' or 'DoesNotExist' for scope selector"],
            ),
            (
                json!({"hard": {"pods": "3"}, "scopeSelector": selector("PriorityClass", "Near", &[])}),
                vec!["not a valid selector operator"],
            ),
            (
                json!({"hard": {"requests.storage": "3Gi"}, "scopeSelector": selector("VolumeAttributesClass", "In", &["x"])}),
                vec![],
            ),
        ] {
            let mut errors = Errors::new();
            validate(&spec, &mut errors);
            let said: Vec<String> = errors.iter().map(ToString::to_string).collect();
            assert_eq!(said.len(), expected.len(), "{spec}: {said:?}");
            for (said, expected) in said.iter().zip(expected) {
                assert!(said.ends_with(expected), "{spec}: {said}");
            }
        }
    }
}
