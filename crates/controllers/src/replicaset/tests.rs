use k8s_openapi::api::apps::v1::ReplicaSet;
use serde_json::{Value, json};

use super::{plan::*, *};

fn set(replicas: i32) -> ReplicaSet {
    serde_json::from_value(json!({
        "metadata": {"name": "web", "namespace": "d", "uid": "set", "generation": 3},
        "spec": {"replicas": replicas, "minReadySeconds": 10, "selector": {"matchLabels": {"app": "web"}},
            "template": {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": []}}},
    }))
    .unwrap()
}

fn pod(name: &str, status: Value) -> Arc<Pod> {
    let mut value =
        json!({"metadata": {"name": name, "uid": name, "labels": {"app": "web"}}, "status": {"phase": "Running"}});
    json_patch::merge(&mut value, &status);
    Arc::new(serde_json::from_value(value).unwrap())
}

fn ready(at: &str) -> Value {
    json!({"status": {"conditions": [{"type": "Ready", "status": "True", "lastTransitionTime": at}]}})
}

fn now() -> jiff::Timestamp {
    "2024-01-01T00:01:00Z".parse().unwrap()
}

fn show(step: Step) -> String {
    match step {
        Step::Nothing => "nothing".into(),
        Step::Create(count) => format!("create {count}"),
        Step::Delete(pods) => {
            let names: Vec<_> = pods.iter().map(|pod| pod.metadata.name.clone().unwrap()).collect();
            format!("delete {}", names.join(" "))
        }
    }
}

#[test]
fn steps() {
    let failed = json!({"status": {"phase": "Failed"}});
    let going = json!({"metadata": {"deletionTimestamp": "2024-01-01T00:00:00Z"}});
    let pods = [pod("a", json!({})), pod("b", ready("2024-01-01T00:00:00Z")), pod("c", failed), pod("d", going)];
    for (replicas, expected) in
        [(0, "delete a b"), (1, "delete a"), (2, "nothing"), (5, "create 3"), (2000, "create 500")]
    {
        assert_eq!(show(step(&set(replicas), &pods, || pods.to_vec(), now())), expected, "{replicas} wanted");
    }
}

#[test]
fn status_counts_and_keeps_a_failure() {
    let pods = [
        pod("a", ready("2024-01-01T00:00:50Z")),
        pod("b", ready("2024-01-01T00:00:55Z")),
        pod("c", json!({"metadata": {"deletionTimestamp": "2024-01-01T00:00:00Z"}})),
        pod("d", json!({})),
    ];
    let mut set = set(3);
    let failure = || Some(Failure { reason: "FailedCreate", message: "no quota".into() });
    let status = status(&set, &pods, failure(), now());
    let shown = serde_json::to_value(&status).unwrap();
    assert_eq!(
        shown,
        json!({"replicas": 3, "fullyLabeledReplicas": 3, "readyReplicas": 2, "availableReplicas": 1, "terminatingReplicas": 1,
            "observedGeneration": 3, "conditions": [{"type": "ReplicaFailure", "status": "True", "reason": "FailedCreate",
            "message": "no quota", "lastTransitionTime": "2024-01-01T00:01:00Z"}]})
    );
    assert_eq!(recheck_after(&set, &status, &pods, now()), Some(Duration::from_millis(5050)));
    set.status = Some(status.clone());
    let later = "2024-01-01T00:01:01Z".parse().unwrap();
    assert_eq!(super::plan::status(&set, &pods, failure(), later), status, "nothing to write while it goes on");
    assert_eq!(super::plan::status(&set, &pods, None, later).conditions, None);
}
