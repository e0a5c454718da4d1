//! Decisions as a table: nodes, pods that run, a pod that comes; a node or a message.

use std::sync::Arc;

use k8s_openapi::api::core::v1::{Node, Pod};
use rand::{SeedableRng as _, rngs::SmallRng};
use serde_json::{Value, json};

use crate::{
    cluster::Cluster,
    decide::{Decision, decide},
    pod::PodInfo,
};

fn node(name: &str, change: Value) -> Node {
    let mut value = json!({
        "metadata": {"name": name, "labels": {"kubernetes.io/hostname": name, "zone": "a"}},
        "status": {"allocatable": {"cpu": "4", "memory": "8Gi", "pods": "10"}},
    });
    json_patch::merge(&mut value, &change);
    serde_json::from_value(value).unwrap()
}

fn pod(name: &str, change: Value) -> Arc<PodInfo> {
    let mut value = json!({
        "metadata": {"name": name, "namespace": "d", "uid": name, "labels": {"app": "x"}},
        "spec": {"containers": [{"name": "c", "image": "i"}]},
    });
    json_patch::merge(&mut value, &change);
    let pod: Pod = serde_json::from_value(value).unwrap();
    Arc::new(PodInfo::of(Arc::new(pod)))
}

fn cpu(amount: &str) -> Value {
    json!({"spec": {"containers": [{"name": "c", "resources": {"requests": {"cpu": amount}}}]}})
}

fn with(mut one: Value, other: Value) -> Value {
    json_patch::merge(&mut one, &other);
    one
}

fn on(node: &str) -> Value {
    json!({"spec": {"nodeName": node}})
}

/// The node's name, or the message (and whom to evict).
fn outcome(nodes: &[Node], running: &[Arc<PodInfo>], new: &PodInfo) -> String {
    let mut cluster = Cluster::default();
    for node in nodes {
        cluster.set_node(node);
    }
    for pod in running {
        cluster.set_pod(pod.clone());
    }
    let mut random = SmallRng::seed_from_u64(7);
    match decide(new, &cluster, &mut 0, &mut random, &|_| Default::default()) {
        Decision::Place(index) => cluster.nodes[index].name.clone(),
        Decision::Nowhere(nowhere) => match nowhere.preemption {
            Some(preemption) => {
                let victims: Vec<_> = preemption.victims.iter().map(|victim| victim.name.as_str()).collect();
                format!("evict {} on {}", victims.join(" "), preemption.node_name)
            }
            None => nowhere.message,
        },
    }
}

