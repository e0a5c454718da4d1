//! Pods with claims, nodes with devices: where the pods go, what they get there, and that nobody else gets it.

mod never_twice;

use std::sync::Arc;

use knarr_client::lean::Pod;
use rand::{SeedableRng as _, rngs::SmallRng};
use serde_json::{Value, from_value, json};

use super::reserve;
use crate::{
    cluster::Cluster,
    decide::{Decision, decide},
    pod::PodInfo,
    tests::{Setting, node, seen},
};

/// A cluster of `n1` and `n2` with a class for all devices of the driver `d`, and one for nobody's.
fn cluster(slices: &[Value], claims: &[Value]) -> Cluster {
    let mut cluster = Cluster::default();
    for name in ["n1", "n2"] {
        cluster.set_node(&node(name, json!({"metadata": {"labels": {"rack": name}}})));
    }
    let class = |name: &str, expression: &str| {
        json!({"metadata": {"name": name}, "spec": {
            "selectors": [{"cel": {"expression": expression}}],
            "config": [{"opaque": {"driver": "d", "parameters": {"of": name}}}]}})
    };
    cluster.devices.class_changed(&seen(class("gpu", "device.driver == 'd'")));
    cluster.devices.class_changed(&seen(class("broken", "device.attributes['d'].missing")));
    slices.iter().for_each(|slice| cluster.devices.slice_changed(&seen(slice.clone())));
    claims.iter().for_each(|claim| cluster.devices.claim_changed(&seen(claim.clone())));
    cluster
}

fn slice(name: &str, node: &str, devices: Value) -> Value {
    json!({"metadata": {"name": name}, "spec": {
        "driver": "d", "nodeName": node, "devices": devices,
        "pool": {"name": node, "generation": 1, "resourceSliceCount": 1}}})
}

fn merged(mut base: Value, change: Value) -> Value {
    json_patch::merge(&mut base, &change);
    base
}

/// Two devices of different models on each node.
fn two_nodes() -> Vec<Value> {
    let devices = || {
        json!([
            {"name": "a", "attributes": {"model": {"string": "old"}, "slot": {"int": 1}}, "capacity": {"memory": {"value": "8Gi"}}},
            {"name": "b", "attributes": {"model": {"string": "new"}, "slot": {"int": 1}}, "capacity": {"memory": {"value": "16Gi"}}},
        ])
    };
    vec![slice("s1", "n1", devices()), slice("s2", "n2", devices())]
}

fn claim(name: &str, devices: Value) -> Value {
    json!({"metadata": {"name": name, "namespace": "ns", "uid": name, "resourceVersion": "1"}, "spec": {"devices": devices}})
}

fn one(change: Value) -> Value {
    json!({"requests": [{"name": "r", "exactly": merged(json!({"deviceClassName": "gpu", "count": 1}), change)}]})
}

/// It likes `n1` better.
fn pod(name: &str, claims: &[&str]) -> Arc<PodInfo> {
    let claims: Vec<_> = claims.iter().map(|name| json!({"name": name, "resourceClaimName": name})).collect();
    let near = json!({"nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [{"weight": 100, "preference": {
        "matchExpressions": [{"key": "rack", "operator": "In", "values": ["n1"]}]}}]}});
    let spec = json!({"containers": [], "resourceClaims": claims, "affinity": near});
    let pod: Pod =
        from_value(json!({"metadata": {"name": name, "namespace": "ns", "uid": name}, "spec": spec})).unwrap();
    Arc::new(PodInfo::of(Arc::new(pod)))
}

/// The node and what the claims get there, or the message.
fn outcome(pod: &PodInfo, cluster: &mut Cluster) -> String {
    let index = match decide(pod, cluster, &mut 0, &mut SmallRng::seed_from_u64(3), &Setting::default()) {
        Decision::Place(index) => index,
        Decision::Nowhere(nowhere) => {
            let end = nowhere.message.find(". preemption: ").unwrap_or(nowhere.message.len());
            return nowhere.message[..end].to_owned();
        }
    };
    let plan = reserve(pod, cluster, index);
    let mut text = cluster.nodes[index].name.clone();
    for step in &plan.steps {
        let devices = step.allocation.as_ref().and_then(|allocation| allocation.devices.clone()).unwrap_or_default();
        for result in devices.results.iter().flatten() {
            let admin = if result.admin_access == Some(true) { "!" } else { "" };
            text += &format!(" {}={}{admin}", result.request, result.device);
        }
    }
    text
}

