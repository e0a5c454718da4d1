use serde_json::{Value, json};

use super::plan::*;
use super::*;
use crate::common::slices::{self, MANAGED_BY_LABEL, SERVICE_NAME};

fn endpoints(subsets: Value) -> Endpoints {
    serde_json::from_value(json!({
        "metadata": {"name": "web", "namespace": "d", "uid": "e", "labels": {"team": "x"},
            "annotations": {"note": "y", "kubectl.kubernetes.io/last-applied-configuration": "{}"}},
        "subsets": subsets,
    }))
    .unwrap()
}

/// Applies the plan to the slices; answers how many were created, updated and deleted.
fn apply(endpoints: &Endpoints, slices: &mut Vec<Arc<EndpointSlice>>) -> [usize; 3] {
    let counts = slices::apply(plan(endpoints, slices).actions, slices);
    assert!(plan(endpoints, slices).actions.is_empty(), "a second plan has nothing left to do");
    counts
}

#[test]
fn subsets_become_slices_by_family_and_ports() {
    let mut slices = Vec::new();
    let both = endpoints(json!([{
        "addresses": [{"ip": "10.1.2.3", "hostname": "a", "nodeName": "n"}, {"ip": "fd00::1"}],
        "notReadyAddresses": [{"ip": "10.1.2.4"}],
        "ports": [{"port": 80, "protocol": "TCP"}],
    }]));
    assert_eq!(apply(&both, &mut slices), [2, 0, 0]);
    let seen = serde_json::to_value(&slices).unwrap();
    assert_eq!(seen[0]["addressType"], "IPv4");
    assert_eq!(
        seen[0]["endpoints"],
        json!([
            {"addresses": ["10.1.2.3"], "conditions": {"ready": true}, "hostname": "a", "nodeName": "n"},
            {"addresses": ["10.1.2.4"], "conditions": {"ready": false}},
        ])
    );
    assert_eq!(seen[0]["ports"], json!([{"name": "", "port": 80, "protocol": "TCP"}]));
    assert_eq!(seen[1]["addressType"], "IPv6");
    assert_eq!(seen[1]["metadata"]["labels"], json!({"team": "x", SERVICE_NAME: "web", MANAGED_BY_LABEL: MANAGED_BY}));
    assert_eq!(seen[1]["metadata"]["annotations"], json!({"note": "y"}));
    let owner = &seen[1]["metadata"]["ownerReferences"][0];
    assert_eq!([&owner["kind"], &owner["uid"], &owner["controller"]], [&json!("Endpoints"), &json!("e"), &json!(true)]);

    let moved = endpoints(json!([{"addresses": [{"ip": "10.2.3.4"}], "ports": [{"port": 81}]}]));
    assert_eq!(apply(&moved, &mut slices), [0, 1, 1], "the slice of the family is used again");
    assert_eq!(slices[0].endpoints.iter().flatten().map(|e| &e.addresses).collect::<Vec<_>>(), [&["10.2.3.4"]]);
    assert_eq!(apply(&endpoints(json!([])), &mut slices), [0, 0, 1]);
}

#[test]
fn subsets_of_the_same_ports_share_a_slice_and_too_many_addresses_are_left_out() {
    let ports = json!([{"name": "http", "port": 80}]);
    let shared = endpoints(json!([
        {"addresses": [{"ip": "10.0.0.1"}, {"ip": "10.0.0.1", "hostname": "a"}], "ports": ports},
        {"addresses": [{"ip": "10.0.0.1"}, {"ip": "10.0.0.2"}], "ports": ports},
    ]));
    let mut slices = Vec::new();
    assert_eq!(apply(&shared, &mut slices), [1, 0, 0]);
    assert_eq!(slices[0].endpoints.iter().flatten().count(), 3);

    let addresses: Vec<_> =
        (0..1002).map(|index| json!({"ip": format!("10.0.{}.{}", index / 250, index % 250)})).collect();
    let many = endpoints(json!([{"addresses": addresses, "notReadyAddresses": [{"ip": "here"}], "ports": ports}]));
    let crowded = plan(&many, &[]);
    assert_eq!((crowded.invalid, crowded.skipped), (0, 3), "behind the last that fits nothing is looked at");
    apply(&many, &mut slices);
    assert_eq!(slices[0].endpoints.iter().flatten().count(), MAX_PER_SUBSET);
    let halves = [10, 20].map(|net| {
        let addresses: Vec<_> =
            (0..600).map(|index| json!({"ip": format!("10.{net}.{}.{}", index / 250, index % 250)})).collect();
        json!({"addresses": addresses, "ports": ports})
    });
    assert_eq!(plan(&endpoints(json!(halves)), &[]).skipped, 200, "together they are too many");
    let odd = plan(&endpoints(json!([{"addresses": [{"ip": "here"}, {"ip": "10.0.0.1"}], "ports": ports}])), &[]);
    assert_eq!((odd.actions.len(), odd.invalid, odd.skipped), (1, 1, 1));
}

#[test]
fn only_hand_kept_endpoints_are_mirrored() {
    let check = |change: Value, service: Option<Value>, expected: bool| {
        let mut value = json!({"metadata": {"name": "web", "namespace": "d"}});
        json_patch::merge(&mut value, &change);
        let service = service.map(|spec| json!({"metadata": {"name": "web", "namespace": "d"}, "spec": spec}));
        let service: Option<Service> = service.map(|service| serde_json::from_value(service).unwrap());
        let endpoints: Endpoints = serde_json::from_value(value).unwrap();
        assert_eq!(is_mirrored(&endpoints, service.as_ref()), expected, "{change}");
    };
    check(json!({}), Some(json!({})), true);
    check(json!({}), None, false);
    check(json!({}), Some(json!({"selector": {"app": "web"}})), false);
    let skip = |value: &str| json!({"metadata": {"labels": {"endpointslice.kubernetes.io/skip-mirror": value}}});
    check(skip("true"), Some(json!({})), false);
    check(skip("false"), Some(json!({})), true);
    let leader = json!({"metadata": {"annotations": {"control-plane.alpha.kubernetes.io/leader": "{}"}}});
    check(leader, Some(json!({})), false);
    let going = json!({"metadata": {"deletionTimestamp": "2024-01-01T00:00:00Z"}});
    check(going, Some(json!({})), false);
}
