use std::collections::HashSet;

use super::PortRange;

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

    use knarr_store::{Op, Store, Txn};
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
                r#"Service "b" is invalid: spec.clusterIPs: Invalid value: ["10.97.0.1"]: failed to allocate IP 10.97.0.1: the provided network does not match the current range"#.to_owned(),
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

    const ADDRESSES: &str = "/apis/networking.k8s.io/v1/ipaddresses";
    const RANGES: &str = "/apis/networking.k8s.io/v1/servicecidrs";

    async fn address_names(cluster: &Cluster) -> Vec<String> {
        let (_, list) = cluster.get(&admin(), ADDRESSES).await;
        list["items"].as_array().unwrap().iter().map(|one| crate::json::name(one).to_owned()).collect()
    }

    /// A range that the tests' own is not part of.
    async fn add_range(cluster: &Cluster, name: &str, cidr: &str) {
        cluster.make(RANGES, json!({ "metadata": { "name": name }, "spec": { "cidrs": [cidr] } })).await;
    }

    #[tokio::test]
    async fn each_address_has_an_object_for_as_long_as_it_is_used() {
        let cluster = cluster().await;
        let made = cluster.make(SERVICES, service("a", json!({ "clusterIP": "10.96.0.9" }))).await;
        let (code, object) = cluster.get(&admin(), &format!("{ADDRESSES}/10.96.0.9")).await;
        assert_eq!(code, 200, "{object}");
        let metadata = &object["metadata"];
        assert_eq!(
            metadata["labels"],
            json!({
                "ipaddress.kubernetes.io/ip-family": "IPv4",
                "ipaddress.kubernetes.io/managed-by": "ipallocator.k8s.io",
            })
        );
        assert_eq!(
            object["spec"],
            json!({ "parentRef": { "name": "a", "namespace": "team", "resource": "services" } })
        );
        assert_eq!(metadata["resourceVersion"], made["metadata"]["resourceVersion"], "one transaction wrote both");
        let fields = &metadata["managedFields"][0]["fieldsV1"];
        assert!(fields["f:spec"]["f:parentRef"].is_object(), "{object}");

        let external = json!({ "spec": { "type": "ExternalName", "externalName": "x.example", "clusterIP": null,
            "clusterIPs": null } });
        let path = format!("{SERVICES}/a");
        assert_eq!(cluster.send(&admin(), "PATCH", &path, external).await.0, 200);
        assert_eq!(address_names(&cluster).await, ["10.96.0.1"]);
        let back = json!({ "spec": { "type": "ClusterIP", "externalName": null, "clusterIP": "10.96.0.10" } });
        assert_eq!(cluster.send(&admin(), "PATCH", &path, back).await.0, 200);
        assert_eq!(address_names(&cluster).await, ["10.96.0.1", "10.96.0.10"]);

        // A finalizer holds the Service and its address, and both go with it.
        let held = json!({ "metadata": { "finalizers": ["example.org/wait"] } });
        assert_eq!(cluster.send(&admin(), "PATCH", &path, held).await.0, 200);
        cluster.send(&admin(), "DELETE", &path, Value::Null).await;
        assert_eq!(address_names(&cluster).await, ["10.96.0.1", "10.96.0.10"]);
        let freed = json!({ "metadata": { "finalizers": null } });
        assert_eq!(cluster.send(&admin(), "PATCH", &path, freed).await.0, 200);
        assert_eq!(address_names(&cluster).await, ["10.96.0.1"]);

        cluster.make(SERVICES, service("b", json!({ "clusterIP": "10.96.0.11" }))).await;
        cluster.send(&admin(), "DELETE", &format!("{SERVICES}/b"), Value::Null).await;
        let dry = format!("{SERVICES}?dryRun=All");
        assert_eq!(cluster.post(&admin(), &dry, service("d", json!({}))).await.0, 201);
        cluster.make(SERVICES, service("h", json!({ "clusterIP": "None" }))).await;
        assert_eq!(address_names(&cluster).await, ["10.96.0.1"]);
    }

    #[tokio::test]
    async fn what_others_have_an_address_for_is_taken() {
        let cluster = cluster().await;
        let gateway = json!({ "group": "gateway.networking.k8s.io", "resource": "gateways", "namespace": "team",
            "name": "g" });
        let object = json!({ "metadata": { "name": "10.96.0.9" }, "spec": { "parentRef": gateway } });
        cluster.make(ADDRESSES, object).await;
        let (code, answer) = cluster.post(&admin(), SERVICES, service("a", json!({ "clusterIP": "10.96.0.9" }))).await;
        let expected = r#"Service "a" is invalid: spec.clusterIPs: Invalid value: ["10.96.0.9"]: failed to allocate IP 10.96.0.9: provided IP is already allocated"#;
        assert_eq!((code, message(&answer)), (422, expected));
        // The whole range but one is taken by others: that one is found, and then no other.
        for last in (2..254).filter(|last| *last != 9 && *last != 77) {
            let mut object = json!({ "metadata": {}, "spec": { "parentRef": gateway } });
            object["metadata"]["name"] = format!("10.96.0.{last}").into();
            cluster.make(ADDRESSES, object).await;
        }
        let made = cluster.make(SERVICES, service("a", json!({}))).await;
        assert!(matches!(made["spec"]["clusterIP"].as_str(), Some("10.96.0.77" | "10.96.0.254")), "{made}");
        cluster.make(SERVICES, service("b", json!({}))).await;
        let (code, answer) = cluster.post(&admin(), SERVICES, service("c", json!({}))).await;
        assert_eq!(code, 500, "{answer}");
        // What is given back is found again.
        cluster.send(&admin(), "DELETE", &format!("{ADDRESSES}/10.96.0.9"), Value::Null).await;
        cluster.make(SERVICES, service("c", json!({ "clusterIP": "10.96.0.9" }))).await;
    }

    /// Services and IPAddresses are made for the same few addresses at once, of ranges that lie in each other.
    #[tokio::test]
    async fn an_address_has_one_holder_however_many_want_it() {
        let cluster = Arc::new(cluster().await);
        add_range(&cluster, "narrow", "10.96.0.0/28").await;
        add_range(&cluster, "other", "10.97.0.0/28").await;
        let mut tasks = tokio::task::JoinSet::new();
        for i in 1..=14 {
            for range in ["10.96.0", "10.97.0"] {
                let cluster = cluster.clone();
                let object = json!({ "metadata": { "name": format!("{range}.{i}") }, "spec": { "parentRef": {
                    "group": "gateway.networking.k8s.io", "resource": "gateways", "name": "g" } } });
                tasks.spawn(async move { cluster.post(&admin(), ADDRESSES, object).await });
            }
        }
        for _ in 0..60 {
            let cluster = cluster.clone();
            let body = json!({ "metadata": { "generateName": "s-" }, "spec": { "ports": [{ "port": 80 }] } });
            tasks.spawn(async move { cluster.post(&admin(), SERVICES, body).await });
        }
        let answers = tasks.join_all().await;
        cluster.settle().await;
        let mut held = HashSet::new();
        for (code, answer) in answers.iter().filter(|(_, answer)| answer["kind"] == "Service") {
            assert_eq!(*code, 201);
            let address = answer["spec"]["clusterIP"].as_str().unwrap();
            assert!(held.insert(address), "shared: {answer}");
            let (_, object) = cluster.get(&admin(), &format!("{ADDRESSES}/{address}")).await;
            let owner = (&object["spec"]["parentRef"]["resource"], &object["spec"]["parentRef"]["name"]);
            assert_eq!(owner, (&json!("services"), &answer["metadata"]["name"]), "{address}");
        }
        assert_eq!(held.len(), 60, "there was room for all");
    }

    #[tokio::test]
    async fn ranges_that_are_ready_are_handed_out_of() {
        let cluster = cluster().await;
        let mut made = 0;
        while let (201, _) = cluster.post(&admin(), SERVICES, service(&format!("s{made}"), json!({}))).await {
            made += 1;
        }
        assert_eq!(made, 253);
        add_range(&cluster, "more", "10.200.0.0/29").await;
        let path = format!("{RANGES}/more");
        let condition = |status: &str| {
            json!({ "status": { "conditions": [{ "type": "Ready", "status": status,
            "reason": "", "message": "", "lastTransitionTime": "2026-01-01T00:00:00Z" }] } })
        };
        let status = format!("{path}/status");
        assert_eq!(cluster.send(&admin(), "PATCH", &status, condition("False")).await.0, 200);
        cluster.settle().await;
        assert_eq!(cluster.post(&admin(), SERVICES, service("n", json!({}))).await.0, 500, "not ready");
        assert_eq!(cluster.send(&admin(), "PATCH", &status, condition("True")).await.0, 200);
        cluster.settle().await;
        let further = cluster.make(SERVICES, service("n", json!({}))).await;
        assert!(further["spec"]["clusterIP"].as_str().unwrap().starts_with("10.200.0."), "{further}");
        // Once it is being deleted nothing more is taken from it, whether asked for or not.
        let held = json!({ "metadata": { "finalizers": ["example.org/wait"] } });
        cluster.send(&admin(), "PATCH", &path, held).await;
        cluster.send(&admin(), "DELETE", &path, Value::Null).await;
        cluster.settle().await;
        assert_eq!(cluster.post(&admin(), SERVICES, service("o", json!({}))).await.0, 500);
        let (code, answer) = cluster.post(&admin(), SERVICES, service("o", json!({ "clusterIP": "10.200.0.5" }))).await;
        assert_eq!(code, 422, "{answer}");
        assert!(message(&answer).ends_with("the provided network does not match the current range"), "{answer}");
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

    #[tokio::test]
    async fn two_servers_over_one_store_never_give_the_same_port() {
        let one = cluster().await;
        let other = one.beside().await;
        for port in 30000..=30063 {
            let wish = |name| service(name, json!({ "type": "NodePort", "ports": [{ "port": 80, "nodePort": port }] }));
            let (first, second) = (format!("a{port}"), format!("b{port}"));
            let user = admin();
            let ((a, _), (b, _)) =
                tokio::join!(one.post(&user, SERVICES, wish(&first)), other.post(&user, SERVICES, wish(&second)));
            assert_eq!((a.min(b), a.max(b)), (201, 422), "{port}");
        }
        for name in ["a", "b"].map(|letter| format!("{SERVICES}/{letter}30000")) {
            one.send(&admin(), "DELETE", &name, Value::Null).await;
        }
        other.settle().await;
        let free = json!({ "type": "NodePort", "ports": [{ "port": 80, "nodePort": 30000 }] });
        other.make(SERVICES, service("again", free)).await;
    }

    /// A server of an earlier version deletes a Service and leaves the key of its port.
    #[tokio::test]
    async fn a_port_that_nobody_has_is_given_although_it_is_written_down() {
        let cluster = cluster().await;
        cluster.make(SERVICES, service("held", json!({ "type": "NodePort" }))).await;
        for holder in ["team/gone", "team/held"] {
            let key = "/registry/ranges/nodeports/30007".into();
            let put = Op::Put { key, value: holder.into(), lease: None };
            cluster.store.txn(Txn { compares: Vec::new(), ops: vec![put] }).await.unwrap();
            let wish = json!({ "type": "NodePort", "ports": [{ "port": 80, "nodePort": 30007 }] });
            let made = cluster.make(SERVICES, service("a", wish)).await;
            assert_eq!(made["spec"]["ports"][0]["nodePort"], 30007, "{holder}");
            cluster.send(&admin(), "DELETE", &format!("{SERVICES}/a"), Value::Null).await;
        }
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
