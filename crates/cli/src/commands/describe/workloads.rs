//! Workloads, and what watches over them.

use std::collections::BTreeMap;

use serde_json::Value;

use super::{Page, controller, or_none, pod, selector_text, show, time};
use crate::{
    api::Query,
    cx::{Cx, dig, dig_str, items},
    error::Result,
};

fn number(object: &Value, path: &str) -> i64 {
    dig(object, path).as_i64().unwrap_or(0)
}

/// How many pods of a workload run, wait, have succeeded and have failed.
async fn pod_states(cx: &Cx, object: &Value) -> Result<[usize; 4]> {
    let path = format!("/api/v1/namespaces/{}/pods", dig_str(object, "metadata.namespace"));
    let selector = match dig(object, "spec.selector.matchLabels").is_null()
        && dig(object, "spec.selector.matchExpressions").is_null()
    {
        true => super::labels_text(dig(object, "spec.selector"), ","),
        false => selector_text(dig(object, "spec.selector")),
    };
    let list = cx.api().await?.get(&Query::default().add("labelSelector", selector).on(&path)).await?;
    let uid = dig(object, "metadata.uid");
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for pod in items(&list["items"]) {
        let ours = items(dig(pod, "metadata.ownerReferences"))
            .any(|owner| owner["controller"] == true && owner["uid"] == *uid);
        if ours {
            *counts.entry(dig_str(pod, "status.phase")).or_default() += 1;
        }
    }
    Ok(["Running", "Pending", "Succeeded", "Failed"].map(|phase| counts.get(phase).copied().unwrap_or(0)))
}

fn pods_status(page: &mut Page, [running, waiting, succeeded, failed]: [usize; 4]) {
    page.field(
        0,
        "Pods Status",
        format_args!("{running} Running / {waiting} Waiting / {succeeded} Succeeded / {failed} Failed"),
    );
}

fn conditions(page: &mut Page, object: &Value) {
    let list: Vec<&Value> = items(dig(object, "status.conditions")).collect();
    if list.is_empty() {
        return;
    }
    page.line(0, "Conditions:\n  Type\tStatus\tReason");
    page.line(1, "----\t------\t------");
    for condition in list {
        page.line(
            1,
            format_args!(
                "{} \t{}\t{}",
                dig_str(condition, "type"),
                dig_str(condition, "status"),
                dig_str(condition, "reason")
            ),
        );
    }
}

pub async fn deployment(cx: &Cx, page: &mut Page, object: &Value) -> Result<()> {
    page.names(object);
    page.field(0, "CreationTimestamp", time(dig(object, "metadata.creationTimestamp")));
    page.labels_and_annotations(object);
    page.field(0, "Selector", selector_text(dig(object, "spec.selector")));
    let n = |path: &str| number(object, path);
    page.field(
        0,
        "Replicas",
        format_args!(
            "{} desired | {} updated | {} total | {} available | {} unavailable",
            dig(object, "spec.replicas").as_i64().unwrap_or(1),
            n("status.updatedReplicas"),
            n("status.replicas"),
            n("status.availableReplicas"),
            n("status.unavailableReplicas")
        ),
    );
    page.field(0, "StrategyType", dig_str(object, "spec.strategy.type"));
    page.field(0, "MinReadySeconds", n("spec.minReadySeconds"));
    let rolling = dig(object, "spec.strategy.rollingUpdate");
    if rolling.is_object() {
        page.field(
            0,
            "RollingUpdateStrategy",
            format_args!(
                "{} max unavailable, {} max surge",
                show(&rolling["maxUnavailable"]),
                show(&rolling["maxSurge"])
            ),
        );
    }
    pod::template(page, dig(object, "spec.template"));
    conditions(page, object);
    let path = format!("/apis/apps/v1/namespaces/{}/replicasets", dig_str(object, "metadata.namespace"));
    let list = cx
        .api()
        .await?
        .get(&Query::default().add("labelSelector", selector_text(dig(object, "spec.selector"))).on(&path))
        .await?;
    let (mut old, mut new) = (Vec::new(), Vec::new());
    let mut sets: Vec<&Value> = items(&list["items"])
        .filter(|set| {
            items(dig(set, "metadata.ownerReferences")).any(|owner| owner["uid"] == *dig(object, "metadata.uid"))
        })
        .collect();
    sets.sort_by_key(|set| dig_str(set, "metadata.creationTimestamp"));
    let text = |set: &Value| {
        format!(
            "{} ({}/{} replicas created)",
            dig_str(set, "metadata.name"),
            number(set, "status.replicas"),
            number(set, "spec.replicas")
        )
    };
    for set in sets {
        let mut template = dig(set, "spec.template").clone();
        if let Some(labels) = template["metadata"]["labels"].as_object_mut() {
            labels.remove("pod-template-hash");
        }
        if template == *dig(object, "spec.template") { new.push(text(set)) } else { old.push(text(set)) }
    }
    page.field(0, "OldReplicaSets", or_none(&old.join(", ")));
    page.field(0, "NewReplicaSet", or_none(&new.join(", ")));
    Ok(())
}

