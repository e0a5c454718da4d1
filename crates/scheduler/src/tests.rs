//! Decisions as a table: nodes, pods that run, a pod that comes; a node or a message.

mod preemption;

use std::sync::Arc;

use k8s_openapi::api::{
    core::v1::{Node, Service},
    policy::v1::PodDisruptionBudget,
};
use knarr_client::{Change, lean::Pod};
use rand::{SeedableRng as _, rngs::SmallRng};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::{
    around::Around,
    cluster::Cluster,
    decide::{Decision, decide},
    pod::PodInfo,
    terms::Labels,
};

/// Every namespace is labelled with its own name.
#[derive(Default)]
pub(crate) struct Setting {
    services: Vec<Arc<Service>>,
    budgets: Vec<Arc<PodDisruptionBudget>>,
}

impl Around for Setting {
    fn namespace_labels(&self, namespace: &str) -> Labels {
        [("name".to_owned(), namespace.to_owned())].into()
    }

    fn services(&self, _: &str) -> Vec<Arc<Service>> {
        self.services.clone()
    }

    fn budgets(&self, _: &str) -> Vec<Arc<PodDisruptionBudget>> {
        self.budgets.clone()
    }
}

pub(crate) fn node(name: &str, change: Value) -> Node {
    let mut value = json!({
        "metadata": {"name": name, "labels": {"kubernetes.io/hostname": name, "zone": "a"}},
        "status": {"allocatable": {"cpu": "4", "memory": "8Gi", "pods": "10"}},
    });
    json_patch::merge(&mut value, &change);
    serde_json::from_value(value).unwrap()
}

/// What an informer tells of an object that it sees for the first time.
pub(crate) fn seen<K: DeserializeOwned>(value: Value) -> Change<K> {
    Change { old: None, new: Some(Arc::new(serde_json::from_value(value).unwrap())) }
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
    outcome_in(&Setting::default(), nodes, running, new)
}

/// Those among `running` that have no node wait for the one that is promised to them.
fn outcome_in(setting: &Setting, nodes: &[Node], running: &[Arc<PodInfo>], new: &PodInfo) -> String {
    let mut cluster = Cluster::default();
    for node in nodes {
        cluster.set_node(node);
    }
    for pod in running {
        match pod.object.status.as_ref().and_then(|status| status.nominated_node_name.as_deref()) {
            Some(node) => cluster.nominate(pod, Some(node)),
            None => drop(cluster.set_pod(pod.clone())),
        }
    }
    let mut random = SmallRng::seed_from_u64(7);
    match decide(new, &cluster, &mut 0, &mut random, setting) {
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

#[test]
fn a_pod_for_one_node_goes_there_or_nowhere() {
    let nodes = [node("n1", json!({})), node("n2", json!({})), node("n3", json!({}))];
    let only = |name: &str| {
        json!({"spec": {"affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [
            {"matchFields": [{"key": "metadata.name", "operator": "In", "values": [name]}]}]}}}}})
    };
    assert_eq!(outcome(&nodes, &[], &pod("new", only("n2"))), "n2");
    assert_eq!(
        outcome(&nodes, &[], &pod("new", with(cpu("5"), only("n2")))),
        "0/3 nodes are available: 1 Insufficient cpu, 2 node(s) didn't satisfy plugin(s) [NodeAffinity]. \
         preemption: 0/3 nodes are available: 3 Preemption is not helpful for scheduling."
    );
    assert!(
        outcome(&nodes, &[], &pod("new", only("gone")))
            .starts_with("0/3 nodes are available: 3 node(s) didn't satisfy plugin(s) [NodeAffinity]. ")
    );
}

#[test]
fn nearness_is_wished_by_either_side() {
    let nodes = [node("n1", json!({})), node("n2", json!({}))];
    let db = |wish: Value| pod("db", with(on("n2"), with(json!({"metadata": {"labels": {"app": "db"}}}), wish)));
    let wish = |kind: &str, app: &str| {
        json!({"spec": {"affinity": {kind: {"preferredDuringSchedulingIgnoredDuringExecution": [{"weight": 50,
            "podAffinityTerm": {"topologyKey": "kubernetes.io/hostname", "labelSelector": {"matchLabels": {"app": app}}}}]}}}})
    };
    let crowded = pod("r", with(cpu("1"), on("n1")));
    for (there, new, expected, why) in [
        (db(json!({})), wish("podAffinity", "db"), "n2", "the new one wants it"),
        (db(json!({})), wish("podAntiAffinity", "db"), "n1", "the new one shuns it"),
        (db(wish("podAffinity", "x")), json!({}), "n2", "the one that is there wants it"),
        (db(wish("podAntiAffinity", "x")), json!({}), "n1", "the one that is there shuns it"),
    ] {
        let elsewhere = if expected == "n1" { pod("r", with(cpu("1"), on("n2"))) } else { crowded.clone() };
        assert_eq!(outcome(&nodes, &[there, elsewhere], &pod("new", new)), expected, "{why}");
    }
}

