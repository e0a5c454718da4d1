use std::{sync::Arc, time::Duration};

use jiff::Timestamp;
use k8s_openapi::api::{
    core::v1::Service,
    networking::v1::{IPAddress, ServiceCIDR},
};
use serde_json::{Value, json};

use super::plan::{AddressVerdict, ClusterIp, ServiceVerdict, ip_address, is_well, judge_address, judge_service};

fn service(name: &str, ips: &[&str]) -> Service {
    let object =
        json!({"metadata": {"name": name, "namespace": "d"}, "spec": {"type": "ClusterIP", "clusterIPs": ips}});
    serde_json::from_value(object).unwrap()
}

fn cidr() -> Arc<ServiceCIDR> {
    Arc::new(serde_json::from_value(json!({"metadata": {"name": "a"}, "spec": {"cidrs": ["10.0.0.0/24"]}})).unwrap())
}

fn address(name: &str, parent: Value, labels: Value) -> IPAddress {
    let metadata = json!({"name": name, "labels": labels, "creationTimestamp": "2026-01-01T00:00:00Z"});
    serde_json::from_value(json!({"metadata": metadata, "spec": {"parentRef": parent}})).unwrap()
}

fn of_service(name: &str) -> Value {
    json!({"resource": "services", "namespace": "d", "name": name})
}

fn labels() -> Value {
    json!({"ipaddress.kubernetes.io/ip-family": "IPv4", "ipaddress.kubernetes.io/managed-by": "ipallocator.k8s.io"})
}

#[test]
fn addresses_lie_in_a_range() {
    let read = |text: &str| ClusterIp::read(text, &[cidr()]).map(|ip| ip.name).map_err(|wrong| wrong.message);
    assert_eq!(read("10.0.0.7"), Ok("10.0.0.7".to_owned()));
    assert_eq!(read("ten"), Err("Cluster IP ten is not a valid IP; please recreate Service".to_owned()));
    for (outside, family) in [("10.0.1.7", "IPv4"), ("10.0.0.255", "IPv4"), ("fd00::1", "IPv6")] {
        let expected = format!(
            "Cluster IP [{family}]: {outside} is not within any configured Service CIDR; please recreate service"
        );
        assert_eq!(read(outside), Err(expected));
    }
    assert!(ClusterIp::read("10.0.1.7", &[]).is_ok(), "the default range is on its way");
}

#[test]
fn a_service_keeps_its_address_and_what_is_wrong_is_made_anew() {
    let ip = ClusterIp::read("10.0.0.7", &[cidr()]).unwrap();
    let (own, other) = (service("a", &["10.0.0.7"]), service("b", &["10.0.0.7"]));
    let right = ip_address(&ip, &own);
    assert!(is_well(&ip, Some(&right), &own));
    assert!(!is_well(&ip, Some(&right), &other) && !is_well(&ip, None, &own));
    assert_eq!(right, {
        let mut same = address("10.0.0.7", of_service("a"), labels());
        same.metadata.creation_timestamp = None;
        same
    });

    let gateway = json!({"group": "x.example", "resource": "gateways", "namespace": "d", "name": "a"});
    let not_allocated = "ClusterIPNotAllocated: Cluster IP [IPv4]: 10.0.0.7 is not allocated; repairing";
    let wrong =
        "ClusterIPNotAllocated: the ClusterIP [IPv4]: 10.0.0.7 for Service d/a has a wrong reference; repairing";
    let shared = "ClusterIPAlreadyAllocated: Cluster IP [IPv4]:10.0.0.7 was assigned to multiple services; please \
                  recreate service";
    let moved = service("b", &["10.0.0.8"]);
    for (what, there, named, said, recreated) in [
        ("missing", None, None, not_allocated, true),
        ("a gateway's", Some(address("10.0.0.7", gateway, labels())), None, wrong, true),
        ("of a Service that is gone", Some(address("10.0.0.7", of_service("b"), labels())), None, wrong, true),
        ("of two", Some(address("10.0.0.7", of_service("b"), labels())), Some(&other), shared, false),
        ("of one that has another", Some(address("10.0.0.7", of_service("b"), labels())), Some(&moved), "", false),
        ("without labels", Some(address("10.0.0.7", of_service("a"), json!({}))), Some(&own), "", true),
        ("as it should be", Some(right.clone()), Some(&own), "", false),
    ] {
        let ServiceVerdict { complaint, recreate } = judge_service(&ip, there.as_ref(), named, &own);
        let complaint = complaint.map(|one| format!("{}: {}", one.reason, one.message)).unwrap_or_default();
        assert_eq!((complaint.as_str(), recreate), (said, recreated), "{what}");
    }
}

#[test]
fn an_address_that_no_service_has_is_cleaned_up() {
    let at = |text: &str| text.parse::<Timestamp>().unwrap();
    let (young, old) = (at("2026-01-01T00:00:20Z"), at("2026-01-01T00:02:00Z"));
    let found = |parent: Value, service: Option<Service>, now| match judge_address(
        &address("10.0.0.7", parent, labels()),
        service.as_ref(),
        now,
    ) {
        AddressVerdict::Fine => "fine".to_owned(),
        AddressVerdict::After(time) => format!("after {}", Duration::as_secs(&time)),
        AddressVerdict::Delete(complaint) => format!("{}: {}", complaint.reason, complaint.message),
    };
    assert_eq!(found(of_service("a"), Some(service("a", &["10.0.0.7"])), old), "fine");
    assert_eq!(found(of_service("a"), None, young), "after 41");
    assert_eq!(
        found(of_service("a"), None, old),
        "IPAddressNotAllocated: IPAddress: 10.0.0.7 for Service d/a appears to have leaked: cleaning up"
    );
    assert_eq!(
        found(of_service("a"), Some(service("a", &["10.0.0.8"])), young),
        "IPAddressWrongReference: IPAddress: 10.0.0.7 for Service d/a has a wrong reference; cleaning up"
    );
    assert_eq!(
        found(json!({"group": "x.example", "resource": "gateways", "name": "g"}), None, young),
        "IPAddressNotAllocated: IPAddress 10.0.0.7 appears to have been modified, not referencing a Service \
         &ParentReference{Group:x.example,Resource:gateways,Namespace:,Name:g,}: cleaning up"
    );
}
