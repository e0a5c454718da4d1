use jiff::Timestamp;
use serde_json::Value;

use super::{
    AGE, Column, NAME, Printer,
    format::{self, NONE, UNKNOWN, UNSET, is_condition_true, number},
};
use crate::{
    quantity::Quantity,
    time,
    value::{int, is_set, items, text},
};

const CONTAINERS: Column = Column::text("Containers", "Names of the containers in the template.").wide();
const IMAGES: Column = Column::text("Images", "Images of the containers in the template.").wide();
const SELECTOR: Column = Column::text("Selector", "The labels by which pods are selected.").wide();

pub(super) static DEPLOYMENT: Printer = Printer {
    columns: &[
        NAME,
        Column::text("Ready", "Ready pods, and pods that are wanted."),
        Column::text("Up-to-date", "Pods that have the newest template."),
        Column::text("Available", "Pods that have been ready for long enough."),
        AGE,
        CONTAINERS,
        IMAGES,
        SELECTOR,
    ],
    cells: |object, now| {
        let (spec, status) = (&object["spec"], &object["status"]);
        let (containers, images) = format::containers(&spec["template"]["spec"]);
        vec![
            format::name(object),
            format!("{}/{}", int(&status["readyReplicas"]), int(&spec["replicas"])).into(),
            number(&status["updatedReplicas"]),
            number(&status["availableReplicas"]),
            format::age(object, now),
            containers,
            images,
            format::selector(&spec["selector"]).into(),
        ]
    },
};

/// A Scale, of whatever it is one.
pub(super) static SCALE: Printer = Printer {
    columns: &[
        NAME,
        Column::number("Desired", "Pods that are wanted."),
        Column::number("Available", "Pods that there are."),
        AGE,
    ],
    cells: |object, now| {
        vec![
            format::name(object),
            number(&object["spec"]["replicas"]),
            number(&object["status"]["replicas"]),
            format::age(object, now),
        ]
    },
};

/// ReplicationControllers print alike; their selector is a plain map.
pub(super) static REPLICA_SET: Printer = Printer {
    columns: &[
        NAME,
        Column::number("Desired", "Pods that are wanted."),
        Column::number("Current", "Pods that there are."),
        Column::number("Ready", "Pods that are ready."),
        AGE,
        CONTAINERS,
        IMAGES,
        SELECTOR,
    ],
    cells: |object, now| {
        let (spec, status) = (&object["spec"], &object["status"]);
        let (containers, images) = format::containers(&spec["template"]["spec"]);
        let selector = &spec["selector"];
        let structured = is_set(&selector["matchLabels"]) || is_set(&selector["matchExpressions"]);
        vec![
            format::name(object),
            number(&spec["replicas"]),
            number(&status["replicas"]),
            number(&status["readyReplicas"]),
            format::age(object, now),
            containers,
            images,
            if structured { format::selector(selector) } else { format::labels(selector) }.into(),
        ]
    },
};

pub(super) static STATEFUL_SET: Printer = Printer {
    columns: &[NAME, Column::text("Ready", "Ready pods, and pods that are wanted."), AGE, CONTAINERS, IMAGES],
    cells: |object, now| {
        let (spec, status) = (&object["spec"], &object["status"]);
        let (containers, images) = format::containers(&spec["template"]["spec"]);
        vec![
            format::name(object),
            format!("{}/{}", int(&status["readyReplicas"]), int(&spec["replicas"])).into(),
            format::age(object, now),
            containers,
            images,
        ]
    },
};

pub(super) static DAEMON_SET: Printer = Printer {
    columns: &[
        NAME,
        Column::number("Desired", "Nodes that should run the pod."),
        Column::number("Current", "Nodes that run the pod."),
        Column::number("Ready", "Nodes whose pod is ready."),
        Column::number("Up-to-date", "Nodes whose pod has the newest template."),
        Column::number("Available", "Nodes whose pod has been ready for long enough."),
        Column::text("Node Selector", "The labels that a node must have."),
        AGE,
        CONTAINERS,
        IMAGES,
        SELECTOR,
    ],
    cells: |object, now| {
        let (spec, status) = (&object["spec"], &object["status"]);
        let (containers, images) = format::containers(&spec["template"]["spec"]);
        vec![
            format::name(object),
            number(&status["desiredNumberScheduled"]),
            number(&status["currentNumberScheduled"]),
            number(&status["numberReady"]),
            number(&status["updatedNumberScheduled"]),
            number(&status["numberAvailable"]),
            format::labels(&spec["template"]["spec"]["nodeSelector"]).into(),
            format::age(object, now),
            containers,
            images,
            format::selector(&spec["selector"]).into(),
        ]
    },
};

