//! Amounts of resources by name, and what a pod asks for in all.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::{quantity::Quantity, value::items};

pub type Amounts = BTreeMap<String, Quantity>;

pub fn read(list: &Value) -> Amounts {
    let entries = list.as_object().into_iter().flatten();
    entries.filter_map(|(name, value)| Some((name.clone(), Quantity::from_value(value).ok()?))).collect()
}

pub fn add(to: &mut Amounts, more: &Amounts) {
    for (name, amount) in more {
        let sum = to.get(name).map_or(*amount, |have| *have + *amount);
        to.insert(name.clone(), sum);
    }
}

/// The larger of each amount.
pub fn raise(to: &mut Amounts, other: &Amounts) {
    for (name, amount) in other {
        if to.get(name).is_none_or(|have| have < amount) {
            to.insert(name.clone(), *amount);
        }
    }
}

/// `requests` or `limits` of a whole pod: what runs together adds up, what runs before takes the largest, and
/// sidecars count from where they start (KEP-753). What the pod itself says comes before its containers.
pub fn of_pod(pod: &Value, which: &str) -> Amounts {
    let spec = &pod["spec"];
    let mut total = Amounts::new();
    for container in items(&spec["containers"]) {
        add(&mut total, &read(&container["resources"][which]));
    }
    let (mut sidecars, mut at_start) = (Amounts::new(), Amounts::new());
    for container in items(&spec["initContainers"]) {
        let own = read(&container["resources"][which]);
        if container["restartPolicy"] == "Always" {
            add(&mut sidecars, &own);
            raise(&mut at_start, &sidecars);
        } else {
            let mut now = sidecars.clone();
            add(&mut now, &own);
            raise(&mut at_start, &now);
        }
    }
    add(&mut total, &sidecars);
    raise(&mut total, &at_start);
    for (name, amount) in read(&spec["resources"][which]) {
        total.insert(name, amount);
    }
    let mut overhead = read(&spec["overhead"]);
    if which == "limits" {
        // A resource without a limit has none with overhead either.
        overhead.retain(|name, _| total.contains_key(name));
    }
    add(&mut total, &overhead);
    total
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn pods_ask_for_what_runs_at_once() {
        let cpu = |amount: &str| json!({ "resources": { "requests": { "cpu": amount } } });
        let sidecar = |amount: &str| {
            let mut container = cpu(amount);
            container["restartPolicy"] = "Always".into();
            container
        };
        for (what, init, main, expected) in [
            ("containers add up", json!([]), json!([cpu("1"), cpu("2")]), "3"),
            ("a large init container", json!([cpu("5")]), json!([cpu("1"), cpu("2")]), "5"),
            ("a sidecar adds", json!([sidecar("1")]), json!([cpu("2")]), "3"),
            ("a sidecar beside a later init container", json!([sidecar("1"), cpu("5")]), json!([cpu("2")]), "6"),
            ("a sidecar after an init container", json!([cpu("5"), sidecar("1")]), json!([cpu("2")]), "5"),
        ] {
            let pod = json!({ "spec": { "initContainers": init, "containers": main } });
            assert_eq!(of_pod(&pod, "requests")["cpu"].to_string(), expected, "{what}");
        }
        let mut pod = json!({ "spec": { "containers": [cpu("1")], "overhead": { "cpu": "250m", "memory": "1Mi" } } });
        assert_eq!(of_pod(&pod, "requests")["cpu"].to_string(), "1250m");
        assert!(of_pod(&pod, "limits").is_empty());
        pod["spec"]["resources"] = json!({ "requests": { "cpu": "4" } });
        assert_eq!(of_pod(&pod, "requests")["cpu"].to_string(), "4250m");
    }
}
