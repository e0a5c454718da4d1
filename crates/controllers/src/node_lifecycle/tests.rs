use jiff::Timestamp;
use serde_json::{Value, json};

use super::{plan::*, *};

fn node(ready: &str, change: Value) -> Node {
    let mut value = json!({"metadata": {"name": "n1"}, "status": {"conditions": [
        {"type": "Ready", "status": ready, "lastHeartbeatTime": "2024-01-01T00:00:00Z"}, {"type": "DiskPressure", "status": "False"}]}});
    json_patch::merge(&mut value, &change);
    serde_json::from_value(value).unwrap()
}

fn now() -> Timestamp {
    "2024-01-01T00:10:00Z".parse().unwrap()
}

fn show(taints: Option<Vec<k8s_openapi::api::core::v1::Taint>>) -> Option<Vec<String>> {
    let short = |key: &str| key.trim_start_matches("node.kubernetes.io/").to_owned();
    taints.map(|taints| taints.iter().map(|taint| format!("{}:{}", short(&taint.key), taint.effect)).collect())
}

#[test]
fn taints_follow_conditions() {
    let with = |taints: Value| json!({"spec": {"taints": taints}});
    let not_ready = json!({"key": "node.kubernetes.io/not-ready", "effect": "NoSchedule"});
    let unreachable = json!({"key": "node.kubernetes.io/unreachable", "effect": "NoExecute"});
    let theirs = json!({"key": "theirs", "effect": "NoExecute"});
    use Evict::{Nobody, Not, Now};
    for (ready, evict, change, expected) in [
        ("True", Now, json!({}), None),
        ("True", Now, with(json!([not_ready])), Some(vec![])),
        ("True", Now, with(json!([theirs, not_ready])), Some(vec!["theirs:NoExecute"])),
        ("False", Now, json!({}), Some(vec!["not-ready:NoSchedule", "not-ready:NoExecute"])),
        ("False", Nobody, json!({}), Some(vec!["not-ready:NoSchedule"])),
        ("Unknown", Now, json!({}), Some(vec!["unreachable:NoSchedule", "unreachable:NoExecute"])),
        ("Unknown", Nobody, with(json!([unreachable])), Some(vec!["unreachable:NoSchedule"])),
        ("Unknown", Not, json!({}), Some(vec!["unreachable:NoSchedule"])),
        ("Unknown", Not, with(json!([unreachable])), Some(vec!["unreachable:NoExecute", "unreachable:NoSchedule"])),
        ("False", Not, with(json!([unreachable])), Some(vec!["not-ready:NoSchedule", "not-ready:NoExecute"])),
        ("False", Not, with(json!([theirs])), Some(vec!["theirs:NoExecute", "not-ready:NoSchedule"])),
        ("True", Not, with(json!([unreachable])), Some(vec![])),
        ("True", Now, json!({"spec": {"unschedulable": true}}), Some(vec!["unschedulable:NoSchedule"])),
        (
            "True",
            Now,
            json!({"status": {"conditions": [{"type": "Ready", "status": "True"}, {"type": "DiskPressure", "status": "True"}]}}),
            Some(vec!["disk-pressure:NoSchedule"]),
        ),
        ("", Now, json!({"spec": {"taints": [not_ready]}, "status": {"conditions": null}}), None),
    ] {
        let expected = expected.map(|list: Vec<&str>| list.into_iter().map(str::to_owned).collect::<Vec<_>>());
        assert_eq!(show(taints(&node(ready, change.clone()), evict, now())), expected, "{ready} {evict:?} {change}");
    }
}

#[test]
fn a_silent_node_is_unknown_once() {
    let mut silent = node("True", json!({}));
    silent.status = status_of_silent(&silent, now());
    let conditions = silent.status.clone().unwrap().conditions.unwrap();
    let shown: Vec<_> =
        conditions.iter().map(|c| format!("{} {} {}", c.type_, c.status, c.reason.as_deref().unwrap())).collect();
    assert_eq!(
        shown,
        [
            "Ready Unknown NodeStatusUnknown",
            "DiskPressure Unknown NodeStatusUnknown",
            "MemoryPressure Unknown NodeStatusNeverUpdated",
            "PIDPressure Unknown NodeStatusNeverUpdated",
        ]
    );
    assert_eq!(status_of_silent(&silent, now()), None);
}

#[test]
fn pods_go_when_their_toleration_ends() {
    let tainted = node(
        "Unknown",
        json!({"spec": {"taints": [
        {"key": "node.kubernetes.io/unreachable", "effect": "NoExecute", "timeAdded": "2024-01-01T00:09:00Z"}]}}),
    );
    let pod = |name: &str, tolerations: Value| -> Arc<Pod> {
        let value = json!({"metadata": {"name": name}, "spec": {"containers": [], "tolerations": tolerations}});
        Arc::new(serde_json::from_value(value).unwrap())
    };
    let key = "node.kubernetes.io/unreachable";
    let pods = [
        pod("at-once", json!([])),
        pod("later", json!([{"key": key, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300}])),
        pod("over", json!([{"key": key, "operator": "Exists", "tolerationSeconds": 30}])),
        pod("never", json!([{"operator": "Exists"}])),
        pod("other", json!([{"key": "x", "operator": "Exists"}])),
        pod("no-number", json!([{"key": key, "operator": "Gt"}])),
    ];
    let evictions = evictions(&tainted, &pods, now());
    let due: Vec<_> = evictions.due.iter().map(|pod| pod.metadata.name.clone().unwrap()).collect();
    assert_eq!(due, ["at-once", "over", "other", "no-number"]);
    assert_eq!(evictions.next_after, Some(Duration::from_secs(240)));
}

#[test]
fn agents_are_told_of_an_unusual_grace() {
    let with = |seconds: &str| {
        node("True", json!({"metadata": {"annotations": {"knarr.dev/lease-duration-seconds": seconds}}}))
    };
    let bare = node("True", json!({}));
    assert_eq!(lease_duration(&bare, Duration::from_secs(40)), None);
    assert_eq!(lease_duration(&bare, Duration::from_secs(5)), Some("5".to_owned()));
    assert_eq!(lease_duration(&with("5"), Duration::from_secs(5)), None);
    assert_eq!(lease_duration(&with("5"), Duration::from_secs(40)), Some("40".to_owned()));
}
