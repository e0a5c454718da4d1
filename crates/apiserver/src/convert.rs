//! Resources that are served in two versions but stored in one: Events (stored as core/v1, served as
//! events.k8s.io/v1 too) and HorizontalPodAutoscalers (stored as autoscaling/v2, served as v1 too).
//!
//! The conversions are pure and apply at the edges: what comes in is converted before the rules see it, what goes
//! out as it leaves. Bytes of the stored version are never copied.

use std::sync::Arc;

use bytes::Bytes;
use knarr_api::registry::Resource;
use serde_json::{Map, Value, json};

use crate::contract::Stored;

/// Where v1 keeps the metrics that it has no field for, as upstream does.
const METRICS: &str = "autoscaling.alpha.kubernetes.io/metrics";

/// Events: (core name, events.k8s.io name).
const EVENT_FIELDS: [(&str, &str); 6] = [
    ("message", "note"),
    ("involvedObject", "regarding"),
    ("source", "deprecatedSource"),
    ("firstTimestamp", "deprecatedFirstTimestamp"),
    ("lastTimestamp", "deprecatedLastTimestamp"),
    ("count", "deprecatedCount"),
];
const REPORTING_FIELDS: [(&str, &str); 2] =
    [("reportingComponent", "reportingController"), ("reportingInstance", "reportingInstance")];

/// The object in the version of `resource`; the same pointer where that is the stored one.
pub fn served(resource: &'static Resource, stored: Arc<Stored>) -> Arc<Stored> {
    if resource.same(resource.stored_as()) {
        return stored;
    }
    Arc::new(served_ref(resource, &stored))
}

/// The object converted, also where it need not be.
pub fn served_ref(resource: &'static Resource, stored: &Stored) -> Stored {
    let value = value_to_served(resource, &stored.value());
    Stored {
        key: stored.key.clone(),
        json: Bytes::from(serde_json::to_vec(&value).unwrap_or_default()),
        resource_version: stored.resource_version,
        labels: stored.labels.clone(),
        fields: stored.fields.clone(),
    }
}

pub fn value_to_served(resource: &'static Resource, stored: &Value) -> Value {
    let mut object = stored.clone();
    match (resource.group, resource.kind) {
        ("events.k8s.io", _) => rename(&mut object, |(core, new)| (core, new)),
        ("autoscaling", "HorizontalPodAutoscaler") if resource.version == "v1" => hpa_to_v1(&mut object),
        _ => {}
    }
    set_api_version(&mut object, resource);
    object
}

/// Brings an object of the client's version into the stored one.
pub fn to_stored(resource: &'static Resource, object: &mut Value) {
    let stored = resource.stored_as();
    if resource.same(stored) {
        return;
    }
    match resource.group {
        "events.k8s.io" => rename(object, |(core, new)| (new, core)),
        "autoscaling" => hpa_to_v2(object),
        _ => {}
    }
    set_api_version(object, stored);
}

fn set_api_version(object: &mut Value, resource: &Resource) {
    object["apiVersion"] = resource.api_version().into();
}

fn rename(object: &mut Value, direction: impl Fn((&'static str, &'static str)) -> (&'static str, &'static str)) {
    let Some(members) = object.as_object_mut() else { return };
    for pair in EVENT_FIELDS.into_iter().chain(REPORTING_FIELDS) {
        let (from, to) = direction(pair);
        if from != to
            && let Some(value) = members.remove(from)
        {
            members.insert(to.into(), value);
        }
    }
}