pub async fn replica_set(cx: &Cx, page: &mut Page, object: &Value) -> Result<()> {
    page.names(object);
    let is_set = dig_str(object, "kind") == "ReplicaSet";
    let selector = if is_set {
        selector_text(dig(object, "spec.selector"))
    } else {
        super::labels_text(dig(object, "spec.selector"), ",")
    };
    page.field(0, "Selector", selector);
    page.labels_and_annotations(object);
    if let Some(owner) = controller(object) {
        page.field(0, "Controlled By", owner);
    }
    page.field(
        0,
        "Replicas",
        format_args!("{} current / {} desired", number(object, "status.replicas"), number(object, "spec.replicas")),
    );
    pods_status(page, pod_states(cx, object).await?);
    pod::template(page, dig(object, "spec.template"));
    conditions(page, object);
    Ok(())
}

pub async fn stateful_set(cx: &Cx, page: &mut Page, object: &Value) -> Result<()> {
    page.names(object);
    page.field(0, "CreationTimestamp", time(dig(object, "metadata.creationTimestamp")));
    page.field(0, "Selector", selector_text(dig(object, "spec.selector")));
    page.labels_and_annotations(object);
    page.field(
        0,
        "Replicas",
        format_args!("{} desired | {} total", number(object, "spec.replicas"), number(object, "status.replicas")),
    );
    page.field(0, "Update Strategy", dig_str(object, "spec.updateStrategy.type"));
    let rolling = dig(object, "spec.updateStrategy.rollingUpdate");
    if let Some(partition) = rolling["partition"].as_i64() {
        page.field(1, "Partition", partition);
        if !rolling["maxUnavailable"].is_null() {
            page.field(1, "MaxUnavailable", show(&rolling["maxUnavailable"]));
        }
    }
    pods_status(page, pod_states(cx, object).await?);
    pod::template(page, dig(object, "spec.template"));
    let claims: Vec<&Value> = items(dig(object, "spec.volumeClaimTemplates")).collect();
    if claims.is_empty() {
        page.field(0, "Volume Claims", "<none>");
        return Ok(());
    }
    page.line(0, "Volume Claims:");
    for claim in claims {
        page.field(1, "Name", dig_str(claim, "metadata.name"));
        page.field(1, "StorageClass", dig_str(claim, "spec.storageClassName"));
        page.map(1, "Labels", dig(claim, "metadata.labels"), "=");
        page.map(1, "Annotations", dig(claim, "metadata.annotations"), "=");
        page.field(1, "Capacity", or_default(&show(dig(claim, "spec.resources.requests.storage"))));
        page.field(
            1,
            "Access Modes",
            format_args!("[{}]", items(dig(claim, "spec.accessModes")).map(show).collect::<Vec<_>>().join(" ")),
        );
    }
    Ok(())
}

fn or_default(text: &str) -> &str {
    if text.is_empty() { "<default>" } else { text }
}

pub async fn daemon_set(cx: &Cx, page: &mut Page, object: &Value) -> Result<()> {
    page.names(object);
    page.field(0, "Selector", selector_text(dig(object, "spec.selector")));
    page.map(0, "Node-Selector", dig(object, "spec.template.spec.nodeSelector"), "=");
    page.labels_and_annotations(object);
    let n = |path: &str| number(object, path);
    page.line(0, format_args!("Desired Number of Nodes Scheduled: {}", n("status.desiredNumberScheduled")));
    page.line(0, format_args!("Current Number of Nodes Scheduled: {}", n("status.currentNumberScheduled")));
    page.line(
        0,
        format_args!("Number of Nodes Scheduled with Up-to-date Pods: {}", n("status.updatedNumberScheduled")),
    );
    page.line(0, format_args!("Number of Nodes Scheduled with Available Pods: {}", n("status.numberAvailable")));
    page.line(0, format_args!("Number of Nodes Misscheduled: {}", n("status.numberMisscheduled")));
    pods_status(page, pod_states(cx, object).await?);
    pod::template(page, dig(object, "spec.template"));
    Ok(())
}

fn duration(seconds: i64) -> String {
    knarr_api::time::human_duration(seconds)
}

