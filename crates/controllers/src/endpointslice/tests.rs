use serde_json::{Value, json};

use super::{plan::*, *};
use crate::common::slices::{self, Action, MANAGED_BY_LABEL, SERVICE_NAME};

fn service(change: Value) -> Service {
    let mut value = json!({
        "metadata": {"name": "web", "namespace": "d", "uid": "s", "labels": {"team": "x"}},
        "spec": {"selector": {"app": "web"}, "ipFamilies": ["IPv4"], "clusterIP": "10.0.0.9",
            "ports": [{"name": "http", "port": 80, "targetPort": "web", "protocol": "TCP"}]},
    });
    json_patch::merge(&mut value, &change);
    serde_json::from_value(value).unwrap()
}

fn pod(index: usize, change: Value) -> Arc<Pod> {
    let mut value = json!({
        "metadata": {"name": format!("p{index:03}"), "namespace": "d", "uid": format!("u{index:03}"), "labels": {"app": "web"}},
        "spec": {"nodeName": "n1", "containers": [{"name": "c", "ports": [{"name": "web", "containerPort": 8080}]}]},
        "status": {"phase": "Running", "podIP": format!("10.1.0.{index}"), "conditions": [{"type": "Ready", "status": "True"}]},
    });
    json_patch::merge(&mut value, &change);
    Arc::new(serde_json::from_value(value).unwrap())
}

/// Applies the plan to the slices; answers how many were created, updated and deleted.
fn apply(service: &Service, pods: &[Arc<Pod>], slices: &mut Vec<Arc<EndpointSlice>>) -> [usize; 3] {
    let zone = |node: &str| (node == "n1").then(|| "z".to_owned());
    let counts = slices::apply(plan(service, pods, slices, &zone), slices);
    assert!(plan(service, pods, slices, &zone).is_empty(), "a second plan has nothing left to do");
    assert!(slices.iter().all(|slice| slice.endpoints.iter().flatten().count() <= 100));
    counts
}

fn sizes(slices: &[Arc<EndpointSlice>]) -> Vec<usize> {
    slices.iter().map(|slice| slice.endpoints.iter().flatten().count()).collect()
}

#[test]
fn slices_fill_shrink_and_keep_their_endpoints() {
    let service = service(json!({}));
    let mut pods: Vec<_> = (0..250).map(|index| pod(index, json!({}))).collect();
    let mut slices = Vec::new();
    assert_eq!(apply(&service, &[], &mut slices), [1, 0, 0], "a Service with nothing behind it has an empty slice");
    assert_eq!(apply(&service, &pods, &mut slices), [2, 1, 0]);
    assert_eq!(sizes(&slices), [100, 100, 50]);
    pods[7] = pod(7, json!({"status": {"conditions": null}}));
    assert_eq!(apply(&service, &pods, &mut slices), [0, 1, 0], "one pod's change is one slice's update");
    pods.drain(100..200);
    assert_eq!(apply(&service, &pods, &mut slices), [0, 0, 1]);
    assert_eq!(sizes(&slices), [100, 50]);
    pods.clear();
    assert_eq!(apply(&service, &pods, &mut slices), [0, 1, 1]);
    assert_eq!(sizes(&slices), [0]);
}

