use std::{sync::Arc, time::Duration};

use jiff::Timestamp;
use k8s_openapi::api::networking::v1::{IPAddress, ServiceCIDR};
use serde_json::{Value, json};

use super::plan::{Plan, plan};

const FINALIZER: &str = "networking.k8s.io/service-cidr-finalizer";

fn now() -> Timestamp {
    "2026-01-01T00:01:00Z".parse().unwrap()
}

fn cidr(name: &str, cidrs: &[&str], metadata: Value) -> Arc<ServiceCIDR> {
    let mut object = json!({"metadata": metadata, "spec": {"cidrs": cidrs}});
    object["metadata"]["name"] = name.into();
    Arc::new(serde_json::from_value(object).unwrap())
}

fn leaving(name: &str, cidrs: &[&str], since: &str) -> Arc<ServiceCIDR> {
    cidr(name, cidrs, json!({"finalizers": [FINALIZER], "deletionTimestamp": since}))
}

fn address(name: &str, managed_by: &str) -> Arc<IPAddress> {
    let labels = json!({"ipaddress.kubernetes.io/managed-by": managed_by});
    Arc::new(serde_json::from_value(json!({"metadata": {"name": name, "labels": labels}})).unwrap())
}

#[test]
fn a_new_one_is_protected_and_ready_and_then_left_alone() {
    let new = cidr("a", &["10.0.0.0/24"], json!({"finalizers": ["other"]}));
    let Plan { finalizers, condition, after } = plan(&new, &[], &[], now());
    assert_eq!(finalizers.as_deref(), Some(&["other".to_owned(), FINALIZER.to_owned()][..]));
    let condition = condition.unwrap();
    assert_eq!((condition.is_ready, condition.message), (true, "Kubernetes Service CIDR is ready"));
    assert_eq!(after, None);
    let mut settled = ServiceCIDR::clone(&new);
    settled.metadata.finalizers = finalizers;
    let said = json!({"conditions": [{"type": "Ready", "status": "True", "reason": "",
        "message": "Kubernetes Service CIDR is ready", "lastTransitionTime": "2026-01-01T00:00:00Z"}]});
    settled.status = Some(serde_json::from_value(said).unwrap());
    assert_eq!(plan(&settled, &[], &[], now()), Plan::default());
}

#[derive(Debug, PartialEq)]
enum Fate {
    Held,
    Waits(u64),
    Goes,
}

#[test]
fn none_goes_that_would_leave_addresses_behind() {
    const OURS: &str = "ipallocator.k8s.io";
    let old = "2026-01-01T00:00:00Z";
    let gone = leaving("a", &["10.0.0.0/24", "fd00::/64"], old);
    let rows = [
        ("nothing is allocated", vec![], vec![], Fate::Goes),
        ("an address of it", vec![], vec![address("10.0.0.7", OURS)], Fate::Held),
        ("one of its other family", vec![], vec![address("fd00::7", OURS)], Fate::Held),
        ("one of somebody else's", vec![], vec![address("10.0.0.7", "gateway")], Fate::Goes),
        ("one of another range", vec![], vec![address("10.1.0.7", OURS)], Fate::Goes),
        (
            "the address lies in another, too",
            vec![cidr("b", &["10.0.0.0/28"], json!({}))],
            vec![address("10.0.0.7", OURS)],
            Fate::Goes,
        ),
        (
            "the other does not reach so far",
            vec![cidr("b", &["10.0.0.0/28"], json!({}))],
            vec![address("10.0.0.77", OURS)],
            Fate::Held,
        ),
        (
            "the other's last address is none that it gives",
            vec![cidr("b", &["10.0.0.0/28"], json!({}))],
            vec![address("10.0.0.15", OURS)],
            Fate::Held,
        ),
        (
            "others cover both ranges",
            vec![cidr("b", &["10.0.0.0/16"], json!({})), cidr("c", &["fd00::/64"], json!({}))],
            vec![address("10.0.0.7", OURS), address("fd00::7", OURS)],
            Fate::Goes,
        ),
        (
            "the other goes as well",
            vec![leaving("b", &["10.0.0.0/16"], old)],
            vec![address("10.0.0.7", OURS)],
            Fate::Held,
        ),
    ];
    for (what, mut all, addresses, expected) in rows {
        all.push(gone.clone());
        let found = match plan(&gone, &all, &addresses, now()) {
            Plan { condition: Some(condition), finalizers: None, after: None } => {
                assert_eq!((condition.is_ready, condition.reason), (false, "Terminating"), "{what}");
                Fate::Held
            }
            Plan { finalizers: Some(rest), condition: None, after: None } if rest.is_empty() => Fate::Goes,
            Plan { after: Some(after), finalizers: None, condition: None } => Fate::Waits(after.as_secs()),
            other => panic!("{what}: {other:?}"),
        };
        assert_eq!(found, expected, "{what}");
    }
    let young = leaving("a", &["10.0.0.0/24"], "2026-01-01T00:00:57Z");
    let waits = Plan { after: Some(Duration::from_secs(7)), ..Plan::default() };
    assert_eq!(plan(&young, &[], &[], now()), waits, "allocators may not have heard of it yet");
    let unprotected = cidr("a", &["10.0.0.0/24"], json!({"deletionTimestamp": old}));
    assert_eq!(plan(&unprotected, &[], &[], now()), Plan::default());
}
