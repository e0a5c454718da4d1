//! Nodes, namespaces, events and the small kinds of configuration.

use std::collections::BTreeSet;

use jiff::Timestamp;
use serde_json::Value;

use super::{
    AGE, Column, NAME, Printer,
    format::{self, NONE, UNKNOWN, number},
};
use crate::{
    time,
    value::{entries, int, is_set, items, text, truth},
};

pub(super) static NODE: Printer = Printer {
    columns: &[
        NAME,
        Column::text("Status", "Whether the node is ready and takes pods."),
        Column::text("Roles", "The roles in its labels."),
        AGE,
        Column::text("Version", "The version of its agent."),
        Column::text("Internal-IP", "Its address inside the cluster.").wide(),
        Column::text("External-IP", "Its address outside.").wide(),
        Column::text("OS-Image", "Its operating system.").wide(),
        Column::text("Kernel-Version", "Its kernel.").wide(),
        Column::text("Container-Runtime", "Its container runtime.").wide(),
    ],
    cells: node,
};

fn node(object: &Value, now: Timestamp) -> Vec<Value> {
    let info = &object["status"]["nodeInfo"];
    let mut status = match format::condition(object, "Ready") {
        Some(condition) if condition["status"] == "True" => "Ready".to_owned(),
        Some(condition) if condition["status"] == "False" || condition["status"] == "Unknown" => "NotReady".into(),
        _ => "Unknown".into(),
    };
    if truth(&object["spec"]["unschedulable"]) {
        status.push_str(",SchedulingDisabled");
    }
    let mut roles = BTreeSet::new();
    for (label, value) in entries(&object["metadata"]["labels"]) {
        match label.strip_prefix("node-role.kubernetes.io/") {
            Some("") => {}
            Some(role) => {
                roles.insert(role.to_owned());
            }
            None if label == "kubernetes.io/role" && !text(value).is_empty() => {
                roles.insert(text(value).to_owned());
            }
            None => {}
        }
    }
    let address = |kind: &str| {
        let found = items(&object["status"]["addresses"]).iter().find(|address| address["type"] == kind);
        found.map_or(NONE, |address| text(&address["address"])).to_owned()
    };
    vec![
        format::name(object),
        status.into(),
        format::join_or_none(&Vec::from_iter(roles)).into(),
        format::age(object, now),
        format::string(&info["kubeletVersion"]),
        address("InternalIP").into(),
        address("ExternalIP").into(),
        format::or(&info["osImage"], UNKNOWN).into(),
        format::or(&info["kernelVersion"], UNKNOWN).into(),
        format::or(&info["containerRuntimeVersion"], UNKNOWN).into(),
    ]
}

pub(super) static NAMESPACE: Printer = Printer {
    columns: &[NAME, Column::text("Status", "Active, or Terminating."), AGE],
    cells: |object, now| {
        vec![format::name(object), format::string(&object["status"]["phase"]), format::age(object, now)]
    },
};

pub(super) static CONFIG_MAP: Printer = Printer {
    columns: &[NAME, Column::number("Data", "How many entries it has."), AGE],
    cells: |object, now| {
        let count = entries(&object["data"]).count() + entries(&object["binaryData"]).count();
        vec![format::name(object), count.into(), format::age(object, now)]
    },
};

pub(super) static SECRET: Printer = Printer {
    columns: &[
        NAME,
        Column::text("Type", "What the secret is for."),
        Column::number("Data", "How many entries it has."),
        AGE,
    ],
    cells: |object, now| {
        let count = entries(&object["data"]).count();
        vec![format::name(object), format::string(&object["type"]), count.into(), format::age(object, now)]
    },
};

pub(super) static SERVICE_ACCOUNT: Printer = Printer {
    columns: &[NAME, Column::number("Secrets", "How many secrets it lists."), AGE],
    cells: |object, now| vec![format::name(object), items(&object["secrets"]).len().into(), format::age(object, now)],
};

pub(super) static LEASE: Printer = Printer {
    columns: &[NAME, Column::text("Holder", "Who holds the lease."), AGE],
    cells: |object, now| {
        vec![format::name(object), format::string(&object["spec"]["holderIdentity"]), format::age(object, now)]
    },
};

pub(super) static RUNTIME_CLASS: Printer = Printer {
    columns: &[NAME, Column::text("Handler", "The handler of the container runtime."), AGE],
    cells: |object, now| vec![format::name(object), format::string(&object["handler"]), format::age(object, now)],
};

