//! How many pods there are to be: what changes their number, and what keeps it.

use serde_json::Value;

use super::{Page, selector_text, show, time, workloads::number};
use crate::cx::{dig, dig_str, items};

pub fn autoscaler(page: &mut Page, object: &Value) {
    page.names(object);
    page.labels_and_annotations(object);
    page.field(0, "CreationTimestamp", time(dig(object, "metadata.creationTimestamp")));
    let (spec, status) = (&object["spec"], &object["status"]);
    page.field(
        0,
        "Reference",
        format_args!("{}/{}", dig_str(spec, "scaleTargetRef.kind"), dig_str(spec, "scaleTargetRef.name")),
    );
    page.field(0, "Metrics", "( current / target )");
    for metric in items(&spec["metrics"]) {
        let target = dig(metric, "resource.target");
        let name = dig_str(metric, "resource.name");
        if name.is_empty() {
            page.line(1, format_args!("<{} metric>", dig_str(metric, "type")));
            continue;
        }
        let current = items(&status["currentMetrics"])
            .find(|m| dig_str(m, "resource.name") == name)
            .map(|m| dig(m, "resource.current"));
        let held = |field: &str| current.map(|current| show(&current[field])).filter(|text| !text.is_empty());
        match target["averageUtilization"].as_i64() {
            Some(percent) => {
                let now = held("averageUtilization")
                    .map_or("<unknown>".to_owned(), |p| format!("{p}% ({})", held("averageValue").unwrap_or_default()));
                page.line(
                    1,
                    format_args!("resource {name} on pods  (as a percentage of request):\t{now} / {percent}%"),
                );
            }
            None => {
                let now = held("averageValue").unwrap_or("<unknown>".into());
                page.line(1, format_args!("resource {name} on pods:\t{now} / {}", show(&target["averageValue"])));
            }
        }
    }
    page.field(0, "Min replicas", spec["minReplicas"].as_i64().map_or("<unset>".to_owned(), |n| n.to_string()));
    page.field(0, "Max replicas", spec["maxReplicas"].as_i64().unwrap_or(0));
    if spec["behavior"].is_object() {
        page.line(0, "Behavior:");
        for (label, field) in [("Scale Up", "scaleUp"), ("Scale Down", "scaleDown")] {
            let rules = &spec["behavior"][field];
            if !rules.is_object() {
                continue;
            }
            page.line(1, format_args!("{label}:"));
            if let Some(seconds) = rules["stabilizationWindowSeconds"].as_i64() {
                page.line(2, format_args!("Stabilization Window: {seconds} seconds"));
            }
            page.line(
                2,
                format_args!(
                    "Select Policy: {}",
                    match dig_str(rules, "selectPolicy") {
                        "" => "Max",
                        policy => policy,
                    }
                ),
            );
            page.line(2, "Policies:");
            for policy in items(&rules["policies"]) {
                page.line(
                    3,
                    format_args!(
                        "- Type: {}\tValue: {}\tPeriod: {} seconds",
                        dig_str(policy, "type"),
                        show(&policy["value"]),
                        show(&policy["periodSeconds"])
                    ),
                );
            }
        }
    }
    page.field(
        0,
        format!("{} pods", dig_str(spec, "scaleTargetRef.kind")).as_str(),
        format_args!("{} current / {} desired", number(status, "currentReplicas"), number(status, "desiredReplicas")),
    );
    page.conditions(object, &["Type\tStatus\tReason\tMessage", "----\t------\t------\t-------"], |condition| {
        ["type", "status", "reason", "message"].map(|field| dig_str(condition, field)).join("\t")
    });
}

pub fn budget(page: &mut Page, object: &Value) {
    page.names(object);
    let spec = &object["spec"];
    if !spec["minAvailable"].is_null() {
        page.field(0, "Min available", show(&spec["minAvailable"]));
    } else if !spec["maxUnavailable"].is_null() {
        page.field(0, "Max unavailable", show(&spec["maxUnavailable"]));
    }
    page.field(
        0,
        "Selector",
        match selector_text(&spec["selector"]).as_str() {
            "" => "<unset>",
            text => text,
        },
    );
    page.line(0, "Status:");
    let n = |field: &str| dig(object, "status")[field].as_i64().unwrap_or(0);
    page.field(2, "Allowed disruptions", n("disruptionsAllowed"));
    page.field(2, "Current", n("currentHealthy"));
    page.field(2, "Desired", n("desiredHealthy"));
    page.field(2, "Total", n("expectedPods"));
}
