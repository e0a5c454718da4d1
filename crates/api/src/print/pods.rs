use jiff::Timestamp;
use serde_json::{Value, json};

use super::{
    AGE, Column, NAME, Printer,
    format::{self, NONE, is_condition_true},
};
use crate::{
    time,
    value::{int, is_set, items, text, truth},
};

pub(super) static POD: Printer = Printer {
    columns: &[
        NAME,
        Column::text("Ready", "How many of the pod's containers are ready, and how many it has."),
        Column::text("Status", "The phase of the pod, or the reason why it is not further."),
        Column::text("Restarts", "How often containers of this pod were restarted, and when last."),
        AGE,
        Column::text("IP", "The address of the pod.").wide(),
        Column::text("Node", "The node that the pod runs on.").wide(),
        Column::text("Nominated Node", "The node where others were preempted for this pod.").wide(),
        Column::text("Readiness Gates", "How many of the pod's readiness gates are open.").wide(),
    ],
    cells,
};

/// What the containers' states add up to.
#[derive(Default)]
struct Summary {
    ready: usize,
    total: usize,
    restarts: i64,
    last_restart: Option<Timestamp>,
    reason: String,
}

fn cells(pod: &Value, now: Timestamp) -> Vec<Value> {
    let (spec, status) = (&pod["spec"], &pod["status"]);
    let summary = summarize(pod);
    let restarts = match summary.last_restart {
        Some(last) if summary.restarts != 0 => {
            let ago = time::human_duration(time::seconds_between(last, now));
            format!("{} ({ago} ago)", summary.restarts)
        }
        _ => summary.restarts.to_string(),
    };
    let gates = items(&spec["readinessGates"]);
    let open = gates.iter().filter(|gate| is_condition_true(pod, text(&gate["conditionType"]))).count();
    let gates = if gates.is_empty() { NONE.into() } else { format!("{open}/{}", gates.len()) };
    vec![
        format::name(pod),
        format!("{}/{}", summary.ready, summary.total).into(),
        summary.reason.into(),
        restarts.into(),
        format::age(pod, now),
        format::or(&status["podIPs"][0]["ip"], format::or(&status["podIP"], NONE)).into(),
        format::or(&spec["nodeName"], NONE).into(),
        format::or(&status["nominatedNodeName"], NONE).into(),
        gates.into(),
    ]
}

fn summarize(pod: &Value) -> Summary {
    let (spec, status) = (&pod["spec"], &pod["status"]);
    let sidecars = items(&spec["initContainers"]).iter().filter(|container| container["restartPolicy"] == "Always");
    let mut summary = Summary {
        total: items(&spec["containers"]).len() + sidecars.count(),
        reason: format::or(&status["reason"], text(&status["phase"])).to_owned(),
        ..Summary::default()
    };
    if items(&status["conditions"])
        .iter()
        .any(|condition| condition["type"] == "PodScheduled" && condition["reason"] == "SchedulingGated")
    {
        summary.reason = "SchedulingGated".into();
    }
    let initializing = initialize(pod, &mut summary);
    if !initializing || is_condition_true(pod, "Initialized") {
        run(pod, &mut summary);
    }
    if is_set(&pod["metadata"]["deletionTimestamp"]) {
        if status["reason"] == "NodeLost" {
            summary.reason = "Unknown".into();
        } else if !matches!(text(&status["phase"]), "Failed" | "Succeeded") {
            summary.reason = "Terminating".into();
        }
    }
    summary
}

fn count_restarts(status: &Value, restarts: &mut i64, last: &mut Option<Timestamp>) {
    *restarts += int(&status["restartCount"]);
    let finished = status["lastState"]["terminated"]["finishedAt"].as_str().and_then(time::parse);
    *last = (*last).max(finished);
}

/// Looks at init containers up to the first that is not done; true where there is one.
fn initialize(pod: &Value, summary: &mut Summary) -> bool {
    let declared = items(&pod["spec"]["initContainers"]);
    let mut all = (0, None);
    for (i, status) in items(&pod["status"]["initContainerStatuses"]).iter().enumerate() {
        let sidecar = declared
            .iter()
            .any(|container| container["name"] == status["name"] && container["restartPolicy"] == "Always");
        count_restarts(status, &mut all.0, &mut all.1);
        if sidecar {
            count_restarts(status, &mut summary.restarts, &mut summary.last_restart);
        }
        let (terminated, waiting) = (&status["state"]["terminated"], text(&status["state"]["waiting"]["reason"]));
        if is_set(terminated) && int(&terminated["exitCode"]) == 0 {
            continue;
        }
        if sidecar && truth(&status["started"]) {
            summary.ready += usize::from(truth(&status["ready"]));
            continue;
        }
        summary.reason = if is_set(terminated) {
            format!("Init:{}", ended(terminated))
        } else if !matches!(waiting, "" | "PodInitializing") {
            format!("Init:{waiting}")
        } else {
            format!("Init:{i}/{}", declared.len())
        };
        // While a pod initializes, every restart so far counts; later only those of its sidecars.
        if !is_condition_true(pod, "Initialized") {
            (summary.restarts, summary.last_restart) = all;
        }
        return true;
    }
    false
}

/// Why a container ended: its reason, else its signal, else its exit code.
fn ended(terminated: &Value) -> String {
    match (text(&terminated["reason"]), int(&terminated["signal"])) {
        ("", 0) => format!("ExitCode:{}", int(&terminated["exitCode"])),
        ("", signal) => format!("Signal:{signal}"),
        (reason, _) => reason.to_owned(),
    }
}

fn run(pod: &Value, summary: &mut Summary) {
    let mut running = false;
    for status in items(&pod["status"]["containerStatuses"]).iter().rev() {
        count_restarts(status, &mut summary.restarts, &mut summary.last_restart);
        let state = &status["state"];
        let waiting = text(&state["waiting"]["reason"]);
        if !waiting.is_empty() {
            summary.reason = waiting.to_owned();
        } else if is_set(&state["terminated"]) {
            summary.reason = ended(&state["terminated"]);
        } else if truth(&status["ready"]) && is_set(&state["running"]) {
            running = true;
            summary.ready += 1;
        }
    }
    if summary.reason == "Completed" && running {
        summary.reason = if is_condition_true(pod, "Ready") { "Running" } else { "NotReady" }.into();
    }
}

/// Marks a pod that has ended.
pub(super) fn conditions(pod: &Value) -> Option<Value> {
    let (reason, message) = match text(&pod["status"]["phase"]) {
        "Succeeded" => ("Succeeded", "The pod has completed successfully."),
        "Failed" => ("Failed", "The pod failed."),
        _ => return None,
    };
    Some(json!([{"type": "Completed", "status": "True", "reason": reason, "message": message}]))
}