pub(super) static PRIORITY_CLASS: Printer = Printer {
    columns: &[
        NAME,
        Column::number("Value", "The priority of pods of this class."),
        Column { kind: "boolean", ..Column::text("Global-Default", "True where pods without a class get this one.") },
        AGE,
        Column::text("PreemptionPolicy", "Whether its pods push others away."),
    ],
    cells: |object, now| {
        vec![
            format::name(object),
            number(&object["value"]),
            truth(&object["globalDefault"]).into(),
            format::age(object, now),
            format::string(&object["preemptionPolicy"]),
        ]
    },
};

pub(super) static RESOURCE_QUOTA: Printer = Printer {
    columns: &[
        NAME,
        Column::text("Request", "What is used of each request, and how much may be."),
        Column::text("Limit", "What is used of each limit, and how much may be."),
        AGE,
    ],
    cells: |object, now| {
        let status = &object["status"];
        let (mut requests, mut limits) = (Vec::new(), Vec::new());
        for (resource, hard) in entries(&status["hard"]) {
            let used = format::scalar(&status["used"][resource.as_str()], "0");
            let cell = format!("{resource}: {used}/{}", format::scalar(hard, "0"));
            if resource.starts_with("limits") { limits.push(cell) } else { requests.push(cell) }
        }
        vec![format::name(object), requests.join(", ").into(), limits.join(", ").into(), format::age(object, now)]
    },
};

pub(super) static COMPONENT_STATUS: Printer = Printer {
    columns: &[
        NAME,
        Column::text("Status", "Whether the component is healthy."),
        Column::text("Message", "What it says."),
        Column::text("Error", "What is wrong."),
    ],
    cells: |object, _| {
        let healthy = items(&object["conditions"]).iter().find(|condition| condition["type"] == "Healthy");
        let condition = healthy.unwrap_or(&Value::Null);
        let status = match text(&condition["status"]) {
            "True" => "Healthy",
            "False" => "Unhealthy",
            _ => "Unknown",
        };
        vec![
            format::name(object),
            status.into(),
            format::string(&condition["message"]),
            format::string(&condition["error"]),
        ]
    },
};

pub(super) static EVENT: Printer = Printer {
    columns: &[
        Column::text("Last Seen", "How long ago it happened last."),
        Column::text("Type", "Normal or Warning."),
        Column::text("Reason", "What happened, in one word."),
        Column::text("Object", "What it happened to."),
        Column::text("Subobject", "Which part of that.").wide(),
        Column::text("Source", "Who says so.").wide(),
        Column::text("Message", "What happened."),
        Column::text("First Seen", "How long ago it happened first.").wide(),
        Column::number("Count", "How often it happened.").wide(),
        NAME.wide(),
    ],
    cells: event,
};

/// Events of both groups: a field is looked for under both of its names.
fn event(event: &Value, now: Timestamp) -> Vec<Value> {
    let either = |core: &str, new: &str| if is_set(&event[core]) { &event[core] } else { &event[new] };
    let first_time = either("firstTimestamp", "deprecatedFirstTimestamp");
    let first = time::age(if is_set(first_time) { first_time } else { &event["eventTime"] }, now);
    let last_time = either("lastTimestamp", "deprecatedLastTimestamp");
    let mut last = if is_set(last_time) { time::age(last_time, now) } else { first.clone() };
    let mut count = int(either("count", "deprecatedCount")).max(1);
    if is_set(&event["series"]) {
        last = time::age(&event["series"]["lastObservedTime"], now);
        count = int(&event["series"]["count"]);
    }
    let object = either("involvedObject", "regarding");
    let kind = text(&object["kind"]).to_lowercase();
    let target = match text(&object["name"]) {
        "" => kind,
        name => format!("{kind}/{name}"),
    };
    let source = either("source", "deprecatedSource");
    let (component, host) = match text(&source["component"]) {
        "" => (text(either("reportingComponent", "reportingController")), text(&event["reportingInstance"])),
        component => (component, text(&source["host"])),
    };
    let source = if host.is_empty() { component.to_owned() } else { format!("{component}, {host}") };
    vec![
        last.into(),
        format::string(&event["type"]),
        format::string(&event["reason"]),
        target.into(),
        format::string(&object["fieldPath"]),
        source.into(),
        text(either("message", "note")).trim().into(),
        first.into(),
        count.into(),
        format::name(event),
    ]
}
