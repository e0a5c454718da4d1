//! A pod with claims, two nodes, and what there is of volumes: where it goes and what is done for it there.

use std::sync::Arc;

use knarr_client::{ObjectKey, lean::Pod};
use rand::{SeedableRng as _, rngs::SmallRng};
use serde_json::{Value, from_value, json};

use super::{
    bind::{Progress, Written},
    reserve,
};
use crate::{
    cluster::Cluster,
    decide::{Decision, decide},
    pod::PodInfo,
    tests::{Setting, node, seen},
};

fn claim(name: &str, change: Value) -> Value {
    let mut claim = json!({
        "metadata": {"name": name, "namespace": "d", "uid": name, "resourceVersion": "7"},
        "spec": {"accessModes": ["ReadWriteOnce"], "storageClassName": "late", "resources": {"requests": {"storage": "1Gi"}}},
    });
    json_patch::merge(&mut claim, &change);
    claim
}

fn merged(mut base: Value, change: Value) -> Value {
    json_patch::merge(&mut base, &change);
    base
}

fn bound_to(volume: &str) -> Value {
    json!({"metadata": {"annotations": {"pv.kubernetes.io/bind-completed": "yes"}}, "spec": {"volumeName": volume}})
}

fn on(node: &str) -> Value {
    json!({"spec": {"nodeAffinity": {"required": {"nodeSelectorTerms": [
        {"matchExpressions": [{"key": "kubernetes.io/hostname", "operator": "In", "values": [node]}]}]}}}})
}

fn volume(name: &str, size: &str, change: Value) -> Value {
    let mut volume = json!({
        "metadata": {"name": name, "resourceVersion": "5"},
        "spec": {"capacity": {"storage": size}, "accessModes": ["ReadWriteOnce"], "storageClassName": "late"},
        "status": {"phase": "Available"},
    });
    json_patch::merge(&mut volume, &change);
    volume
}

fn class(name: &str, provisioner: &str, mode: &str, change: Value) -> Value {
    let mut class = json!({"metadata": {"name": name}, "provisioner": provisioner, "volumeBindingMode": mode});
    json_patch::merge(&mut class, &change);
    class
}

fn pod(name: &str, claims: &[&str]) -> Arc<PodInfo> {
    let volumes: Vec<Value> =
        claims.iter().map(|claim| json!({"name": claim, "persistentVolumeClaim": {"claimName": claim}})).collect();
    let value = json!({"metadata": {"name": name, "namespace": "d", "uid": name}, "spec": {"containers": [], "volumes": volumes}});
    let pod: Pod = from_value(value).unwrap();
    Arc::new(PodInfo::of(Arc::new(pod)))
}

fn cluster(claims: &[Value], volumes: &[Value]) -> Cluster {
    let mut cluster = Cluster::default();
    for name in ["n1", "n2"] {
        cluster.set_node(&node(name, json!({})));
    }
    let only_n2 = json!({"allowedTopologies": [
        {"matchLabelExpressions": [{"key": "kubernetes.io/hostname", "values": ["n2"]}]}]});
    for class in [
        class("late", "kubernetes.io/no-provisioner", "WaitForFirstConsumer", json!({})),
        class("made", "example.com/p", "WaitForFirstConsumer", json!({})),
        class("made-n2", "example.com/p", "WaitForFirstConsumer", only_n2),
        class("now", "example.com/p", "Immediate", json!({})),
    ] {
        cluster.volumes.class_changed(&seen(class));
    }
    claims.iter().for_each(|claim| cluster.volumes.claim_changed(&seen(claim.clone())));
    volumes.iter().for_each(|volume| cluster.volumes.volume_changed(&seen(volume.clone())));
    cluster
}

/// The node, then what is bound (`volume=claim`) and made (`+claim`) there; or the message.
fn outcome(pod: &PodInfo, cluster: &mut Cluster) -> String {
    let decision = decide(pod, cluster, &mut 0, &mut SmallRng::seed_from_u64(3), &Setting::default());
    let index = match decision {
        Decision::Nowhere(nowhere) => return nowhere.message,
        Decision::Place(index) => index,
    };
    let plan = reserve(pod, cluster, index);
    let name = |meta: &k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta| meta.name.clone().unwrap();
    let bound =
        plan.bindings.iter().map(|(volume, claim)| format!(" {}={}", name(&volume.metadata), name(&claim.metadata)));
    let made = plan.provisions.iter().map(|claim| format!(" +{}", name(&claim.metadata)));
    cluster.nodes[index].name.clone() + &bound.chain(made).collect::<String>()
}

