//! How much, how many and what first: quotas, disruption budgets and priority classes.

use clap::Command;
use serde_json::{Value, json};

use super::{generator, pairs};
use crate::{
    cx::Cx,
    error::Result,
    fail,
    flags::{list, switch, text},
};

pub fn commands() -> [Command; 3] {
    [
        generator("quota", "Create a quota", vec![list("hard", "RESOURCE=AMOUNT"), list("scopes", "What it counts")]),
        generator(
            "poddisruptionbudget",
            "Create a pod disruption budget",
            vec![
                text("selector", "Which pods"),
                text("min-available", "How many must stay"),
                text("max-unavailable", "How many may go"),
            ],
        )
        .visible_alias("pdb"),
        generator(
            "priorityclass",
            "Create a priority class",
            vec![
                text("value", "The priority"),
                text("description", "What it is for"),
                switch("global-default", "For pods that name none"),
                text("preemption-policy", "PreemptLowerPriority or Never"),
            ],
        )
        .visible_alias("pc"),
    ]
}

pub fn quota(cx: &Cx, name: &str) -> Result<Value> {
    let mut spec = json!({});
    let hard = pairs(&cx.flags.list("hard"))?;
    if !hard.is_empty() {
        spec["hard"] = hard.into();
    }
    let scopes = cx.flags.list("scopes");
    if !scopes.is_empty() {
        spec["scopes"] = scopes.into();
    }
    Ok(json!({"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": name}, "spec": spec, "status": {}}))
}

fn number_or_text(text: &str) -> Value {
    text.parse::<i64>().map_or_else(|_| text.into(), Value::from)
}

pub fn budget(cx: &Cx, name: &str) -> Result<Value> {
    let selector = cx.flags.some("selector").ok_or_else(|| fail!("a selector must be specified"))?;
    let mut spec = json!({"selector": {"matchLabels": pairs(&selector.split(',').collect::<Vec<_>>())?}});
    match (cx.flags.some("min-available"), cx.flags.some("max-unavailable")) {
        (Some(min), None) => spec["minAvailable"] = number_or_text(min),
        (None, Some(max)) => spec["maxUnavailable"] = number_or_text(max),
        (Some(_), Some(_)) => return Err(fail!("min-available and max-unavailable cannot be both specified")),
        (None, None) => return Err(fail!("one of min-available or max-unavailable must be specified")),
    }
    let status = json!({"currentHealthy": 0, "desiredHealthy": 0, "disruptionsAllowed": 0, "expectedPods": 0});
    Ok(
        json!({"apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": {"name": name}, "spec": spec, "status": status}),
    )
}

pub fn priority_class(cx: &Cx, name: &str) -> Result<Value> {
    let mut object = json!({
        "apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass", "metadata": {"name": name},
        "value": cx.flags.number::<i32>("value")?.unwrap_or(0),
        "preemptionPolicy": cx.flags.some("preemption-policy").unwrap_or("PreemptLowerPriority"),
    });
    if cx.flags.on("global-default") {
        object["globalDefault"] = true.into();
    }
    if let Some(description) = cx.flags.some("description") {
        object["description"] = description.into();
    }
    Ok(object)
}
