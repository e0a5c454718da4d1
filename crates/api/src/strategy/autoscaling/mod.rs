//! HorizontalPodAutoscalers, stored as `autoscaling/v2`.
//! (<https://kubernetes.io/docs/reference/kubernetes-api/workload-resources/horizontal-pod-autoscaler-v2/>)

pub(super) mod convert;

use serde_json::{Value, json};

use super::{
    check, defaults,
    rules::{Errors, Generation, Rules},
};
use crate::{
    field::{FieldError, FieldPath},
    quantity::Quantity,
    value::{get, int, is_empty, is_set, items, object_at, set_default, text},
};

const SPEC: FieldPath<'static> = FieldPath::new("spec");

pub(super) static HORIZONTAL_POD_AUTOSCALER: Rules = Rules {
    generation: Generation::Never,
    initial_status: Some(|| json!({"desiredReplicas": 0, "currentMetrics": null})),
    default,
    validate,
    ..Rules::WITH_STATUS
};

fn default(object: &mut Value) {
    let Some(spec) = defaults::spec(object) else { return };
    set_default(spec, "minReplicas", 1);
    if items(get(spec, "metrics")).is_empty() {
        let cpu = json!({"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 80}});
        spec.insert("metrics".into(), json!([{"type": "Resource", "resource": cpu}]));
    }
    let Some(behavior) = spec.get_mut("behavior").and_then(Value::as_object_mut) else { return };
    let policy = |kind: &str, value: i64, seconds: i64| json!({"type": kind, "value": value, "periodSeconds": seconds});
    if let Some(up) = object_at(behavior, "scaleUp") {
        set_default(up, "stabilizationWindowSeconds", 0);
        set_default(up, "selectPolicy", "Max");
        set_default(up, "policies", json!([policy("Pods", 4, 15), policy("Percent", 100, 15)]));
    }
    if let Some(down) = object_at(behavior, "scaleDown") {
        set_default(down, "selectPolicy", "Max");
        set_default(down, "policies", json!([policy("Percent", 100, 15)]));
    }
}

fn validate(object: &Value, errors: &mut Errors) {
    let spec = &object["spec"];
    let (low, high) = (int(&spec["minReplicas"]), int(&spec["maxReplicas"]));
    if is_set(&spec["minReplicas"]) && low < 1 {
        let why = "must be greater than or equal to 1";
        errors.push(FieldError::invalid(&SPEC.child("minReplicas"), low, why));
    }
    let path = SPEC.child("maxReplicas");
    if high < 1 {
        errors.push(FieldError::invalid(&path, high, check::MUST_BE_POSITIVE));
    } else if high < low {
        errors.push(FieldError::invalid(&path, high, "must be greater than or equal to `minReplicas`"));
    }
    let target = SPEC.child("scaleTargetRef");
    for key in ["kind", "name"] {
        let path = target.child(key);
        check::name(&spec["scaleTargetRef"][key], crate::meta::names::path_segment, &path, errors);
    }
    let list = SPEC.child("metrics");
    for (i, metric) in items(&spec["metrics"]).iter().enumerate() {
        self::metric(metric, &list.index(i), errors);
    }
    behavior(&spec["behavior"], errors);
}

fn metric(metric: &Value, path: &FieldPath<'_>, errors: &mut Errors) {
    let kinds = ["ContainerResource", "External", "Object", "Pods", "Resource"];
    if is_empty(&metric["type"]) {
        errors.push(FieldError::required(&path.child("type"), "must specify a metric source type"));
        return;
    }
    check::one_of(&metric["type"], &kinds, &path.child("type"), errors);
    let key = match text(&metric["type"]) {
        "Resource" => "resource",
        "ContainerResource" => "containerResource",
        "Pods" => "pods",
        "Object" => "object",
        "External" => "external",
        _ => return,
    };
    let source_path = path.child(key);
    let source = &metric[key];
    if !is_set(source) {
        let why = "must populate information for the given metric source";
        errors.push(FieldError::required(&source_path, why));
        return;
    }
    match key {
        "resource" | "containerResource" => {
            check::required(&source["name"], &source_path.child("name"), errors);
        }
        _ => {
            let metric_path = source_path.child("metric");
            check::required(&source["metric"]["name"], &metric_path.child("name"), errors);
        }
    }
    let target_path = source_path.child("target");
    let target = &source["target"];
    check::one_of(&target["type"], &["AverageValue", "Utilization", "Value"], &target_path.child("type"), errors);
    if is_set(&target["averageUtilization"]) && int(&target["averageUtilization"]) < 1 {
        let path = target_path.child("averageUtilization");
        errors.push(FieldError::invalid(&path, target["averageUtilization"].clone(), check::MUST_BE_POSITIVE));
    }
    for key in ["value", "averageValue"] {
        if is_set(&target[key]) && Quantity::or_zero(&target[key]) <= Quantity::ZERO {
            errors.push(FieldError::invalid(&target_path.child(key), target[key].clone(), "must be positive"));
        }
    }
}

fn behavior(behavior: &Value, errors: &mut Errors) {
    let path = SPEC.child("behavior");
    for direction in ["scaleUp", "scaleDown"] {
        let rules = &behavior[direction];
        if rules.is_null() {
            continue;
        }
        let path = path.child(direction);
        let window = path.child("stabilizationWindowSeconds");
        check::in_range(&rules["stabilizationWindowSeconds"], 0, 3600, &window, errors);
        let choices = ["Disabled", "Max", "Min"];
        check::optional_one_of(&rules["selectPolicy"], &choices, &path.child("selectPolicy"), errors);
        let list = path.child("policies");
        if items(&rules["policies"]).is_empty() {
            errors.push(FieldError::required(&list, "must specify at least one Policy"));
        }
        for (i, policy) in items(&rules["policies"]).iter().enumerate() {
            let path = list.index(i);
            check::one_of(&policy["type"], &["Percent", "Pods"], &path.child("type"), errors);
            if int(&policy["value"]) < 1 {
                errors.push(FieldError::invalid(&path.child("value"), int(&policy["value"]), check::MUST_BE_POSITIVE));
            }
            let seconds = path.child("periodSeconds");
            if int(&policy["periodSeconds"]) < 1 {
                let value = int(&policy["periodSeconds"]);
                errors.push(FieldError::invalid(&seconds, value, check::MUST_BE_POSITIVE));
            } else if int(&policy["periodSeconds"]) > 1800 {
                let value = int(&policy["periodSeconds"]);
                errors.push(FieldError::invalid(&seconds, value, "must be less than or equal to 1800"));
            }
        }
    }
}
