//! Workloads that keep their pods.

use std::collections::BTreeMap;

use serde_json::Value;

use super::{Page, controller, or_none, pod, selector_text, show, time};
use crate::{
    api::Query,
    cx::{Cx, dig, dig_str, items},
    error::Result,
};

pub(super) fn number(object: &Value, path: &str) -> i64 {
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
    page.conditions(object, &["Type\tStatus\tReason", "----\t------\t------"], |condition| {
        let text = |field| dig_str(condition, field);
        format!("{} \t{}\t{}", text("type"), text("status"), text("reason"))
    });
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