fn hpa_to_v1(object: &mut Value) {
    let Some(spec) = object.get_mut("spec").and_then(Value::as_object_mut) else { return };
    spec.remove("behavior");
    let metrics = spec.remove("metrics").and_then(|metrics| metrics.as_array().cloned()).unwrap_or_default();
    let mut others = Vec::new();
    for metric in metrics {
        match cpu_target(&metric) {
            Some(percent) => {
                spec.insert("targetCPUUtilizationPercentage".into(), percent.clone());
            }
            None => others.push(metric),
        }
    }
    if !others.is_empty() {
        let annotations = &mut object["metadata"]["annotations"];
        if annotations.is_null() {
            *annotations = Value::Object(Map::new());
        }
        annotations[METRICS] = Value::Array(others).to_string().into();
    }
    if let Some(status) = object.get_mut("status").and_then(Value::as_object_mut) {
        status.remove("conditions");
        let current = status.remove("currentMetrics");
        let cpu = current.as_ref().and_then(Value::as_array).into_iter().flatten().find_map(|metric| {
            let resource = &metric["resource"];
            (resource["name"] == "cpu").then(|| resource["current"]["averageUtilization"].clone())
        });
        if let Some(cpu) = cpu.filter(Value::is_number) {
            status.insert("currentCPUUtilizationPercentage".into(), cpu);
        }
    }
}

fn cpu_target(metric: &Value) -> Option<&Value> {
    let resource = &metric["resource"];
    (metric["type"] == "Resource" && resource["name"] == "cpu" && resource["target"]["type"] == "Utilization")
        .then(|| &resource["target"]["averageUtilization"])
}

fn hpa_to_v2(object: &mut Value) {
    let annotations = object.pointer_mut("/metadata/annotations").and_then(Value::as_object_mut);
    let others = annotations.and_then(|annotations| annotations.remove(METRICS));
    let others = others.as_ref().and_then(Value::as_str).and_then(|text| serde_json::from_str::<Vec<Value>>(text).ok());
    let mut metrics = others.unwrap_or_default();
    if let Some(spec) = object.get_mut("spec").and_then(Value::as_object_mut) {
        if let Some(percent) = spec.remove("targetCPUUtilizationPercentage").filter(Value::is_number) {
            let target = json!({"type": "Utilization", "averageUtilization": percent});
            metrics.insert(0, json!({"type": "Resource", "resource": {"name": "cpu", "target": target}}));
        }
        if !metrics.is_empty() {
            spec.insert("metrics".into(), metrics.into());
        }
    }
    if let Some(status) = object.get_mut("status").and_then(Value::as_object_mut)
        && let Some(percent) = status.remove("currentCPUUtilizationPercentage").filter(Value::is_number)
    {
        let current = json!({"averageUtilization": percent, "averageValue": "0"});
        status.insert(
            "currentMetrics".into(),
            json!([{"type": "Resource", "resource": {"name": "cpu", "current": current}}]),
        );
    }
}

#[cfg(test)]
mod tests {
    use knarr_api::registry::by_kind;

    use super::*;

    #[test]
    fn conversions_go_there_and_back() {
        let rows = [
            (
                ("events.k8s.io", "v1", "Event"),
                json!({"apiVersion": "events.k8s.io/v1", "kind": "Event", "note": "n", "regarding": {"name": "p"},
                       "reportingController": "c", "reportingInstance": "i", "deprecatedCount": 2, "reason": "r"}),
                json!({"apiVersion": "v1", "kind": "Event", "message": "n", "involvedObject": {"name": "p"},
                       "reportingComponent": "c", "reportingInstance": "i", "count": 2, "reason": "r"}),
            ),
            (
                ("autoscaling", "v1", "HorizontalPodAutoscaler"),
                json!({"apiVersion": "autoscaling/v1", "kind": "HorizontalPodAutoscaler",
                       "spec": {"maxReplicas": 3, "targetCPUUtilizationPercentage": 80}}),
                json!({"apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler",
                       "spec": {"maxReplicas": 3, "metrics": [{"type": "Resource", "resource": {
                           "name": "cpu", "target": {"type": "Utilization", "averageUtilization": 80}}}]}}),
            ),
        ];
        for ((group, version, kind), served, stored) in rows {
            let resource = by_kind(group, version, kind).unwrap();
            let mut object = served.clone();
            to_stored(resource, &mut object);
            assert_eq!(object, stored);
            assert_eq!(value_to_served(resource, &stored), served);
        }
    }
}
