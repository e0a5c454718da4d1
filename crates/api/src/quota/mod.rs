//! What an object takes out of a ResourceQuota (<https://kubernetes.io/docs/concepts/policy/resource-quotas/>).

pub mod amounts;

use serde_json::Value;

use crate::{
    quantity::{Format, Quantity},
    registry::Resource,
    value::{items, text},
    volume::class_in,
};
use amounts::Amounts;

/// Resources of the core group that quotas know by their bare name.
const COUNTED: [&str; 7] =
    ["pods", "services", "replicationcontrollers", "resourcequotas", "secrets", "configmaps", "persistentvolumeclaims"];
const COMPUTE: [&str; 3] = ["cpu", "memory", "ephemeral-storage"];

fn count(number: usize) -> Quantity {
    Quantity::new(i64::try_from(number).unwrap_or(i64::MAX), Format::DecimalSi)
}

/// True where quotas may speak of the resource under this name.
pub fn concerns(resource: &Resource, name: &str) -> bool {
    if name == format!("count/{}", resource.qualified_name()) {
        return true;
    }
    if !resource.group.is_empty() {
        return false;
    }
    match resource.plural {
        "pods" => {
            let plain = name.strip_prefix("requests.").or_else(|| name.strip_prefix("limits.")).unwrap_or(name);
            name == "pods"
                || COMPUTE.contains(&plain)
                || plain.starts_with("hugepages-")
                || (name.starts_with("requests.") && plain != "storage")
        }
        "services" => matches!(name, "services" | "services.nodeports" | "services.loadbalancers"),
        "persistentvolumeclaims" => {
            matches!(name, "persistentvolumeclaims" | "requests.storage")
                || name.contains(".storageclass.storage.k8s.io/")
        }
        plural => COUNTED.contains(&plural) && name == plural,
    }
}

/// Everything that an object uses.
pub fn usage(resource: &Resource, object: &Value) -> Amounts {
    let mut used = Amounts::from([(format!("count/{}", resource.qualified_name()), count(1))]);
    if !resource.group.is_empty() {
        return used;
    }
    match resource.plural {
        "pods" if has_ended(object) => {}
        "pods" => pod_usage(object, &mut used),
        "services" => service_usage(object, &mut used),
        "persistentvolumeclaims" => claim_usage(object, &mut used),
        plural if COUNTED.contains(&plural) => {
            used.insert(plural.to_owned(), count(1));
        }
        _ => {}
    }
    used
}

fn has_ended(pod: &Value) -> bool {
    matches!(text(&pod["status"]["phase"]), "Succeeded" | "Failed")
}

fn pod_usage(pod: &Value, used: &mut Amounts) {
    used.insert("pods".into(), count(1));
    for which in ["requests", "limits"] {
        for (name, amount) in amounts::of_pod(pod, which) {
            if which == "requests" && (COMPUTE.contains(&name.as_str()) || name.starts_with("hugepages-")) {
                used.insert(name.clone(), amount);
            }
            used.insert(format!("{which}.{name}"), amount);
        }
    }
}

fn service_usage(service: &Value, used: &mut Amounts) {
    used.insert("services".into(), count(1));
    let spec = &service["spec"];
    let ports = items(&spec["ports"]).len();
    match text(&spec["type"]) {
        "NodePort" => {
            used.insert("services.nodeports".into(), count(ports));
        }
        "LoadBalancer" => {
            used.insert("services.loadbalancers".into(), count(1));
            if spec["allocateLoadBalancerNodePorts"] != false {
                used.insert("services.nodeports".into(), count(ports));
            }
        }
        _ => {}
    }
}

fn claim_usage(claim: &Value, used: &mut Amounts) {
    used.insert("persistentvolumeclaims".into(), count(1));
    let storage = Quantity::or_zero(&claim["spec"]["resources"]["requests"]["storage"]);
    used.insert("requests.storage".into(), storage);
    let class = class_in(claim);
    if !class.is_empty() {
        used.insert(format!("{class}.storageclass.storage.k8s.io/requests.storage"), storage);
        used.insert(format!("{class}.storageclass.storage.k8s.io/persistentvolumeclaims"), count(1));
    }
}

