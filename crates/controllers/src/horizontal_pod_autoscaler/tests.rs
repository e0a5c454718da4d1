use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscalerBehavior;
use knarr_client::lean::Pod;
use serde_json::{Value, json};

use super::{
    behavior::{History, Limits},
    replicas::{Proposal, Question, Target, Tolerance, Use, Uses, propose},
};

const NOW: i64 = 1_800_000_000;

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(NOW + seconds).unwrap()
}

/// What a pod is like, in one word each; it requests 1000 thousandths of the processor.
fn pod(index: usize, kind: &str) -> Arc<Pod> {
    let ready = |status: &str, changed: i64| json!({"type": "Ready", "status": status, "lastTransitionTime": at(changed).to_string()});
    let status = |phase: &str, started: i64, condition: Value| json!({"phase": phase, "startTime": at(started).to_string(), "conditions": [condition]});
    let mut status = match kind {
        "ready" | "missing" | "leaving" => status("Running", -1000, ready("True", -900)),
        "starting" => status("Running", -20, ready("False", -10)),
        "fresh" => status("Running", -20, ready("True", -10)),
        "broken" => status("Running", -1000, ready("False", -100)),
        "never" => status("Running", -1000, ready("False", -999)),
        "pending" => json!({"phase": "Pending"}),
        "failed" => status("Failed", -1000, ready("False", -100)),
        other => panic!("{other}"),
    };
    if status["conditions"].is_null() {
        status["conditions"] = json!([]);
    }
    let mut meta = json!({"name": format!("p{index}"), "namespace": "n"});
    if kind == "leaving" {
        meta["deletionTimestamp"] = json!(at(30).to_string());
    }
    let container = json!({"name": "c", "resources": {"requests": {"cpu": "1"}}});
    let pod = json!({"metadata": meta, "spec": {"containers": [container]}, "status": status});
    Arc::new(serde_json::from_value(pod).unwrap())
}

/// `kind:use` for each pod; the use of a missing one is unknown.
fn check(resource: &str, target: Target, pods: &str, expected: Result<i32, &str>) {
    let words: Vec<(&str, i64)> = pods
        .split_whitespace()
        .map(|word| word.split_once(':').unwrap())
        .map(|(k, v)| (k, v.parse().unwrap()))
        .collect();
    let all: Vec<Arc<Pod>> = words.iter().enumerate().map(|(index, (kind, _))| pod(index, kind)).collect();
    let known = words.iter().enumerate().filter(|(_, (kind, _))| *kind != "missing");
    let window = SignedDuration::from_secs(15);
    let uses: Uses = known.map(|(i, (_, milli))| (format!("p{i}"), Use { milli: *milli, at: at(0), window })).collect();
    let current = i32::try_from(all.len()).unwrap();
    let tolerance = Tolerance { up: 0.1, down: 0.1 };
    let question = Question { resource, container: None, target, tolerance, current, now: at(0) };
    let found = propose(question, &all, uses).map(|proposal| proposal.replicas);
    assert_eq!(found, expected.map_err(str::to_owned), "{resource} {target:?} {pods}");
}

#[test]
fn a_metric_calls_for_pods() {
    let half = Target::Utilization(50);
    let value = Target::AverageMilli(500);
    let rows: [(&str, Target, &str, Result<i32, &str>); 22] = [
        ("cpu", half, "ready:1000", Ok(2)),
        ("cpu", half, "ready:1000 ready:500 ready:750", Ok(5)),
        ("cpu", half, "ready:100 ready:100 ready:100 ready:100", Ok(1)),
        // Close enough.
        ("cpu", half, "ready:540 ready:540", Ok(2)),
        ("cpu", half, "ready:460 ready:460", Ok(2)),
        // Not ready yet: counted as idle on the way up, and not at all on the way down.
        ("cpu", half, "ready:1000 ready:1000 starting:1000", Ok(4)),
        ("cpu", half, "ready:600 starting:9000", Ok(2)),
        ("cpu", half, "ready:100 ready:100 ready:100 pending:0", Ok(1)),
        // Ready for less time than the metric looks back.
        ("cpu", half, "ready:1000 ready:1000 fresh:1000", Ok(4)),
        // It was ready once, so its use counts; the other never was.
        ("cpu", half, "broken:1000", Ok(2)),
        ("cpu", half, "never:1000", Err("did not receive metrics for targeted pods (pods might be unready)")),
        // For memory all that run count.
        ("memory", value, "starting:1000 fresh:1000", Ok(4)),
        // Not known: idle on the way up, busy on the way down.
        ("cpu", half, "ready:1000 ready:1000 missing:0", Ok(4)),
        ("cpu", half, "ready:600 missing:0", Ok(2)),
        ("cpu", half, "ready:100 ready:100 ready:100 missing:0", Ok(3)),
        ("cpu", half, "ready:0 ready:0 ready:0 ready:0 ready:0 ready:0 missing:0", Ok(2)),
        // On their way out, or out.
        ("cpu", half, "ready:1000 leaving:1000 failed:0", Ok(2)),
        ("cpu", half, "missing:0", Err("did not receive metrics for targeted pods (pods might be unready)")),
        ("cpu", half, "", Err("no pods returned by selector while calculating replica count")),
        ("memory", value, "ready:1500 ready:500", Ok(4)),
        ("memory", value, "ready:100 missing:0 missing:0", Ok(3)),
        ("memory", half, "ready:1000", Err("missing request for memory in container c of Pod p0")),
    ];
    for (resource, target, pods, expected) in rows {
        check(resource, target, pods, expected);
    }
}