fn hopeless(why: &str) -> String {
    format!(
        "0/2 nodes are available: {why}. preemption: 0/2 nodes are available: 2 Preemption is not helpful for scheduling."
    )
}

#[test]
fn where_a_pod_goes_and_what_is_done_there() {
    let made = json!({"spec": {"storageClassName": "made"}});
    let size = |size: &str| json!({"spec": {"resources": {"requests": {"storage": size}}}});
    let n2 = || volume("v", "5Gi", on("n2"));
    for (claims, volumes, expected) in [
        (vec![], vec![], hopeless("persistentvolumeclaim \"a\" not found")),
        (
            vec![claim("a", json!({"spec": {"storageClassName": "now"}}))],
            vec![],
            hopeless("pod has unbound immediate PersistentVolumeClaims"),
        ),
        (
            vec![claim("a", json!({"spec": {"storageClassName": "none"}}))],
            vec![],
            hopeless("pod has unbound immediate PersistentVolumeClaims"),
        ),
        (
            vec![claim("a", json!({"spec": {"volumeName": "v"}}))],
            vec![n2()],
            hopeless("pod has unbound immediate PersistentVolumeClaims"),
        ),
        (
            vec![claim("a", json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}}))],
            vec![],
            hopeless("persistentvolumeclaim \"a\" is being deleted"),
        ),
        (
            vec![claim("a", json!({"status": {"phase": "Lost"}, "spec": {"volumeName": "v"}}))],
            vec![],
            hopeless("persistentvolumeclaim \"a\" bound to non-existent persistentvolume \"v\""),
        ),
        (vec![claim("a", bound_to("v"))], vec![n2()], "n2".to_owned()),
        (
            vec![claim("a", bound_to("v"))],
            vec![volume("v", "5Gi", on("n3"))],
            hopeless("2 node(s) didn't match PersistentVolume's node affinity"),
        ),
        (
            vec![claim("a", bound_to("v"))],
            vec![],
            hopeless("2 node(s) unavailable due to one or more pvc(s) bound to non-existent pv(s)"),
        ),
        (vec![claim("a", json!({}))], vec![], hopeless("2 node(s) didn't find available persistent volumes to bind")),
        (vec![claim("a", json!({}))], vec![n2()], "n2 v=a".to_owned()),
        (
            vec![claim("a", size("6Gi"))],
            vec![n2()],
            hopeless("2 node(s) didn't find available persistent volumes to bind"),
        ),
        (vec![claim("a", json!({"spec": {"storageClassName": "made-n2"}}))], vec![], "n2 +a".to_owned()),
        (vec![claim("a", made.clone()), claim("b", bound_to("v"))], vec![n2()], "n2 +a".to_owned()),
        (
            // The smaller claim chooses first, so that both find one.
            vec![claim("a", size("4Gi")), claim("b", json!({}))],
            vec![n2(), volume("w", "2Gi", on("n2")), volume("x", "9Gi", on("n1"))],
            "n2 w=b v=a".to_owned(),
        ),
        (
            vec![claim(
                "a",
                json!({"spec": {"storageClassName": "made"}, "metadata": {"annotations": {"volume.kubernetes.io/selected-node": "n2"}}}),
            )],
            vec![],
            "n2 +a".to_owned(),
        ),
    ] {
        let names: Vec<&str> = if claims.len() > 1 { vec!["a", "b"] } else { vec!["a"] };
        let mut cluster = cluster(&claims, &volumes);
        assert_eq!(outcome(&pod("p", &names), &mut cluster), expected, "{claims:?} {volumes:?}");
    }
}

#[test]
fn what_one_pod_was_given_the_next_does_not_get() {
    let both = [claim("a", json!({})), claim("b", json!({}))];
    let mut cluster = cluster(&both, &[volume("v", "5Gi", on("n2"))]);
    assert_eq!(outcome(&pod("p", &["a"]), &mut cluster), "n2 v=a");
    assert_eq!(
        outcome(&pod("q", &["b"]), &mut cluster),
        hopeless("2 node(s) didn't find available persistent volumes to bind")
    );
    assert_eq!(outcome(&pod("p2", &["a"]), &mut cluster), "n2 v=a", "the same claim goes with it");
    let plan = {
        let index = 1;
        reserve(&pod("p", &["a"]), &mut cluster, index)
    };
    cluster.volumes.release(&plan);
    assert_eq!(outcome(&pod("q", &["b"]), &mut cluster), "n2 v=b");
}

