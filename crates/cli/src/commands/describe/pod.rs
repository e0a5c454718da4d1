//! Pods, and the pod templates of workloads.

use serde_json::Value;

use super::{
    Page,
    containers::{amounts, containers},
    controller, time,
    volumes::volumes,
};
use crate::cx::{dig, dig_str, items};

pub fn describe(page: &mut Page, pod: &Value) {
    let (spec, status) = (&pod["spec"], &pod["status"]);
    page.names(pod);
    if let Some(priority) = spec["priority"].as_i64() {
        page.field(0, "Priority", priority);
    }
    page.some(0, "Priority Class Name", &spec["priorityClassName"]);
    page.some(0, "Runtime Class Name", &spec["runtimeClassName"]);
    page.some(0, "Service Account", &spec["serviceAccountName"]);
    match dig_str(spec, "nodeName") {
        "" => page.field(0, "Node", "<none>"),
        node => page.field(0, "Node", format_args!("{node}/{}", dig_str(status, "hostIP"))),
    }
    if !status["startTime"].is_null() {
        page.field(0, "Start Time", time(&status["startTime"]));
    }
    page.labels_and_annotations(pod);
    match dig(pod, "metadata.deletionTimestamp").as_str().and_then(knarr_api::time::parse) {
        Some(end) => {
            let age = knarr_api::time::human_duration(knarr_api::time::seconds_between(end, page.now));
            page.field(0, "Status", format_args!("Terminating (lasts {age})"));
            let grace = dig(pod, "metadata.deletionGracePeriodSeconds").as_i64().unwrap_or(0);
            page.field(0, "Termination Grace Period", format_args!("{grace}s"));
        }
        None => page.field(0, "Status", dig_str(status, "phase")),
    }
    page.some(0, "Reason", &status["reason"]);
    page.some(0, "Message", &status["message"]);
    profile(page, 0, &spec["securityContext"]);
    page.field(0, "IP", dig_str(status, "podIP"));
    let ips: Vec<&Value> = items(&status["podIPs"]).collect();
    if ips.is_empty() {
        page.field(0, "IPs", "<none>");
    } else {
        page.line(0, "IPs:");
        ips.iter().for_each(|ip| page.field(1, "IP", dig_str(ip, "ip")));
    }
    if let Some(owner) = controller(pod) {
        page.field(0, "Controlled By", owner);
    }
    page.some(0, "NominatedNodeName", &status["nominatedNodeName"]);
    if spec["resources"].is_object() {
        page.line(0, "Resources:");
        amounts(page, 1, &spec["resources"]);
    }
    for (label, list, states) in [
        ("Init Containers", "initContainers", "initContainerStatuses"),
        ("Containers", "containers", "containerStatuses"),
        ("Ephemeral Containers", "ephemeralContainers", "ephemeralContainerStatuses"),
    ] {
        containers(page, 0, label, &spec[list], Some(&status[states]));
    }
    let gates: Vec<&Value> = items(&spec["readinessGates"]).collect();
    if !gates.is_empty() {
        page.line(0, "Readiness Gates:\n  Type\tStatus");
        for gate in gates {
            let kind = dig_str(gate, "conditionType");
            let held = items(&status["conditions"]).find(|condition| condition["type"] == kind);
            page.line(1, format_args!("{kind} \t{} ", held.map_or("<none>", |held| dig_str(held, "status"))));
        }
    }
    page.conditions(pod, &["Type\tStatus"], |condition| {
        format!("{} \t{} ", dig_str(condition, "type"), dig_str(condition, "status"))
    });
    volumes(page, 0, &spec["volumes"]);
    page.some(0, "QoS Class", &status["qosClass"]);
    page.map(0, "Node-Selectors", &spec["nodeSelector"], "=");
    tolerations(page, 0, &spec["tolerations"]);
    spread(page, 0, &spec["topologySpreadConstraints"]);
}

pub fn profile(page: &mut Page, level: usize, context: &Value) {
    let profile = &context["seccompProfile"];
    if profile.is_object() {
        page.field(level, "SeccompProfile", dig_str(profile, "type"));
        if profile["type"] == "Localhost" {
            page.some(level + 1, "LocalhostProfile", &profile["localhostProfile"]);
        }
    }
}

pub fn tolerations(page: &mut Page, level: usize, tolerations: &Value) {
    let mut list: Vec<&Value> = items(tolerations).collect();
    list.sort_by_key(|toleration| dig_str(toleration, "key"));
    let lines: Vec<String> = list
        .into_iter()
        .map(|toleration| {
            let mut text = dig_str(toleration, "key").to_owned();
            if let Some(value) = toleration["value"].as_str().filter(|value| !value.is_empty()) {
                text += &format!("={value}");
            }
            if let Some(effect) = toleration["effect"].as_str().filter(|effect| !effect.is_empty()) {
                text += &format!(":{effect}");
            }
            if toleration["operator"] == "Exists" && toleration["value"].as_str().is_none_or(str::is_empty) {
                text += if toleration["key"].as_str().is_some_and(|k| !k.is_empty()) || !text.is_empty() {
                    " op=Exists"
                } else {
                    "op=Exists"
                };
            }
            if let Some(seconds) = toleration["tolerationSeconds"].as_i64() {
                text += &format!(" for {seconds}s");
            }
            text
        })
        .collect();
    page.list(level, "Tolerations", &lines);
}

fn spread(page: &mut Page, level: usize, constraints: &Value) {
    let mut list: Vec<&Value> = items(constraints).collect();
    list.sort_by_key(|constraint| dig_str(constraint, "topologyKey"));
    if list.is_empty() {
        return;
    }
    let lines: Vec<String> = list
        .into_iter()
        .map(|constraint| {
            let selector = super::selector_text(&constraint["labelSelector"]);
            let skew = constraint["maxSkew"].as_i64().unwrap_or(0);
            let when = match selector.as_str() {
                "" => String::new(),
                selector => format!(" for selector {selector}"),
            };
            format!(
                "{}:{} when max skew {skew} is exceeded{when}",
                dig_str(constraint, "topologyKey"),
                dig_str(constraint, "whenUnsatisfiable")
            )
        })
        .collect();
    page.list(level, "Topology Spread Constraints", &lines);
}

/// `Pod Template:`, as workloads show it.
pub fn template(page: &mut Page, template: &Value) {
    page.line(0, "Pod Template:");
    if !template.is_object() {
        return page.line(1, "<unset>");
    }
    page.map(1, "Labels", dig(template, "metadata.labels"), "=");
    if dig(template, "metadata.annotations").as_object().is_some_and(|map| !map.is_empty()) {
        page.annotations(1, "Annotations", dig(template, "metadata.annotations"));
    }
    let spec = &template["spec"];
    page.some(1, "Service Account", &spec["serviceAccountName"]);
    if items(&spec["initContainers"]).next().is_some() {
        containers(page, 1, "Init Containers", &spec["initContainers"], None);
    }
    containers(page, 1, "Containers", &spec["containers"], None);
    volumes(page, 1, &spec["volumes"]);
    spread(page, 1, &spec["topologySpreadConstraints"]);
    page.some(1, "Priority Class Name", &spec["priorityClassName"]);
    page.map(1, "Node-Selectors", &spec["nodeSelector"], "=");
    tolerations(page, 1, &spec["tolerations"]);
}

/// A template alone, as `rollout history --revision` shows it: its columns are not aligned.
pub fn template_text(value: &Value) -> String {
    let mut page = Page::new(jiff::Timestamp::UNIX_EPOCH);
    template(&mut page, value);
    page.raw()
}