#[test]
fn a_proposal_tells_what_was_seen() {
    let uses = Uses::from([("p0".to_owned(), Use { milli: 730, at: at(0), window: SignedDuration::ZERO })]);
    let tolerance = Tolerance { up: 0.0, down: 0.0 };
    let (target, container) = (Target::Utilization(100), Some("c"));
    let question = Question { resource: "cpu", container, target, tolerance, current: 1, now: at(0) };
    let proposal = propose(question, &[pod(0, "ready")], uses);
    assert_eq!(proposal, Ok(Proposal { replicas: 1, utilization: Some(73), average_milli: 730 }));
}

/// A life: at each second so many pods are there and so many are called for; this many come of it, for this reason.
fn live(behavior: Value, min: i32, max: i32, steps: &[(i64, i32, i32, &str)]) {
    let behavior: Option<HorizontalPodAutoscalerBehavior> = serde_json::from_value(behavior).unwrap();
    let limits = Limits { min, max, behavior: behavior.as_ref() };
    let mut history = History::default();
    let mut current = steps[0].1;
    for (second, wanted, expected, reason) in &steps[1..] {
        let now = at(*second);
        history.begin(current, now);
        let decision = history.decide(limits, current, *wanted, now);
        let why = if decision.is_limited { decision.scaling_limited.0 } else { decision.able_to_scale.0 };
        assert_eq!((decision.replicas, why), (*expected, *reason), "{behavior:?} at {second}: {current} to {wanted}");
        if decision.replicas != current {
            history.scaled(current, decision.replicas, now);
        }
        current = decision.replicas;
    }
}

#[test]
fn without_a_behaviour_pods_double_and_stay_five_minutes() {
    live(
        Value::Null,
        2,
        20,
        &[
            (0, 1, 0, ""),
            (0, 10, 4, "ScaleUpLimit"),
            (15, 10, 8, "ScaleUpLimit"),
            (30, 30, 16, "ScaleUpLimit"),
            (45, 30, 20, "TooManyReplicas"),
            (60, 10, 20, "TooManyReplicas"),
            (340, 10, 20, "TooManyReplicas"),
            (346, 10, 10, "ReadyForNewScale"),
            (700, 1, 2, "TooFewReplicas"),
        ],
    );
    // What there was at first is kept for as long, too.
    live(Value::Null, 1, 9, &[(0, 5, 0, ""), (0, 3, 5, "ScaleDownStabilized"), (301, 3, 3, "ReadyForNewScale")]);
}

#[test]
fn policies_bound_how_fast_it_goes() {
    let policy = |kind: &str, value: i32, seconds: i32| json!({"type": kind, "value": value, "periodSeconds": seconds});
    let up = |select: &str, policies: Value| {
        json!({"scaleUp": {"stabilizationWindowSeconds": 0, "selectPolicy": select, "policies": policies},
            "scaleDown": {"stabilizationWindowSeconds": 0}})
    };
    let both = json!([policy("Pods", 2, 60), policy("Percent", 100, 60)]);
    live(
        up("Max", both.clone()),
        1,
        100,
        &[
            (0, 1, 0, ""),
            (0, 50, 3, "ScaleUpLimit"),
            // The same minute goes on.
            (15, 50, 3, "ScaleUpLimit"),
            (61, 50, 6, "ScaleUpLimit"),
            (122, 50, 12, "ScaleUpLimit"),
        ],
    );
    live(up("Min", both), 1, 100, &[(0, 4, 0, ""), (0, 50, 6, "ScaleUpLimit"), (61, 50, 8, "ScaleUpLimit")]);
    live(up("Disabled", json!([policy("Pods", 1, 15)])), 1, 9, &[(0, 4, 0, ""), (0, 9, 4, "ScaleUpLimit")]);
    let down = |select: &str, policies: Value| json!({"scaleDown": {"stabilizationWindowSeconds": 0, "selectPolicy": select, "policies": policies}});
    let both = json!([policy("Pods", 4, 60), policy("Percent", 10, 60)]);
    live(
        down("Max", both.clone()),
        1,
        100,
        &[
            (0, 80, 0, ""),
            (0, 10, 72, "ScaleDownLimit"),
            (61, 10, 64, "ScaleDownLimit"),
            (62, 10, 64, "ScaleDownLimit"),
        ],
    );
    live(down("Min", both), 1, 100, &[(0, 80, 0, ""), (0, 10, 76, "ScaleDownLimit")]);
    live(down("Disabled", json!([policy("Pods", 4, 60)])), 1, 9, &[(0, 4, 0, ""), (0, 1, 4, "ScaleDownLimit")]);
}

#[test]
fn windows_wait_for_agreement() {
    let behavior = json!({
        "scaleUp": {"stabilizationWindowSeconds": 30, "policies": [{"type": "Pods", "value": 100, "periodSeconds": 15}]},
        "scaleDown": {"stabilizationWindowSeconds": 60},
    });
    live(
        behavior,
        1,
        100,
        &[
            (0, 4, 0, ""),
            (0, 8, 4, "ScaleUpStabilized"),
            (15, 10, 4, "ScaleUpStabilized"),
            (31, 9, 9, "ReadyForNewScale"),
            (40, 2, 9, "ScaleDownStabilized"),
            (76, 2, 9, "ScaleDownStabilized"),
            (92, 2, 2, "ReadyForNewScale"),
        ],
    );
}