#[test]
fn filters() {
    let plain = [node("n1", json!({}))];
    let none = |why: &str| {
        format!(
            "0/1 nodes are available: 1 {why}. preemption: 0/1 nodes are available: 1 Preemption is not helpful for scheduling."
        )
    };
    let full = |why: &str| {
        format!(
            "0/1 nodes are available: 1 {why}. preemption: 0/1 nodes are available: 1 No preemption victims found for incoming pod."
        )
    };
    let port = json!({"spec": {"containers": [{"name": "c", "ports": [{"containerPort": 80, "hostPort": 80}]}]}});
    let anti = json!({"spec": {"affinity": {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [
        {"topologyKey": "kubernetes.io/hostname", "labelSelector": {"matchLabels": {"app": "x"}}}]}}}});
    let near = json!({"spec": {"affinity": {"podAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [
        {"topologyKey": "zone", "labelSelector": {"matchLabels": {"app": "db"}}}]}}}});
    let tainted = node("n1", json!({"spec": {"taints": [{"key": "k", "effect": "NoSchedule"}]}}));
    for (nodes, running, new, expected) in [
        (plain.to_vec(), vec![], json!({}), "n1".to_owned()),
        (vec![], vec![], json!({}), "no nodes available to schedule pods".to_owned()),
        (plain.to_vec(), vec![], cpu("5"), none("Insufficient cpu")),
        (plain.to_vec(), vec![pod("r", with(cpu("3"), on("n1")))], cpu("2"), full("Insufficient cpu")),
        (plain.to_vec(), (0..10).map(|i| pod(&format!("r{i}"), on("n1"))).collect(), json!({}), full("Too many pods")),
        (
            plain.to_vec(),
            vec![],
            json!({"spec": {"nodeSelector": {"disk": "ssd"}}}),
            none("node(s) didn't match Pod's node affinity/selector"),
        ),
        (vec![tainted.clone()], vec![], json!({}), none("node(s) had untolerated taint(s)")),
        (vec![tainted], vec![], json!({"spec": {"tolerations": [{"operator": "Exists"}]}}), "n1".to_owned()),
        (
            vec![node("n1", json!({"spec": {"unschedulable": true}}))],
            vec![],
            json!({}),
            none("node(s) were unschedulable"),
        ),
        (
            plain.to_vec(),
            vec![pod("r", with(port.clone(), on("n1")))],
            port,
            full("node(s) didn't have free ports for the requested pod ports"),
        ),
        (plain.to_vec(), vec![pod("r", on("n1"))], anti.clone(), full("node(s) didn't match pod anti-affinity rules")),
        (
            plain.to_vec(),
            vec![pod("r", with(anti, on("n1")))],
            json!({}),
            full("node(s) didn't satisfy existing pods anti-affinity rules"),
        ),
        (plain.to_vec(), vec![], near.clone(), none("node(s) didn't match pod affinity rules")),
        (plain.to_vec(), vec![], with(near.clone(), json!({"metadata": {"labels": {"app": "db"}}})), "n1".to_owned()),
        (
            plain.to_vec(),
            vec![pod("r", with(json!({"metadata": {"labels": {"app": "db"}}}), on("n1")))],
            near,
            "n1".to_owned(),
        ),
        (
            plain.to_vec(),
            vec![],
            json!({"spec": {"containers": [{"name": "c", "resources": {"requests": {"x.io/gpu": "1"}}}]}}),
            none("Insufficient x.io/gpu"),
        ),
    ] as [(Vec<Node>, Vec<Arc<PodInfo>>, Value, String); 16]
    {
        assert_eq!(outcome(&nodes, &running, &pod("new", new.clone())), expected, "{new}");
    }
}

#[test]
fn a_thousand_pods_may_be_written_1k() {
    let large = [node("n1", json!({"status": {"allocatable": {"pods": "1k"}}}))];
    assert_eq!(outcome(&large, &[], &pod("new", json!({}))), "n1");
}

#[test]
fn several_reasons_are_counted_and_sorted() {
    let nodes = [
        node("n1", json!({"spec": {"unschedulable": true}})),
        node("n2", json!({"status": {"allocatable": {"cpu": "1"}}})),
        node("n3", json!({"status": {"allocatable": {"cpu": "1"}}})),
    ];
    assert_eq!(
        outcome(&nodes, &[], &pod("new", cpu("2"))),
        "0/3 nodes are available: 1 node(s) were unschedulable, 2 Insufficient cpu. preemption: 0/3 nodes are available: 3 Preemption is not helpful for scheduling."
    );
}

#[test]
fn scores_prefer_room_spread_and_wishes() {
    let nodes = [node("n1", json!({})), node("n2", json!({"metadata": {"labels": {"zone": "b", "disk": "ssd"}}}))];
    let owned = |owner: &str| {
        json!({"metadata": {"ownerReferences": [
        {"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": owner, "uid": owner, "controller": true}]}})
    };
    let prefer = json!({"spec": {"affinity": {"nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [
        {"weight": 5, "preference": {"matchExpressions": [{"key": "disk", "operator": "Exists"}]}}]}}}});
    let crowded = vec![pod("r", with(cpu("2"), on("n1")))];
    assert_eq!(outcome(&nodes, &crowded, &pod("new", json!({}))), "n2", "more room");
    assert_eq!(outcome(&nodes, &[], &pod("new", prefer)), "n2", "preferred");
    let sibling = vec![pod("s", with(owned("rs"), on("n2")))];
    assert_eq!(outcome(&nodes, &sibling, &pod("new", owned("rs"))), "n1", "away from its sibling");
    let avoid =
        [node("n1", json!({"spec": {"taints": [{"key": "k", "effect": "PreferNoSchedule"}]}})), node("n2", json!({}))];
    assert_eq!(outcome(&avoid, &[], &pod("new", json!({}))), "n2", "no soft taint");
}