pub fn job(page: &mut Page, object: &Value) {
    page.names(object);
    page.field(0, "Selector", selector_text(dig(object, "spec.selector")));
    page.labels_and_annotations(object);
    if let Some(owner) = controller(object) {
        page.field(0, "Controlled By", owner);
    }
    let spec = &object["spec"];
    match spec["parallelism"].as_i64() {
        Some(parallel) => page.field(0, "Parallelism", parallel),
        None => page.field(0, "Parallelism", "<unset>"),
    }
    match spec["completions"].as_i64() {
        Some(completions) => page.field(0, "Completions", completions),
        None => page.field(0, "Completions", "<unset>"),
    }
    page.some(0, "Completion Mode", &spec["completionMode"]);
    page.some(0, "Suspend", &spec["suspend"]);
    page.some(0, "Backoff Limit", &spec["backoffLimit"]);
    page.some(0, "TTL Seconds After Finished", &spec["ttlSecondsAfterFinished"]);
    let status = &object["status"];
    if !status["startTime"].is_null() {
        page.field(0, "Start Time", time(&status["startTime"]));
    }
    if !status["completionTime"].is_null() {
        page.field(0, "Completed At", time(&status["completionTime"]));
    }
    let at = |field: &str| status[field].as_str().and_then(knarr_api::time::parse);
    if let (Some(from), Some(to)) = (at("startTime"), at("completionTime")) {
        page.field(0, "Duration", duration(knarr_api::time::seconds_between(from, to)));
    }
    if let Some(seconds) = spec["activeDeadlineSeconds"].as_i64() {
        page.field(0, "Active Deadline Seconds", format_args!("{seconds}s"));
    }
    let n = |field: &str| status[field].as_i64().unwrap_or(0);
    match status["ready"].as_i64() {
        None => page.field(
            0,
            "Pods Statuses",
            format_args!("{} Running / {} Succeeded / {} Failed", n("active"), n("succeeded"), n("failed")),
        ),
        Some(ready) => page.field(
            0,
            "Pods Statuses",
            format_args!(
                "{} Active ({ready} Ready) / {} Succeeded / {} Failed",
                n("active"),
                n("succeeded"),
                n("failed")
            ),
        ),
    }
    if spec["completionMode"] == "Indexed" {
        page.field(0, "Completed Indexes", or_none(&show(&status["completedIndexes"])));
    }
    pod::template(page, &spec["template"]);
}

pub fn cron_job(page: &mut Page, object: &Value) {
    page.names(object);
    page.labels_and_annotations(object);
    let spec = &object["spec"];
    let number_or = |value: &Value| value.as_i64().map_or("<unset>".to_owned(), |n| n.to_string());
    page.field(0, "Schedule", dig_str(spec, "schedule"));
    page.field(0, "Concurrency Policy", dig_str(spec, "concurrencyPolicy"));
    page.field(0, "Suspend", if spec["suspend"] == true { "True" } else { "False" });
    page.field(
        0,
        "Time Zone",
        match dig_str(spec, "timeZone") {
            "" => "<unset>",
            zone => zone,
        },
    );
    page.field(0, "Successful Job History Limit", number_or(&spec["successfulJobsHistoryLimit"]));
    page.field(0, "Failed Job History Limit", number_or(&spec["failedJobsHistoryLimit"]));
    match spec["startingDeadlineSeconds"].as_i64() {
        Some(seconds) => page.field(0, "Starting Deadline Seconds", format_args!("{seconds}s")),
        None => page.field(0, "Starting Deadline Seconds", "<unset>"),
    }
    let job = dig(spec, "jobTemplate.spec");
    page.field(
        0,
        "Selector",
        match selector_text(&job["selector"]).as_str() {
            "" => "<unset>",
            text => text,
        },
    );
    page.field(0, "Parallelism", number_or(&job["parallelism"]));
    page.field(0, "Completions", number_or(&job["completions"]));
    if let Some(seconds) = job["activeDeadlineSeconds"].as_i64() {
        page.field(0, "Active Deadline Seconds", format_args!("{seconds}s"));
    }
    pod::template(page, &job["template"]);
    page.field(0, "Last Schedule Time", time(dig(object, "status.lastScheduleTime")));
    let active: Vec<&str> = items(dig(object, "status.active")).map(|job| dig_str(job, "name")).collect();
    page.field(0, "Active Jobs", or_none(&active.join(", ")));
}

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
    let list: Vec<&Value> = items(&status["conditions"]).collect();
    if !list.is_empty() {
        page.line(0, "Conditions:");
        page.line(1, "Type\tStatus\tReason\tMessage");
        page.line(1, "----\t------\t------\t-------");
        for condition in list {
            page.line(
                1,
                format_args!(
                    "{}\t{}\t{}\t{}",
                    dig_str(condition, "type"),
                    dig_str(condition, "status"),
                    dig_str(condition, "reason"),
                    dig_str(condition, "message")
                ),
            );
        }
    }
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