pub(super) static JOB: Printer = Printer {
    columns: &[
        NAME,
        Column::text("Status", "How the job stands."),
        Column::text("Completions", "Pods that have succeeded, and how many must."),
        Column::text("Duration", "How long the job has run, or ran."),
        AGE,
        CONTAINERS,
        IMAGES,
        SELECTOR,
    ],
    cells: job,
};

fn job(object: &Value, now: Timestamp) -> Vec<Value> {
    let (spec, status) = (&object["spec"], &object["status"]);
    let (containers, images) = format::containers(&spec["template"]["spec"]);
    let succeeded = int(&status["succeeded"]);
    let completions = match (spec["completions"].as_i64(), int(&spec["parallelism"])) {
        (Some(wanted), _) => format!("{succeeded}/{wanted}"),
        (None, parallelism) if parallelism > 1 => format!("{succeeded}/1 of {parallelism}"),
        (None, _) => format!("{succeeded}/1"),
    };
    let moment = |key: &str| status[key].as_str().and_then(time::parse);
    let duration = match (moment("startTime"), moment("completionTime")) {
        (None, _) => String::new(),
        (Some(start), end) => time::human_duration(time::seconds_between(start, end.unwrap_or(now))),
    };
    let dying = is_set(&object["metadata"]["deletionTimestamp"]);
    let stands = match () {
        () if is_condition_true(object, "Complete") => "Complete",
        () if is_condition_true(object, "Failed") => "Failed",
        () if dying => "Terminating",
        () if is_condition_true(object, "Suspended") => "Suspended",
        () if is_condition_true(object, "FailureTarget") => "FailureTarget",
        () if is_condition_true(object, "SuccessCriteriaMet") => "SuccessCriteriaMet",
        () => "Running",
    };
    vec![
        format::name(object),
        stands.into(),
        completions.into(),
        duration.into(),
        format::age(object, now),
        containers,
        images,
        format::selector(&spec["selector"]).into(),
    ]
}

pub(super) static CRON_JOB: Printer = Printer {
    columns: &[
        NAME,
        Column::text("Schedule", "When jobs are made, in cron's form."),
        Column::text("Timezone", "The time zone of the schedule."),
        Column { kind: "boolean", ..Column::text("Suspend", "True where no jobs are made.") },
        Column::number("Active", "Jobs that run."),
        Column::text("Last Schedule", "How long ago a job was made last."),
        AGE,
        CONTAINERS,
        IMAGES,
        SELECTOR,
    ],
    cells: |object, now| {
        let (spec, status) = (&object["spec"], &object["status"]);
        let job = &spec["jobTemplate"]["spec"];
        let (containers, images) = format::containers(&job["template"]["spec"]);
        let last = &status["lastScheduleTime"];
        vec![
            format::name(object),
            format::string(&spec["schedule"]),
            format::or(&spec["timeZone"], NONE).into(),
            if spec["suspend"] == true { "True" } else { "False" }.into(),
            items(&status["active"]).len().into(),
            if is_set(last) { time::age(last, now) } else { NONE.to_owned() }.into(),
            format::age(object, now),
            containers,
            images,
            format::selector(&job["selector"]).into(),
        ]
    },
};

pub(super) static CONTROLLER_REVISION: Printer = Printer {
    columns: &[
        NAME,
        Column::text("Controller", "The object whose state this is."),
        Column::number("Revision", "Which state it is."),
        AGE,
    ],
    cells: |object, now| {
        let owner = items(&object["metadata"]["ownerReferences"]).iter().find(|owner| owner["controller"] == true);
        let controller = owner.map_or(NONE.to_owned(), |owner| {
            let group = text(&owner["apiVersion"]).split_once('/').map_or("", |(group, _)| group);
            let dot = if group.is_empty() { "" } else { "." };
            format!("{}{dot}{group}/{}", text(&owner["kind"]).to_lowercase(), text(&owner["name"]))
        });
        vec![format::name(object), controller.into(), number(&object["revision"]), format::age(object, now)]
    },
};