/// True where a quota's scopes hold for a pod or a claim; other objects are in no scope.
pub fn in_scope(quota: &Value, resource: &Resource, object: &Value) -> bool {
    let spec = &quota["spec"];
    let plain = items(&spec["scopes"]).iter().map(|scope| (text(scope), "Exists", [].as_slice()));
    let expressions = items(&spec["scopeSelector"]["matchExpressions"]);
    let selected = expressions.iter().map(|e| (text(&e["scopeName"]), text(&e["operator"]), items(&e["values"])));
    let scopes: Vec<_> = plain.chain(selected).collect();
    if scopes.is_empty() {
        return true;
    }
    matches!(resource.plural, "pods" | "persistentvolumeclaims")
        && resource.group.is_empty()
        && scopes.into_iter().all(|(scope, operator, values)| match (scope, resource.plural) {
            ("VolumeAttributesClass", "persistentvolumeclaims") => {
                is_selected(text(&object["spec"]["volumeAttributesClassName"]), operator, values)
            }
            ("VolumeAttributesClass", _) | (_, "persistentvolumeclaims") => false,
            _ => scope_holds(scope, operator, values, object),
        })
}

fn is_selected(class: &str, operator: &str, values: &[Value]) -> bool {
    match operator {
        "In" => values.iter().any(|value| value == class),
        "NotIn" => values.iter().all(|value| value != class),
        "DoesNotExist" => class.is_empty(),
        _ => !class.is_empty(),
    }
}

fn scope_holds(scope: &str, operator: &str, values: &[Value], pod: &Value) -> bool {
    let spec = &pod["spec"];
    let is_best_effort = || amounts::of_pod(pod, "requests").is_empty() && amounts::of_pod(pod, "limits").is_empty();
    match scope {
        "Terminating" => spec["activeDeadlineSeconds"].as_i64().is_some(),
        "NotTerminating" => spec["activeDeadlineSeconds"].as_i64().is_none(),
        "BestEffort" => is_best_effort(),
        "NotBestEffort" => !is_best_effort(),
        "PriorityClass" => is_selected(text(&spec["priorityClassName"]), operator, values),
        "CrossNamespacePodAffinity" => ["podAffinity", "podAntiAffinity"].iter().any(|kind| {
            let affinity = &spec["affinity"][kind];
            let required = items(&affinity["requiredDuringSchedulingIgnoredDuringExecution"]).iter();
            let preferred = items(&affinity["preferredDuringSchedulingIgnoredDuringExecution"]).iter();
            let mut terms = required.chain(preferred.map(|term| &term["podAffinityTerm"]));
            terms.any(|term| !items(&term["namespaces"]).is_empty() || term["namespaceSelector"].is_object())
        }),
        _ => false,
    }
}

/// Containers that say nothing about a compute resource that a quota limits, as `cpu for: a,b`.
pub fn unspecified(hard: &Amounts, resource: &Resource, object: &Value) -> Vec<String> {
    if resource.plural != "pods" || !resource.group.is_empty() {
        return Vec::new();
    }
    let spec = &object["spec"];
    let mut problems = Vec::new();
    for name in hard.keys() {
        let (which, plain) = match name.split_once('.') {
            None => ("requests", name.as_str()),
            Some((which @ ("requests" | "limits"), plain)) => (which, plain),
            Some(_) => continue,
        };
        if !matches!(plain, "cpu" | "memory") || !spec["resources"][which][plain].is_null() {
            continue;
        }
        let all = items(&spec["containers"]).iter().chain(items(&spec["initContainers"]));
        let silent: Vec<&str> =
            all.filter(|c| c["resources"][which][plain].is_null()).map(|c| text(&c["name"])).collect();
        if !silent.is_empty() {
            problems.push(format!("{name} for: {}", silent.join(",")));
        }
    }
    problems
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::volume::BETA_CLASS;

    #[test]
    fn claims_count_for_the_class_that_they_name_either_way() {
        let claims = crate::registry::by_plural("", "v1", "persistentvolumeclaims").unwrap();
        let rows = [
            (json!({}), json!({}), None),
            (json!({}), json!({ "storageClassName": "gold" }), Some("gold")),
            (json!({ BETA_CLASS: "gold" }), json!({}), Some("gold")),
            (json!({ BETA_CLASS: "gold" }), json!({ "storageClassName": "tin" }), Some("gold")),
            (json!({ BETA_CLASS: "" }), json!({ "storageClassName": "tin" }), None),
        ];
        for (annotations, mut spec, class) in rows {
            spec["resources"] = json!({ "requests": { "storage": "1Gi" } });
            let used = usage(claims, &json!({ "metadata": { "annotations": annotations }, "spec": spec }));
            let of_classes: Vec<_> = used.keys().filter_map(|name| name.split_once(".storageclass")).collect();
            let expected: Vec<_> = class
                .into_iter()
                .flat_map(|class| {
                    [(class, ".storage.k8s.io/persistentvolumeclaims"), (class, ".storage.k8s.io/requests.storage")]
                })
                .collect();
            assert_eq!(of_classes, expected, "{annotations} {spec}");
        }
    }
}
