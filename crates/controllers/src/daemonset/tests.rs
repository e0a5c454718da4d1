use std::time::Duration;

use jiff::Timestamp;
use serde_json::{Value, json};

use super::{plan::*, *};
use crate::common::pods;

const NEW: &str = "h2";
const OLD: &str = "h1";

fn set(strategy: Value) -> DaemonSet {
    serde_json::from_value(json!({
        "metadata": {"name": "agent", "namespace": "d", "uid": "set", "generation": 3,
            "annotations": {"deprecated.daemonset.template.generation": "2"}},
        "spec": {"selector": {"matchLabels": {"app": "agent"}}, "updateStrategy": strategy,
            "template": {"metadata": {"labels": {"app": "agent"}},
                "spec": {"nodeSelector": {"disk": "ssd"}, "containers": []}}},
    }))
    .unwrap()
}

fn node(name: &str, taint: &str) -> Arc<Node> {
    let disk = if name.starts_with("hdd") { "hdd" } else { "ssd" };
    let taints: Vec<_> =
        taint.split_once(':').into_iter().map(|(key, effect)| json!({"key": key, "effect": effect})).collect();
    let node = json!({"metadata": {"name": name, "labels": {"disk": disk}}, "spec": {"taints": taints}});
    Arc::new(serde_json::from_value(node).unwrap())
}

/// `node/hash/state`, where the state is one of ready, starting, going, Failed, Succeeded, and unbound.
fn pod(text: &str, number: usize) -> Arc<Pod> {
    let [node, hash, state] = text.split('/').collect::<Vec<_>>().try_into().unwrap();
    let phase = if matches!(state, "Failed" | "Succeeded") { state } else { "Running" };
    let mut pod = pod::on_node(&pod::new(&set(json!({})), hash), node);
    pod.metadata.name = Some(format!("{node}-{number}"));
    pod.metadata.uid = pod.metadata.name.clone();
    pod.metadata.creation_timestamp = serde_json::from_value(json!(format!("2024-01-01T00:00:{number:02}Z"))).unwrap();
    if state == "going" {
        pod.metadata.deletion_timestamp = pod.metadata.creation_timestamp.clone();
    }
    if state != "unbound" {
        pod.spec.as_mut().unwrap().node_name = Some(node.to_owned());
    }
    let ready = if state == "ready" { "True" } else { "False" };
    let conditions = json!([{"type": "Ready", "status": ready, "lastTransitionTime": "2024-01-01T00:00:30Z"}]);
    pod.status = serde_json::from_value(json!({"phase": phase, "conditions": conditions})).unwrap();
    Arc::new(pods::seen(&pod))
}

fn now() -> Timestamp {
    "2024-01-01T00:01:00Z".parse().unwrap()
}

fn check(strategy: Value, nodes: &[(&str, &str)], there: &[&str], expected: &str) {
    let set = set(strategy.clone());
    let nodes: Vec<_> = nodes.iter().map(|(name, taint)| node(name, taint)).collect();
    let pods: Vec<_> = there.iter().enumerate().map(|(number, text)| pod(text, number)).collect();
    let observed = Observed { set: &set, nodes: &nodes, pods: &pods, hash: NEW, now: now() };
    let plan = plan::plan(&observed, &mut |node| {
        if node == "waits" { Err(Duration::from_secs(7)) } else { Ok(()) }
    });
    let mut deleted: Vec<_> = plan.delete.iter().map(|pod| meta::name(&pod.metadata).to_owned()).collect();
    deleted.sort();
    let mut parts = Vec::new();
    if !plan.create.is_empty() {
        parts.push(format!("create {}", plan.create.join(" ")));
    }
    if !deleted.is_empty() {
        parts.push(format!("delete {}", deleted.join(" ")));
    }
    parts.extend(plan.ended.iter().map(|(_, reason, _)| (*reason).to_owned()));
    parts.extend(plan.retry.map(|wait| format!("again in {}", wait.as_secs())));
    assert_eq!(parts.join("; "), expected, "{strategy} {there:?}");
}

#[test]
fn one_pod_for_each_node_that_is_to_have_one() {
    let plain = [("a", ""), ("b", ""), ("hdd", "")];
    type Nodes<'a> = &'a [(&'a str, &'a str)];
    let rows: [(Nodes, &[&str], &str); 11] = [
        (&plain, &[], "create a b"),
        (&plain, &["a/h2/ready", "b/h2/starting"], ""),
        (&plain, &["a/h2/ready", "b/h2/unbound"], ""),
        (&plain, &["a/h2/ready", "b/h2/ready", "hdd/h2/ready"], "delete hdd-2"),
        (&plain, &["a/h2/ready", "b/h2/unbound", "b/h2/ready"], "delete b-1"),
        (&plain, &["a/h2/ready", "b/h2/going"], ""),
        (&[("a", "k:NoSchedule")], &[], ""),
        (&[("a", "k:NoSchedule")], &["a/h2/ready"], ""),
        (&[("a", "k:NoExecute")], &["a/h2/ready"], "delete a-0"),
        (&[("a", "node.kubernetes.io/unreachable:NoExecute")], &[], "create a"),
        (&[("a", "")], &["a/h2/ready", "gone/h2/unbound"], "delete gone-1"),
    ];
    for (nodes, there, expected) in rows {
        check(json!({}), nodes, there, expected);
    }
}

