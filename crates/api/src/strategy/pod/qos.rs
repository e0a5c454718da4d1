use serde_json::Value;

use crate::{
    quantity::Quantity,
    value::{entries, items},
};

/// The quality-of-service class of a pod's spec.
/// (<https://kubernetes.io/docs/concepts/workloads/pods/pod-qos/>)
pub fn class(spec: &Value) -> &'static str {
    // Requests and limits of the pod as a whole decide alone where they are given.
    let whole = &spec["resources"];
    if ["limits", "requests"].iter().any(|list| entries(&whole[*list]).any(counts)) {
        return of(std::iter::once(whole));
    }
    let lists = ["initContainers", "containers"];
    of(lists.iter().flat_map(|list| items(&spec[*list])).map(|container| &container["resources"]))
}

fn counts((resource, amount): (&String, &Value)) -> bool {
    matches!(resource.as_str(), "cpu" | "memory") && Quantity::or_zero(amount) > Quantity::ZERO
}

fn of<'a>(all: impl Iterator<Item = &'a Value>) -> &'static str {
    let (mut any, mut guaranteed, mut seen) = (false, true, false);
    for resources in all {
        seen = true;
        any |= ["limits", "requests"].iter().any(|list| entries(&resources[*list]).any(counts));
        for resource in ["cpu", "memory"] {
            let limit = Quantity::or_zero(&resources["limits"][resource]);
            let request = &resources["requests"][resource];
            guaranteed &= !limit.is_zero() && (request.is_null() || Quantity::or_zero(request) == limit);
        }
    }
    match (any, guaranteed && seen) {
        (false, _) => "BestEffort",
        (true, true) => "Guaranteed",
        (true, false) => "Burstable",
    }
}