pub(super) static POD_TEMPLATE: Printer = Printer {
    columns: &[
        NAME,
        Column::text("Containers", "Names of the containers in the template."),
        Column::text("Images", "Images of the containers in the template."),
        Column::text("Pod Labels", "The labels of pods made from it."),
    ],
    cells: |object, _| {
        let (containers, images) = format::containers(&object["template"]["spec"]);
        let labels = format::labels(&object["template"]["metadata"]["labels"]);
        vec![format::name(object), containers, images, labels.into()]
    },
};

pub(super) static DISRUPTION_BUDGET: Printer = Printer {
    columns: &[
        NAME,
        Column::text("Min Available", "How many pods must be there."),
        Column::text("Max Unavailable", "How many pods may be missing."),
        Column::number("Allowed Disruptions", "How many pods may be evicted now."),
        AGE,
    ],
    cells: |object, now| {
        vec![
            format::name(object),
            format::scalar(&object["spec"]["minAvailable"], "N/A").into(),
            format::scalar(&object["spec"]["maxUnavailable"], "N/A").into(),
            number(&object["status"]["disruptionsAllowed"]),
            format::age(object, now),
        ]
    },
};

pub(super) static AUTOSCALER: Printer = Printer {
    columns: &[
        NAME,
        Column::text("Reference", "What is scaled."),
        Column::text("Targets", "What is measured, and what is wanted."),
        Column::text("MinPods", "The lower limit."),
        Column::text("MaxPods", "The upper limit."),
        Column::number("Replicas", "How many pods there are."),
        AGE,
    ],
    cells: |object, now| {
        let (spec, status) = (&object["spec"], &object["status"]);
        let target = &spec["scaleTargetRef"];
        vec![
            format::name(object),
            format!("{}/{}", text(&target["kind"]), text(&target["name"])).into(),
            targets(spec, status).into(),
            format::scalar(&spec["minReplicas"], UNSET).into(),
            number(&spec["maxReplicas"]),
            number(&status["currentReplicas"]),
            format::age(object, now),
        ]
    },
};

/// `cpu: 12%/80%`, at most two and how many more.
fn targets(spec: &Value, status: &Value) -> String {
    // A client of autoscaling/v1 sees one number.
    if is_set(&spec["targetCPUUtilizationPercentage"]) {
        let current = &status["currentCPUUtilizationPercentage"];
        let current = current.as_i64().map_or(UNKNOWN.to_owned(), |share| format!("{share}%"));
        return format!("cpu: {current}/{}%", int(&spec["targetCPUUtilizationPercentage"]));
    }
    let metrics = items(&spec["metrics"]);
    let mut list: Vec<String> = Vec::new();
    for (i, metric) in metrics.iter().enumerate() {
        let (key, label) = match text(&metric["type"]) {
            "Resource" => ("resource", text(&metric["resource"]["name"])),
            "ContainerResource" => ("containerResource", text(&metric["containerResource"]["name"])),
            "Pods" => ("pods", ""),
            "Object" => ("object", ""),
            "External" => ("external", ""),
            _ => continue,
        };
        let target = &metric[key]["target"];
        let current = &status["currentMetrics"][i][key]["current"];
        let (wanted, measured, unit) = if is_set(&target["averageUtilization"]) {
            (&target["averageUtilization"], &current["averageUtilization"], "%")
        } else if is_set(&target["averageValue"]) {
            (
                &target["averageValue"],
                &current["averageValue"],
                if key == "pods" || label.is_empty() { " (avg)" } else { "" },
            )
        } else {
            (&target["value"], &current["value"], "")
        };
        let show = |value: &Value| match value {
            Value::String(_) => Quantity::or_zero(value).to_string(),
            other => other.to_string(),
        };
        let share = if unit == "%" { "%" } else { "" };
        let measured = if is_set(measured) { format!("{}{share}", show(measured)) } else { UNKNOWN.into() };
        let prefix = if label.is_empty() { String::new() } else { format!("{label}: ") };
        let suffix = if key == "pods" { "" } else { unit };
        list.push(format!("{prefix}{measured}/{}{suffix}", show(wanted)));
    }
    match list.len() {
        0 => NONE.into(),
        1 | 2 => list.join(", "),
        all => format!("{} + {} more...", list[..2].join(", "), all - 2),
    }
}