#[test]
fn what_is_asked_for_is_found() {
    let cel = |expression: &str| json!({"selectors": [{"cel": {"expression": expression}}]});
    let none = |why: &str| format!("0/2 nodes are available: 2 {why}");
    let on_n2 = "device.attributes['d'].model == 'new'";
    let both = |constraint: Value| {
        json!({"requests": [
            {"name": "x", "exactly": {"deviceClassName": "gpu", "count": 1}},
            {"name": "y", "exactly": {"deviceClassName": "gpu", "count": 1}}], "constraints": [constraint]})
    };
    let first = json!({"requests": [{"name": "r", "firstAvailable": [
        {"name": "many", "deviceClassName": "gpu", "count": 3},
        {"name": "new", "deviceClassName": "gpu", "count": 1, "selectors": [{"cel": {"expression": on_n2}}]},
    ]}]});
    for (devices, expected) in [
        (one(json!({})), "n1 r=a".to_owned()),
        (one(json!({"count": 2})), "n1 r=a r=b".to_owned()),
        (one(json!({"count": 3})), none("cannot allocate all claims")),
        (one(json!({"count": 33})), none("cannot allocate all claims")),
        (one(json!({"allocationMode": "All"})), "n1 r=a r=b".to_owned()),
        (one(merged(json!({"allocationMode": "All"}), cel("false"))), none("cannot allocate all claims")),
        (one(cel(on_n2)), "n1 r=b".to_owned()),
        (one(cel("device.capacity['d'].memory.isGreaterThan(quantity('10Gi'))")), "n1 r=b".to_owned()),
        (one(json!({"capacity": {"requests": {"memory": "16Gi"}}})), "n1 r=b".to_owned()),
        (one(json!({"capacity": {"requests": {"memory": "17Gi"}}})), none("cannot allocate all claims")),
        (both(json!({"matchAttribute": "d/slot"})), "n1 x=a y=b".to_owned()),
        (both(json!({"matchAttribute": "d/model"})), none("cannot allocate all claims")),
        (both(json!({"matchAttribute": "other/slot"})), none("cannot allocate all claims")),
        (both(json!({"matchAttribute": "d/model", "requests": ["x"]})), "n1 x=a y=b".to_owned()),
        (both(json!({"distinctAttribute": "d/model"})), "n1 x=a y=b".to_owned()),
        (both(json!({"distinctAttribute": "d/slot"})), none("cannot allocate all claims")),
        (first, "n1 r/new=b".to_owned()),
        (
            one(json!({"deviceClassName": "none"})),
            "0/2 nodes are available: request r: device class none does not exist".to_owned(),
        ),
        (
            one(json!({"deviceClassName": "broken"})),
            none("class broken: selector #0: CEL runtime error: no such key: missing"),
        ),
    ] {
        let mut cluster = cluster(&two_nodes(), &[claim("c", devices.clone())]);
        assert_eq!(outcome(&pod("p", &["c"]), &mut cluster), expected, "{devices}");
    }
}

#[test]
fn what_one_pod_has_the_next_does_not_get() {
    let claims: Vec<_> = ["a", "b", "c", "d", "e"].iter().map(|name| claim(name, one(json!({})))).collect();
    let mut cluster = cluster(&two_nodes(), &claims);
    for (name, expected) in [("a", "n1 r=a"), ("b", "n1 r=b"), ("c", "n2 r=a")] {
        assert_eq!(outcome(&pod(name, &[name]), &mut cluster), expected);
    }
    assert_eq!(
        outcome(&pod("two", &["d", "e"]), &mut cluster),
        "0/2 nodes are available: 2 cannot allocate all claims"
    );
    let admin = claim("admin", one(json!({"adminAccess": true, "allocationMode": "All"})));
    cluster.devices.claim_changed(&seen(admin));
    assert_eq!(outcome(&pod("admin", &["admin"]), &mut cluster), "n1 r=a! r=b!");
    assert_eq!(outcome(&pod("last", &["d"]), &mut cluster), "n2 r=b");
    // Another pod with the same claim goes to where that is.
    assert_eq!(outcome(&pod("friend", &["d"]), &mut cluster), "n2 r=b");
}