#[test]
fn hard_spread_keeps_the_skew() {
    let nodes = [
        node("n1", json!({})),
        node("n2", json!({"metadata": {"labels": {"zone": "b"}}})),
        node("n3", json!({"metadata": {"labels": {"zone": null}}})),
    ];
    let spread = json!({"spec": {"topologySpreadConstraints": [
        {"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "DoNotSchedule", "labelSelector": {"matchLabels": {"app": "x"}}}]}});
    let running = vec![pod("r", on("n2"))];
    assert_eq!(outcome(&nodes, &running, &pod("new", spread.clone())), "n1");
    let running = vec![
        pod("r", on("n2")),
        pod("full", with(cpu("4"), with(on("n1"), json!({"metadata": {"labels": {"app": "y"}}})))),
    ];
    let message = outcome(&nodes, &running, &pod("new", with(cpu("1"), spread)));
    assert!(message.contains("1 node(s) didn't match pod topology spread constraints,"), "{message}");
    assert!(
        message.contains("1 node(s) didn't match pod topology spread constraints (missing required label)"),
        "{message}"
    );
}

#[test]
fn preemption_takes_the_least_important_and_no_more_than_needed() {
    let important = |change: Value| pod("new", with(change, json!({"spec": {"priority": 100}})));
    let nodes = [node("n1", json!({})), node("n2", json!({}))];
    let running = |name: &str, amount: &str, priority: i32, at: &str| {
        pod(name, with(with(cpu(amount), on(at)), json!({"spec": {"priority": priority}})))
    };
    let busy = vec![
        running("a", "2", 50, "n1"),
        running("b", "2", 10, "n1"),
        running("c", "1", 10, "n2"),
        running("d", "3", 60, "n2"),
    ];
    assert_eq!(outcome(&nodes, &busy, &important(cpu("2"))), "evict b on n1");
    assert_eq!(outcome(&nodes, &busy, &important(cpu("1"))), "evict b on n1");
    assert_eq!(outcome(&nodes, &busy, &important(cpu("4"))), "evict a b on n1");
    let never = important(with(cpu("2"), json!({"spec": {"preemptionPolicy": "Never"}})));
    assert!(outcome(&nodes, &busy, &never).ends_with("preemption: not eligible due to preemptionPolicy=Never."));
}

#[test]
fn a_node_that_goes_and_comes_keeps_its_pods_counted() {
    let mut cluster = Cluster::default();
    cluster.set_node(&node("n1", json!({})));
    cluster.set_node(&node("n2", json!({})));
    cluster.set_pod(pod("r", with(cpu("3"), on("n1"))));
    cluster.set_pod(pod("s", with(cpu("1"), on("n2"))));
    cluster.remove_node("n1");
    assert_eq!(cluster.existing_nodes(), 1);
    cluster.set_node(&node("n1", json!({})));
    let used = |cluster: &Cluster, name: &str| {
        cluster.nodes.iter().find(|node| node.name == name).map(|node| node.requested.cpu_milli)
    };
    assert_eq!(used(&cluster, "n1"), Some(3000));
    cluster.remove_node("n1");
    cluster.remove_pod("r");
    assert_eq!(used(&cluster, "n1"), None);
    assert_eq!(used(&cluster, "n2"), Some(1000));
    cluster.remove_pod("s");
    assert_eq!(used(&cluster, "n2"), Some(0));
}