#[test]
fn pods_of_a_service_keep_apart() {
    let nodes = [node("n1", json!({})), node("n2", json!({"status": {"allocatable": {"cpu": "3.9"}}}))];
    let service = json!({"metadata": {"name": "s"}, "spec": {"selector": {"app": "x"}}});
    let setting = Setting { services: vec![Arc::new(serde_json::from_value(service).unwrap())], ..Setting::default() };
    let running = [pod("r", on("n1")), pod("other", with(on("n2"), json!({"metadata": {"labels": {"app": "y"}}})))];
    assert_eq!(outcome_in(&Setting::default(), &nodes, &running, &pod("new", json!({}))), "n1", "more room");
    assert_eq!(outcome_in(&setting, &nodes, &running, &pod("new", json!({}))), "n2", "away from its like");
}

#[test]
fn terms_look_into_the_namespaces_they_select() {
    let nodes = [node("n1", json!({}))];
    let elsewhere = pod("r", with(on("n1"), json!({"metadata": {"namespace": "e"}})));
    let anti = |more: Value| {
        let mut term = json!({"topologyKey": "zone", "labelSelector": {"matchLabels": {"app": "x"}}});
        json_patch::merge(&mut term, &more);
        json!({"spec": {"affinity": {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [term]}}}})
    };
    for (more, fits) in [
        (json!({}), true),
        (json!({"namespaces": ["e"]}), false),
        (json!({"namespaceSelector": {}}), false),
        (json!({"namespaceSelector": {"matchLabels": {"name": "e"}}}), false),
        (json!({"namespaceSelector": {"matchLabels": {"name": "f"}}}), true),
        (json!({"namespaceSelector": {}, "mismatchLabelKeys": ["app"]}), true),
    ] {
        let placed = outcome(&nodes, std::slice::from_ref(&elsewhere), &pod("new", anti(more.clone())));
        assert_eq!(placed == "n1", fits, "{more}: {placed}");
    }
}

#[test]
fn spreading_minds_domains_and_which_nodes_count() {
    let nodes = [
        node("n1", json!({})),
        node("n2", json!({"metadata": {"labels": {"zone": "b"}}})),
        node(
            "n3",
            json!({"metadata": {"labels": {"zone": "c"}}, "spec": {"taints": [{"key": "k", "effect": "NoSchedule"}]}}),
        ),
    ];
    let spread = |more: Value| {
        let mut constraint = json!({"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "DoNotSchedule",
            "labelSelector": {"matchLabels": {"app": "x"}}});
        json_patch::merge(&mut constraint, &more);
        pod("new", json!({"spec": {"topologySpreadConstraints": [constraint]}}))
    };
    let there = [pod("a", on("n1")), pod("b", on("n2"))];
    let blocked = "2 node(s) didn't match pod topology spread constraints";
    // The tainted zone counts as empty unless taints are honoured.
    assert!(outcome(&nodes, &there, &spread(json!({}))).contains(blocked));
    assert!(["n1", "n2"].contains(&outcome(&nodes, &there, &spread(json!({"nodeTaintsPolicy": "Honor"}))).as_str()));
    // Fewer domains than wished count as an empty one.
    assert!(["n1", "n2"].contains(&outcome(&nodes[..2], &there, &spread(json!({"minDomains": 2}))).as_str()));
    assert!(outcome(&nodes[..2], &there, &spread(json!({"minDomains": 3}))).contains(blocked));
}

/// `cargo test --release -p knarr-scheduler -- --ignored --nocapture speed`
#[test]
#[ignore = "a measurement"]
fn speed() {
    let spread = json!({"spec": {"topologySpreadConstraints": [{"maxSkew": 5, "topologyKey": "zone",
        "whenUnsatisfiable": "DoNotSchedule", "labelSelector": {"matchLabels": {"app": "x"}}}]}});
    let anti = json!({"spec": {"affinity": {"podAntiAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [
        {"weight": 1, "podAffinityTerm": {"topologyKey": "kubernetes.io/hostname", "labelSelector": {"matchLabels": {"app": "x"}}}}]}}}});
    let owned = json!({"metadata": {"ownerReferences": [
        {"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "r", "uid": "r", "controller": true}]}});
    for (count, (what, change)) in [500, 5000].into_iter().flat_map(|count| {
        [("plain", owned.clone()), ("spread", spread.clone()), ("apart", anti.clone())].map(|kind| (count, kind))
    }) {
        let mut cluster = Cluster::default();
        for index in 0..count {
            let zone = format!("z{}", index % 3);
            let room = json!({"cpu": "64", "memory": "256Gi", "pods": "110"});
            cluster.set_node(&node(
                &format!("n{index}"),
                json!({"metadata": {"labels": {"zone": zone}}, "status": {"allocatable": room}}),
            ));
        }
        let (mut start, mut random) = (0, SmallRng::seed_from_u64(7));
        let pods: Vec<_> = (0..2000).map(|index| pod(&format!("p{index}"), with(cpu("10m"), change.clone()))).collect();
        let begun = std::time::Instant::now();
        for new in &pods {
            match decide(new, &cluster, &mut start, &mut random, &Setting::default()) {
                Decision::Place(index) => cluster.assume(new, index),
                Decision::Nowhere(nowhere) => panic!("{}", nowhere.message),
            }
        }
        let rate = pods.len() as f64 / begun.elapsed().as_secs_f64();
        println!("{what}: {} pods on {count} nodes at {rate:.0}/s", pods.len());
    }
}
