//! `autoscaling/v1` knows one metric, the processor's utilization; what else v2 says travels in annotations, so that a
//! client of v1 loses nothing when it writes back what it read.

use serde_json::{Value, json};

use crate::value::{Object, is_set, items, object_at, object_mut};

const METRICS: &str = "autoscaling.alpha.kubernetes.io/metrics";
const BEHAVIOR: &str = "autoscaling.alpha.kubernetes.io/behavior";
const CURRENT_METRICS: &str = "autoscaling.alpha.kubernetes.io/current-metrics";
const CONDITIONS: &str = "autoscaling.alpha.kubernetes.io/conditions";

fn is_cpu_utilization(metric: &Value) -> bool {
    metric["type"] == "Resource"
        && metric["resource"]["name"] == "cpu"
        && is_set(&metric["resource"]["target"]["averageUtilization"])
}

pub(in crate::strategy) fn to_v1(object: &mut Value) {
    let mut notes: Vec<(&str, Value)> = Vec::new();
    if let Some(spec) = object_mut(object, "spec") {
        let metrics = spec.remove("metrics").unwrap_or_default();
        let (cpu, others): (Vec<_>, Vec<_>) = items(&metrics).iter().cloned().partition(is_cpu_utilization);
        if let Some(cpu) = cpu.first() {
            let share = cpu["resource"]["target"]["averageUtilization"].clone();
            spec.insert("targetCPUUtilizationPercentage".into(), share);
        }
        if !others.is_empty() {
            notes.push((METRICS, others.into()));
        }
        if let Some(behavior) = spec.remove("behavior") {
            notes.push((BEHAVIOR, behavior));
        }
    }
    if let Some(status) = object_mut(object, "status") {
        let current = status.remove("currentMetrics").unwrap_or_default();
        let is_cpu = |metric: &Value| {
            metric["resource"]["name"] == "cpu" && is_set(&metric["resource"]["current"]["averageUtilization"])
        };
        if let Some(cpu) = items(&current).iter().find(|metric| is_cpu(metric)) {
            let share = cpu["resource"]["current"]["averageUtilization"].clone();
            status.insert("currentCPUUtilizationPercentage".into(), share);
        }
        let others: Vec<Value> = items(&current).iter().filter(|metric| !is_cpu(metric)).cloned().collect();
        if !others.is_empty() {
            notes.push((CURRENT_METRICS, others.into()));
        }
        if let Some(conditions) = status.remove("conditions") {
            notes.push((CONDITIONS, conditions));
        }
        if !status.contains_key("currentReplicas") {
            status.insert("currentReplicas".into(), 0.into());
        }
    }
    if !notes.is_empty()
        && let Some(meta) = object.as_object_mut().and_then(|object| object_at(object, "metadata"))
        && let Some(annotations) = object_at(meta, "annotations")
    {
        annotations.extend(notes.into_iter().map(|(key, value)| (key.to_owned(), value.to_string().into())));
    }
    object["apiVersion"] = "autoscaling/v1".into();
}

pub(in crate::strategy) fn to_v2(object: &mut Value) {
    let metrics = take_note(object, METRICS);
    let behavior = take_note(object, BEHAVIOR);
    let current = take_note(object, CURRENT_METRICS);
    let conditions = take_note(object, CONDITIONS);
    if let Some(spec) = object_mut(object, "spec") {
        let mut list = items(&metrics.unwrap_or_default()).to_vec();
        if let Some(share) = spec.remove("targetCPUUtilizationPercentage").filter(is_set) {
            let target = json!({"type": "Utilization", "averageUtilization": share});
            list.insert(0, json!({"type": "Resource", "resource": {"name": "cpu", "target": target}}));
        }
        if !list.is_empty() {
            spec.insert("metrics".into(), list.into());
        }
        if let Some(behavior) = behavior {
            spec.insert("behavior".into(), behavior);
        }
    }
    if let Some(status) = object_mut(object, "status") {
        let mut list = items(&current.unwrap_or_default()).to_vec();
        if let Some(share) = status.remove("currentCPUUtilizationPercentage").filter(is_set) {
            let current = json!({"averageUtilization": share});
            list.insert(0, json!({"type": "Resource", "resource": {"name": "cpu", "current": current}}));
        }
        status.insert("currentMetrics".into(), if list.is_empty() { Value::Null } else { list.into() });
        if let Some(conditions) = conditions {
            status.insert("conditions".into(), conditions);
        }
    }
    object["apiVersion"] = "autoscaling/v2".into();
}

/// Takes an annotation out; one that is no JSON is dropped, as it cannot be meant for us.
fn take_note(object: &mut Value, key: &str) -> Option<Value> {
    let meta = object_mut(object, "metadata")?;
    let annotations: &mut Object = meta.get_mut("annotations")?.as_object_mut()?;
    let note = annotations.remove(key)?;
    if annotations.is_empty() {
        meta.remove("annotations");
    }
    serde_json::from_str(note.as_str()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_round_trip_through_v1_loses_nothing() {
        let memory = json!({"type": "Resource", "resource": {"name": "memory", "target": {"type": "AverageValue", "averageValue": "1Gi"}}});
        let cpu = json!({"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 50}}});
        let v2 = json!({
            "apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler", "metadata": {"name": "h"},
            "spec": {"maxReplicas": 3, "metrics": [cpu, memory], "behavior": {"scaleUp": {"selectPolicy": "Max"}}},
            "status": {"currentReplicas": 1, "desiredReplicas": 2, "currentMetrics": null,
                "conditions": [{"type": "AbleToScale", "status": "True"}]},
        });
        let mut object = v2.clone();
        to_v1(&mut object);
        assert_eq!(object["spec"], json!({"maxReplicas": 3, "targetCPUUtilizationPercentage": 50}));
        to_v2(&mut object);
        assert_eq!(object, v2);
    }
}