#[test]
fn conditions_and_ports() {
    let going = json!({"metadata": {"deletionTimestamp": "2024-01-01T00:00:00Z"}});
    let check = |service: &Service, change: Value, expected: Value| {
        let mut slices = Vec::new();
        apply(service, &[pod(1, change.clone())], &mut slices);
        let slice = serde_json::to_value(&*slices[0]).unwrap();
        let seen = json!({"conditions": slice["endpoints"][0]["conditions"], "ports": slice["ports"]});
        assert_eq!(seen, expected, "{change}");
    };
    let ports = json!([{"name": "http", "port": 8080, "protocol": "TCP"}]);
    let conditions =
        |ready, serving, terminating| json!({"ready": ready, "serving": serving, "terminating": terminating});
    let plain = service(json!({}));
    check(&plain, json!({}), json!({"conditions": conditions(true, true, false), "ports": ports}));
    check(&plain, going.clone(), json!({"conditions": conditions(false, true, true), "ports": ports}));
    check(
        &plain,
        json!({"status": {"conditions": null}}),
        json!({"conditions": conditions(false, false, false), "ports": ports}),
    );
    check(&plain, json!({"status": {"podIP": null}}), json!({"conditions": null, "ports": null}));
    check(&plain, json!({"status": {"phase": "Succeeded"}}), json!({"conditions": null, "ports": null}));
    let unready = service(
        json!({"spec": {"publishNotReadyAddresses": true, "ports": [{"name": "http", "port": 80, "targetPort": 81}]}}),
    );
    let ports = json!([{"name": "http", "port": 81, "protocol": "TCP"}]);
    check(
        &unready,
        json!({"status": {"conditions": null}}),
        json!({"conditions": conditions(true, false, false), "ports": ports}),
    );
}

#[test]
fn a_named_port_that_moves_is_another_slice() {
    let service = service(json!({"spec": {"clusterIP": "None"}}));
    let moved = json!({"spec": {"containers": [{"name": "c", "ports": [{"name": "web", "containerPort": 9090}]}]}});
    let mut slices = Vec::new();
    apply(&service, &[pod(1, json!({})), pod(2, moved.clone())], &mut slices);
    assert_eq!(sizes(&slices), [1, 1]);
    assert_eq!(apply(&service, &[pod(1, moved.clone()), pod(2, moved)], &mut slices), [0, 1, 1]);
    let labels = slices[0].metadata.labels.clone().unwrap();
    assert_eq!(
        serde_json::to_value(labels).unwrap(),
        json!({"team": "x", SERVICE_NAME: "web", MANAGED_BY_LABEL: MANAGED_BY, "service.kubernetes.io/headless": ""})
    );
}

#[test]
fn a_changed_traffic_distribution_or_zone_changes_the_hints() {
    let pods: Vec<_> = (1..3).map(|index| pod(index, json!({"spec": {"nodeName": format!("n{index}")}}))).collect();
    let mut slices = Vec::new();
    let mut check = |distribution: Value, expected: Value, counts: [usize; 3]| {
        let service = service(json!({"spec": {"trafficDistribution": distribution}}));
        assert_eq!(apply(&service, &pods, &mut slices), counts, "{distribution}");
        let hints: Vec<_> = slices[0].endpoints.iter().flatten().map(|endpoint| &endpoint.hints).collect();
        assert_eq!(serde_json::to_value(hints).unwrap(), expected, "{distribution}");
    };
    let zones = json!({"forZones": [{"name": "z"}]});
    check(json!(null), json!([null, null]), [1, 0, 0]);
    check(json!("PreferClose"), json!([zones, null]), [0, 1, 0]);
    check(json!("PreferSameZone"), json!([zones, null]), [0, 0, 0]);
    let both = json!({"forZones": [{"name": "z"}], "forNodes": [{"name": "n1"}]});
    check(json!("PreferSameNode"), json!([both, {"forNodes": [{"name": "n2"}]}]), [0, 1, 0]);
    check(json!(null), json!([null, null]), [0, 1, 0]);

    let near = service(json!({"spec": {"trafficDistribution": "PreferClose"}}));
    apply(&near, &pods, &mut slices);
    let moved = plan(&near, &pods, &slices, &|_| Some("y".to_owned()));
    let [Action::Update(slice)] = &moved[..] else { panic!("{moved:?}") };
    let seen = slice.endpoints.iter().flatten().map(|endpoint| json!([endpoint.zone, endpoint.hints]));
    assert!(seen.into_iter().all(|seen| seen == json!(["y", {"forZones": [{"name": "y"}]}])), "{slice:?}");
    assert_eq!(nodes_of(slice), ["n1", "n2"]);
}