#[test]
fn a_claim_for_one_pod_has_one_user() {
    let mut alone = claim("a", bound_to("v"));
    alone["spec"]["accessModes"] = json!(["ReadWriteOncePod"]);
    let mut cluster = cluster(&[alone], &[volume("v", "5Gi", json!({}))]);
    cluster.assume(&pod("p", &["a"]), 0);
    assert_eq!(
        outcome(&pod("q", &["a"]), &mut cluster),
        "0/2 nodes are available: 2 node(s) unavailable due to PersistentVolumeClaim with ReadWriteOncePod access mode \
         already in-use by another pod. preemption: 0/2 nodes are available: 2 No preemption victims found for incoming pod."
    );
    let mut important = PodInfo::of(pod("vip", &["a"]).object.clone());
    important.priority = 9;
    match decide(&important, &cluster, &mut 0, &mut SmallRng::seed_from_u64(3), &Setting::default()) {
        Decision::Nowhere(nowhere) => {
            let preemption = nowhere.preemption.expect("the user makes way");
            assert_eq!((preemption.node_name.as_str(), preemption.victims.len()), ("n1", 1));
        }
        Decision::Place(_) => panic!("the claim is in use"),
    }
    cluster.remove_pod("p");
    assert!(outcome(&pod("q", &["a"]), &mut cluster).starts_with('n'));
}

#[test]
fn a_node_takes_as_many_volumes_as_its_driver_says() {
    let of = |handle: &str| json!({"spec": {"csi": {"driver": "d.io", "volumeHandle": handle}}});
    let names = ["a", "b", "c"];
    let claims = names.map(|name| claim(name, bound_to(name)));
    let mut volumes = names.map(|name| volume(name, "5Gi", merged(of(name), on("n1"))));
    volumes[2] = volume("c", "5Gi", merged(of("a"), on("n1")));
    let mut cluster = cluster(&claims, &volumes);
    let new = claim("new", json!({"spec": {"storageClassName": "driven"}}));
    cluster.volumes.claim_changed(&seen(new));
    cluster.volumes.class_changed(&seen(class("driven", "d.io", "WaitForFirstConsumer", json!({}))));
    let limit = |count: i64| json!([{"name": "d.io", "nodeID": "n", "allocatable": {"count": count}}]);
    for node in ["n1", "n2"] {
        let drivers = limit(if node == "n1" { 1 } else { 0 });
        cluster.volumes.csi_node_changed(&seen(json!({"metadata": {"name": node}, "spec": {"drivers": drivers}})));
    }
    assert_eq!(outcome(&pod("p", &["a"]), &mut cluster), "n1");
    cluster.assume(&pod("p", &["a"]), 0);
    let full = |count: &str| format!("{count} node(s) exceed max volume count");
    assert!(outcome(&pod("q", &["b"]), &mut cluster).contains(&full("2")));
    assert!(outcome(&pod("q", &["new"]), &mut cluster).contains(&full("2")));
    assert_eq!(outcome(&pod("q", &["c"]), &mut cluster), "n1", "it is the same volume");
    cluster.volumes.csi_node_changed(&seen(json!({"metadata": {"name": "n1"}, "spec": {"drivers": limit(2)}})));
    assert_eq!(outcome(&pod("q", &["b"]), &mut cluster), "n1");
}

#[test]
fn a_volume_is_made_where_its_driver_has_room() {
    let driven =
        claim("a", json!({"spec": {"storageClassName": "driven", "resources": {"requests": {"storage": "3Gi"}}}}));
    let fresh = || {
        let mut cluster = cluster(std::slice::from_ref(&driven), &[]);
        cluster.volumes.class_changed(&seen(class("driven", "d.io", "WaitForFirstConsumer", json!({}))));
        cluster
    };
    assert!(outcome(&pod("p", &["a"]), &mut fresh()).ends_with(" +a"), "a driver that says nothing has room");
    let mut cluster = fresh();
    cluster.volumes.driver_changed(&seen(json!({"metadata": {"name": "d.io"}, "spec": {"storageCapacity": true}})));
    let none = hopeless("2 node(s) did not have enough free storage");
    assert_eq!(outcome(&pod("p", &["a"]), &mut cluster), none);
    for (capacity, maximum, expected) in
        [("2Gi", json!(null), none.as_str()), ("9Gi", json!("2Gi"), none.as_str()), ("9Gi", json!(null), "n2 +a")]
    {
        let topology = json!({"matchLabels": {"kubernetes.io/hostname": "n2"}});
        let said = json!({"metadata": {"name": "c", "namespace": "d"}, "storageClassName": "driven",
            "capacity": capacity, "maximumVolumeSize": maximum, "nodeTopology": topology});
        cluster.volumes.capacity_changed(&seen(said));
        assert_eq!(outcome(&pod("p", &["a"]), &mut cluster), expected, "{capacity} {maximum}");
    }
}