#[test]
fn claims_that_cannot_be_used_are_told_of() {
    let hopeless = |why: &str| format!("0/2 nodes are available: {why}");
    let full: Vec<_> = (0..256).map(|i| json!({"resource": "pods", "name": "x", "uid": i.to_string()})).collect();
    let elsewhere = json!({"status": {"allocation": {"nodeSelector": {"nodeSelectorTerms": [
        {"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["n3"]}]}]}}}});
    for (change, expected) in [
        (Value::Null, hopeless("resourceclaim.resource.k8s.io \"c\" not found")),
        (
            json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}}),
            hopeless("resourceclaim \"c\" is being deleted"),
        ),
        (json!({"status": {"reservedFor": full}}), hopeless("resourceclaim in use")),
        (elsewhere, hopeless("2 resourceclaim not available on the node")),
    ] {
        let there = (!change.is_null()).then(|| merged(claim("c", one(json!({}))), change.clone()));
        let mut cluster = cluster(&two_nodes(), there.as_slice());
        assert_eq!(outcome(&pod("p", &["c"]), &mut cluster), expected, "{change}");
    }
}

#[test]
fn pools_count_as_a_whole_and_by_their_newest_generation() {
    let none = |why: &str| format!("0/2 nodes are available: 2 {why}");
    let pool = |generation: i64, count: i64| json!({"spec": {"pool": {"generation": generation, "resourceSliceCount": count}}});
    let everywhere = json!({"spec": {"nodeName": null, "allNodes": true}});
    let by_rack = json!({"spec": {"nodeName": null, "nodeSelector": {"nodeSelectorTerms": [
        {"matchExpressions": [{"key": "rack", "operator": "In", "values": ["n2"]}]}]}}});
    let each = json!({"spec": {"nodeName": null, "perDeviceNodeSelection": true}});
    let device = |name: &str| slice(&format!("s-{name}"), "n1", json!([{"name": name}]));
    let all = json!({"allocationMode": "All"});
    let tainted = json!([{"name": "a", "taints": [{"key": "k", "value": "v", "effect": "NoSchedule"}]}]);
    let shared = |pool: &str| {
        let takes = |amount: &str| json!([{"counterSet": "set", "counters": {"memory": {"value": amount}}}]);
        let set = json!([{"name": "set", "counters": {"memory": {"value": "10Gi"}}}]);
        let devices = json!([{"name": "big", "consumesCounters": takes("8Gi")}, {"name": "half", "consumesCounters": takes("5Gi")},
            {"name": "other", "consumesCounters": takes("5Gi")}]);
        vec![
            merged(
                slice("c", "n1", json!(null)),
                json!({"spec": {"sharedCounters": set, "pool": {"name": pool, "resourceSliceCount": 2}}}),
            ),
            merged(slice("v", "n1", devices), json!({"spec": {"pool": {"name": pool, "resourceSliceCount": 2}}})),
        ]
    };
    for (slices, wish, expected) in [
        (vec![merged(device("a"), pool(1, 1)), merged(device("b"), pool(2, 1))], json!({}), "n1 r=b".to_owned()),
        (vec![merged(device("a"), pool(1, 2))], json!({}), "n1 r=a".to_owned()),
        (
            vec![merged(device("a"), pool(1, 2))],
            all.clone(),
            "0/2 nodes are available: 1 cannot allocate all claims, 1 claim ns/c, request r: asks for all devices, but \
             resource pool d/n1 is currently being updated"
                .to_owned(),
        ),
        (
            vec![slice("s", "n1", json!([{"name": "a"}, {"name": "a"}]))],
            json!({}),
            "0/2 nodes are available: 1 cannot allocate all claims, 1 invalid resource pools were encountered".to_owned(),
        ),
        (vec![merged(device("a"), everywhere)], json!({}), "n1 r=a".to_owned()),
        (vec![merged(device("a"), by_rack)], json!({}), "n2 r=a".to_owned()),
        (
            vec![merged(slice("s", "n1", json!([{"name": "a", "nodeName": "n2"}, {"name": "b"}])), each)],
            json!({}),
            "n2 r=a".to_owned(),
        ),
        (vec![slice("s", "n1", tainted.clone())], json!({}), none("cannot allocate all claims")),
        (vec![slice("s", "n1", tainted)], json!({"tolerations": [{"key": "k", "operator": "Exists"}]}), "n1 r=a".to_owned()),
        (
            vec![slice("s", "n1", json!([{"name": "a", "allowMultipleAllocations": true}]))],
            json!({}),
            none("cannot allocate all claims"),
        ),
        (shared("p"), json!({}), "n1 r=big".to_owned()),
        (shared("p"), json!({"count": 2}), "n1 r=half r=other".to_owned()),
        (shared("p"), json!({"count": 3}), none("cannot allocate all claims")),
    ] {
        let mut cluster = cluster(&slices, &[claim("c", one(wish.clone()))]);
        assert_eq!(outcome(&pod("p", &["c"]), &mut cluster), expected, "{slices:?} {wish}");
    }
    let mut cluster = cluster(&shared("p"), &[claim("c", one(json!({}))), claim("d", one(json!({})))]);
    assert_eq!(outcome(&pod("p", &["c"]), &mut cluster), "n1 r=big");
    assert_eq!(outcome(&pod("q", &["d"]), &mut cluster), none("cannot allocate all claims"), "the rest is too little");
}

#[test]
fn a_result_says_where_and_how() {
    let config = json!([{"requests": ["r"], "opaque": {"driver": "d", "parameters": {"of": "claim"}}},
        {"requests": ["other"], "opaque": {"driver": "d", "parameters": {}}}]);
    let devices = merged(one(json!({"tolerations": [{"operator": "Exists"}]})), json!({"config": config}));
    let mut cluster = cluster(&two_nodes(), &[claim("c", devices)]);
    let plan = reserve(&pod("p", &["c"]), &mut cluster, 1);
    let allocation = serde_json::to_value(&**plan.steps[0].allocation.as_ref().unwrap()).unwrap();
    let expected = json!({
        "devices": {
            "results": [{"request": "r", "driver": "d", "pool": "n2", "device": "a", "tolerations": [{"operator": "Exists"}]}],
            "config": [
                {"source": "FromClass", "requests": ["r"], "opaque": {"driver": "d", "parameters": {"of": "gpu"}}},
                {"source": "FromClaim", "requests": ["r"], "opaque": {"driver": "d", "parameters": {"of": "claim"}}},
            ],
        },
        "nodeSelector": {"nodeSelectorTerms": [
            {"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["n2"]}]}]},
    });
    assert_eq!(allocation, expected);
}

#[test]
fn an_idle_claim_gives_way() {
    let allocated = |users: Value| {
        merged(
            claim("c", one(json!({}))),
            json!({"status": {"reservedFor": users, "allocation": {"nodeSelector": {
            "nodeSelectorTerms": [{"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["n3"]}]}]}}}}),
        )
    };
    let user = |uid: &str| json!([{"resource": "pods", "name": uid, "uid": uid}]);
    for (users, expected) in [(json!([]), true), (user("p"), true), (user("q"), false)] {
        let cluster = cluster(&two_nodes(), &[allocated(users.clone())]);
        let decision =
            decide(&pod("p", &["c"]), &cluster, &mut 0, &mut SmallRng::seed_from_u64(3), &Setting::default());
        let Decision::Nowhere(nowhere) = decision else { panic!("its devices are elsewhere") };
        assert_eq!(nowhere.idle_claim.is_some(), expected, "{users}");
    }
}