#[test]
fn what_ended_is_replaced_after_a_while() {
    check(json!({}), &[("a", "")], &["a/h2/Failed"], "delete a-0; FailedDaemonPod");
    check(json!({}), &[("a", "")], &["a/h2/Succeeded"], "delete a-0; SucceededDaemonPod");
    check(json!({}), &[("waits", "")], &["waits/h2/Failed"], "again in 7");
}

#[test]
fn an_update_goes_on_as_far_as_it_may() {
    let nodes = [("a", ""), ("b", ""), ("c", ""), ("e", "")];
    let rolling =
        |unavailable: Value| json!({"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": unavailable}});
    let surge =
        |surge: Value| json!({"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 0, "maxSurge": surge}});
    let old = ["a/h1/ready", "b/h1/ready", "c/h1/ready", "e/h1/ready"];
    let rows: [(Value, &[&str], &str); 14] = [
        (json!({"type": "OnDelete"}), &old, ""),
        (rolling(json!(1)), &old, "delete a-0"),
        (rolling(json!("50%")), &old, "delete a-0 b-1"),
        (rolling(json!("1%")), &old, "delete a-0"),
        (rolling(json!(1)), &["a/h2/starting", "b/h1/ready", "c/h1/ready", "e/h1/ready"], ""),
        (rolling(json!(1)), &["a/h1/going", "b/h1/ready", "c/h1/ready", "e/h1/ready"], ""),
        (rolling(json!(2)), &["a/h2/starting", "b/h1/ready", "c/h1/ready", "e/h1/ready"], "delete b-1"),
        (rolling(json!(1)), &["a/h1/starting", "b/h1/ready", "c/h1/starting", "e/h1/ready"], "delete a-0 c-2"),
        (rolling(json!(1)), &["a/h2/ready", "b/h2/ready", "c/h2/ready", "e/h2/ready"], ""),
        (surge(json!(1)), &old, "create a"),
        (surge(json!("50%")), &old, "create a b"),
        (surge(json!(1)), &["a/h1/ready", "a/h2/starting", "b/h1/ready", "c/h1/ready", "e/h1/ready"], ""),
        (surge(json!(1)), &["a/h1/ready", "a/h2/ready", "b/h1/ready", "c/h1/ready", "e/h1/ready"], "delete a-0"),
        (surge(json!(1)), &["a/h1/starting", "a/h2/starting", "b/h1/ready", "c/h1/ready", "e/h1/ready"], "delete a-0"),
    ];
    for (strategy, there, expected) in rows {
        check(strategy, &nodes, there, expected);
    }
}

#[test]
fn the_status_counts_nodes() {
    let nodes = [node("a", ""), node("b", ""), node("c", ""), node("hdd", "")];
    let there = ["a/h2/ready", "b/h1/starting", "hdd/h2/ready"];
    let pods: Vec<_> = there.iter().enumerate().map(|(number, text)| pod(text, number)).collect();
    let mut set = set(json!({}));
    set.spec.as_mut().unwrap().min_ready_seconds = Some(40);
    let observed = Observed { set: &set, nodes: &nodes, pods: &pods, hash: NEW, now: now() };
    let (status, again) = status(&observed);
    assert_eq!(
        serde_json::to_value(status).unwrap(),
        json!({"desiredNumberScheduled": 3, "currentNumberScheduled": 2, "numberMisscheduled": 1, "numberReady": 1,
            "numberUnavailable": 3, "updatedNumberScheduled": 1, "observedGeneration": 3})
    );
    assert_eq!(again, Some(Duration::from_millis(10_050)), "ready for 30 of 40 seconds");
}

#[test]
fn a_pod_bears_what_befalls_its_node() {
    let pod = pod::on_node(&pod::new(&set(json!({})), OLD), "a");
    assert_eq!(pod::node_of(&pods::seen(&pod)), Some("a"));
    assert_eq!(
        serde_json::to_value(pod.metadata.labels.clone()).unwrap(),
        json!({"app": "agent", "controller-revision-hash": OLD, "pod-template-generation": "2"})
    );
    assert_eq!(pod.spec.unwrap().tolerations.unwrap().len(), 6);
}