#[test]
fn a_pod_goes_into_the_zone_that_its_volume_has_as_a_label() {
    let beta = "failure-domain.beta.kubernetes.io";
    let label = |key: &str, value: &str| json!({"metadata": {"labels": {key: value}}});
    let zone = |value: &str| label("topology.kubernetes.io/zone", value);
    let nodes = [
        ("n1", json!({"topology.kubernetes.io/zone": "a", "topology.kubernetes.io/region": "r"})),
        ("n2", json!({"topology.kubernetes.io/zone": "b", format!("{beta}/region"): "r"})),
    ];
    let bare = [("n1", json!({"rack": "1"})), ("n2", json!({"rack": "2"}))];
    let no_zone = || hopeless("2 node(s) had no available volume zone");
    for (nodes, change, expected) in [
        (&nodes, zone("a"), "n1".to_owned()),
        (&nodes, zone("b"), "n2".to_owned()),
        (&nodes, zone("x__ b __y"), "n2".to_owned()),
        (&nodes, zone("c"), no_zone()),
        (&nodes, label(&format!("{beta}/zone"), "b"), "n2".to_owned()),
        (&nodes, label("topology.kubernetes.io/region", "r"), "n1".to_owned()),
        (&nodes, label("topology.kubernetes.io/region", "other"), no_zone()),
        (
            &nodes,
            json!({"metadata": {"labels": {"topology.kubernetes.io/zone": "b", format!("{beta}/region"): "r"}}}),
            "n2".to_owned(),
        ),
        (
            &nodes,
            json!({"metadata": {"labels": {"topology.kubernetes.io/zone": "a", format!("{beta}/zone"): "b"}}}),
            no_zone(),
        ),
        // With an empty part it says nothing, and the affinity alone counts.
        (&nodes, merged(zone("a__"), on("n2")), "n2".to_owned()),
        (&bare, merged(zone("a"), on("n2")), "n2".to_owned()),
        (
            &nodes,
            merged(zone("a"), on("n2")),
            hopeless("1 node(s) didn't match PersistentVolume's node affinity, 1 node(s) had no available volume zone"),
        ),
    ] {
        let mut cluster = cluster(&[claim("a", bound_to("v"))], &[volume("v", "5Gi", change.clone())]);
        for (name, labels) in nodes {
            cluster.set_node(&node(name, json!({"metadata": {"labels": labels}})));
        }
        assert_eq!(outcome(&pod("p", &["a"]), &mut cluster), expected, "{change}");
    }
}

#[test]
fn volumes_are_waited_for_until_all_are_bound_here() {
    let labels = [("kubernetes.io/hostname".to_owned(), "n2".to_owned())].into();
    let selected = |node: &str| json!({"metadata": {"annotations": {"volume.kubernetes.io/selected-node": node}, "resourceVersion": "9"}});
    let newer = |change: Value| {
        let mut all = json!({"metadata": {"resourceVersion": "9"}});
        json_patch::merge(&mut all, &change);
        all
    };
    let failed = |why: &str| Progress::Failed(why.to_owned());
    for (claims, volumes, expected) in [
        (vec![], vec![], failed("persistentvolumeclaim \"a\" not found")),
        (vec![claim("a", json!({}))], vec![], Progress::Waiting),
        (vec![claim("a", selected("n2"))], vec![], Progress::Waiting),
        (vec![claim("a", newer(json!({})))], vec![], failed("provisioning failed for PVC \"a\"")),
        (vec![claim("a", selected("n1"))], vec![], failed("provisioning failed for PVC \"a\"")),
        (vec![claim("a", newer(bound_to("v")))], vec![], Progress::Waiting),
        (vec![claim("a", newer(bound_to("v")))], vec![volume("v", "1Gi", on("n2"))], Progress::Bound),
        (
            vec![claim("a", newer(bound_to("v")))],
            vec![volume("v", "1Gi", on("n1"))],
            failed("PersistentVolume \"v\" is not where the pod goes"),
        ),
    ] {
        let cluster = cluster(&claims, &volumes);
        let written = Written { claims: [(ObjectKey::new("d", "a"), 9)].into(), ..Written::default() };
        assert_eq!(written.progress(&cluster.volumes, "n2", &labels), expected, "{claims:?} {volumes:?}");
    }
}
