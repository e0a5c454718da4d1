use std::collections::HashSet;
use std::net::IpAddr;

use super::{AddressRange, PortRange};

fn range(text: &str) -> AddressRange {
    text.parse().unwrap()
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

#[test]
fn ranges_know_their_addresses() {
    for (text, first, size, fixed) in [
        ("10.96.0.0/16", "10.96.0.1", 65534, 256),
        ("10.96.0.7/16", "10.96.0.1", 65534, 256),
        ("10.0.0.0/24", "10.0.0.1", 254, 16),
        ("10.0.0.0/28", "10.0.0.1", 14, 0),
        ("10.0.0.0/30", "10.0.0.1", 2, 0),
        ("10.0.0.0/8", "10.0.0.1", 1 << 20, 256),
        ("fd00::/108", "fd00::1", (1 << 20) - 1, 256),
    ] {
        let range = range(text);
        assert_eq!((range.first(), range.size(), range.static_size()), (ip(first), size, fixed), "{text}");
        assert!(range.contains(range.first()));
        assert_eq!(range.nth(range.size()), None);
        assert!(range.contains(range.nth(range.size() - 1).unwrap()));
    }
    for wrong in ["10.0.0.0", "10.0.0.0/31", "10.0.0.0/33", "x/8", "fd00::/127", ""] {
        assert!(wrong.parse::<AddressRange>().is_err(), "{wrong}");
    }
    let range = range("10.96.0.0/16");
    for (address, expected) in [
        ("10.96.0.0", false),
        ("10.96.0.1", true),
        ("10.96.255.254", true),
        ("10.96.255.255", false),
        ("10.97.0.1", false),
        ("::1", false),
    ] {
        assert_eq!(range.contains(ip(address)), expected, "{address}");
    }
}

#[test]
fn picking_prefers_the_upper_part_and_finds_the_last_free_address() {
    let range = range("10.0.0.0/24");
    let mut taken = HashSet::new();
    for random in 0..254 {
        let picked = range.pick(random * 7919, |address| taken.contains(&address)).unwrap();
        let in_static_part = (0..range.static_size()).any(|offset| range.nth(offset) == Some(picked));
        assert_eq!(in_static_part, random >= 254 - 16, "the lower 16 come last");
        assert!(taken.insert(picked), "{picked} was handed out twice");
    }
    assert_eq!(range.pick(1, |address| taken.contains(&address)), None);
}

#[test]
fn ports_run_out_cleanly() {
    let range = PortRange { first: 30000, last: 30099 };
    let mut taken = HashSet::new();
    while let Some(port) = range.pick(u64::try_from(taken.len()).unwrap() * 31, |port| taken.contains(&port)) {
        assert!(range.contains(port) && taken.insert(port));
    }
    assert_eq!(taken.len(), 100);
    assert_eq!(PortRange::default().to_string(), "30000-32767");
}

mod with_a_server {
    use std::collections::HashSet;
    use std::sync::Arc;

    use serde_json::{Value, json};

    use crate::testing::{Cluster, admin, message};

    const SERVICES: &str = "/api/v1/namespaces/team/services";

    fn service(name: &str, spec: Value) -> Value {
        let mut service = json!({ "metadata": { "name": name }, "spec": { "ports": [{ "port": 80 }] } });
        for (key, value) in spec.as_object().unwrap() {
            service["spec"][key] = value.clone();
        }
        service
    }

    async fn cluster() -> Cluster {
        let cluster = Cluster::start().await;
        cluster.namespace("team").await;
        cluster
    }

    #[tokio::test]
    async fn services_get_addresses_and_ports_once() {
        let cluster = cluster().await;
        let made = cluster.make(SERVICES, service("a", json!({ "type": "NodePort" }))).await;
        let spec = &made["spec"];
        let address = spec["clusterIP"].as_str().unwrap();
        assert!(address.starts_with("10.96.0."), "{made}");
        assert_eq!(spec["clusterIPs"], json!([address]));
        assert_eq!((&spec["ipFamilies"], &spec["ipFamilyPolicy"]), (&json!(["IPv4"]), &json!("SingleStack")));
        let port = spec["ports"][0]["nodePort"].as_u64().unwrap();
        assert!((30000..=30063).contains(&port));

        for (what, wish, expected) in [
            (
                "a taken address",
                json!({ "clusterIP": address }),
                format!(
                    r#"Service "b" is invalid: spec.clusterIPs: Invalid value: ["{address}"]: failed to allocate IP {address}: provided IP is already allocated"#
                ),
            ),
            (
                "an address outside",
                json!({ "clusterIP": "10.97.0.1" }),
                r#"Service "b" is invalid: spec.clusterIPs: Invalid value: ["10.97.0.1"]: failed to allocate IP 10.97.0.1: the provided IP (10.97.0.1) is not in the valid range. The range of valid IPs is 10.96.0.0/24"#.to_owned(),
            ),
            (
                "a taken port",
                json!({ "type": "NodePort", "ports": [{ "port": 80, "nodePort": port }] }),
                format!(
                    r#"Service "b" is invalid: spec.ports[0].nodePort: Invalid value: {port}: provided port is already allocated"#
                ),
            ),
            (
                "a port outside",
                json!({ "type": "NodePort", "ports": [{ "port": 80, "nodePort": 80 }] }),
                r#"Service "b" is invalid: spec.ports[0].nodePort: Invalid value: 80: provided port is not in the valid range. The range of valid ports is 30000-30063"#.to_owned(),
            ),
            (
                "two families",
                json!({ "ipFamilyPolicy": "RequireDualStack" }),
                r#"Service "b" is invalid: spec.ipFamilyPolicy: Invalid value: "RequireDualStack": this cluster is not configured for dual-stack services"#.to_owned(),
            ),
        ] {
            let (code, answer) = cluster.post(&admin(), SERVICES, service("b", wish)).await;
            assert_eq!((code, message(&answer)), (422, expected.as_str()), "{what}");
        }
        let headless = cluster.make(SERVICES, service("h", json!({ "clusterIP": "None" }))).await;
        assert_eq!(headless["spec"]["clusterIPs"], json!(["None"]));
        let external =
            json!({ "metadata": { "name": "e" }, "spec": { "type": "ExternalName", "externalName": "example.org" } });
        let external = cluster.make(SERVICES, external).await;
        assert!(external["spec"]["clusterIP"].as_str().is_none_or(str::is_empty), "{external}");
    }

    #[tokio::test]
    async fn an_update_keeps_what_it_does_not_name() {
        let cluster = cluster().await;
        let made = cluster.make(SERVICES, service("a", json!({ "type": "NodePort" }))).await;
        let path = format!("{SERVICES}/a");
        let mut update =
            service("a", json!({ "type": "NodePort", "ports": [{ "port": 80 }, { "name": "x", "port": 81 }] }));
        update["spec"]["ports"][0]["name"] = "w".into();
        let (code, changed) = cluster.send(&admin(), "PUT", &path, update).await;
        assert_eq!(code, 200, "{changed}");
        assert_eq!(changed["spec"]["clusterIP"], made["spec"]["clusterIP"]);
        assert_eq!(changed["spec"]["ports"][0]["nodePort"], made["spec"]["ports"][0]["nodePort"]);
        assert_ne!(changed["spec"]["ports"][1]["nodePort"], made["spec"]["ports"][0]["nodePort"]);
    }

    #[tokio::test]
    async fn a_deleted_service_gives_back_at_once() {
        let cluster = cluster().await;
        for _ in 0..3 {
            cluster.make(SERVICES, service("a", json!({ "clusterIP": "10.96.0.9" }))).await;
            let (code, _) = cluster.send(&admin(), "DELETE", &format!("{SERVICES}/a"), Value::Null).await;
            assert_eq!(code, 200);
        }
        let dry = format!("{SERVICES}?dryRun=All");
        let (code, answer) = cluster.post(&admin(), &dry, service("d", json!({ "clusterIP": "10.96.0.10" }))).await;
        assert_eq!(code, 201, "{answer}");
        cluster.make(SERVICES, service("e", json!({ "clusterIP": "10.96.0.10" }))).await;
    }

    /// 253 addresses are left of a /24; many at once must neither share one nor leave one over.
    #[tokio::test]
    async fn nobody_shares_and_nothing_is_lost() {
        let cluster = Arc::new(cluster().await);
        let mut tasks = tokio::task::JoinSet::new();
        for i in 0..260 {
            let cluster = cluster.clone();
            tasks.spawn(async move {
                let body = json!({ "metadata": { "generateName": "s-" }, "spec": { "ports": [{ "port": 80 }] } });
                let _ = i;
                cluster.post(&admin(), SERVICES, body).await
            });
        }
        let answers = tasks.join_all().await;
        let mut addresses = HashSet::new();
        for (code, answer) in &answers {
            match code {
                201 => assert!(addresses.insert(answer["spec"]["clusterIP"].clone()), "shared: {answer}"),
                _ => assert!(message(answer).contains("range is full"), "{answer}"),
            }
        }
        assert_eq!(addresses.len(), 253);
    }
}
