use serde_json::json;

use super::*;

fn node(name: &str, ready: &str, address: &str) -> Arc<Node> {
    let value = json!({"metadata": {"name": name}, "status": {
        "conditions": [{"type": "Ready", "status": ready}], "addresses": [{"type": "InternalIP", "address": address}]}});
    Arc::new(serde_json::from_value(value).unwrap())
}

fn decide_in(service: &Service, nodes: &[Arc<Node>], services: &[Arc<Service>], pool: Option<&AddressPool>) -> Outcome {
    decide(service, &Site { nodes, services, pool, serving: &BTreeSet::new() })
}

#[test]
fn table() {
    let (a, b, gone) = (node("a", "True", "10.0.0.1"), node("b", "True", "10.0.0.2"), node("a", "Unknown", "10.0.0.1"));
    for (kind, class, current, nodes, expected) in [
        ("LoadBalancer", None, None, vec![&b, &a], Some(vec!["10.0.0.1"])),
        ("LoadBalancer", None, Some("10.0.0.2"), vec![&a, &b], None),
        ("LoadBalancer", None, Some("10.0.0.1"), vec![&gone, &b], Some(vec!["10.0.0.2"])),
        ("LoadBalancer", None, Some("10.0.0.1"), vec![&gone], None),
        ("LoadBalancer", None, None, vec![], None),
        ("LoadBalancer", Some("other/class"), None, vec![&a], None),
        ("LoadBalancer", Some("other/class"), Some("192.0.2.1"), vec![&a], None),
        ("ClusterIP", None, None, vec![&a], None),
        ("ClusterIP", None, Some("10.0.0.1"), vec![&a], None),
    ] {
        let ingress: Vec<_> = current.iter().map(|ip| json!({"ip": ip, "ipMode": "VIP"})).collect();
        let service: Service = serde_json::from_value(json!({"metadata": {"name": "s"},
            "spec": {"type": kind, "loadBalancerClass": class}, "status": {"loadBalancer": {"ingress": ingress}}}))
        .unwrap();
        let nodes: Vec<_> = nodes.into_iter().cloned().collect();
        let found = decide_in(&service, &nodes, &[], None).ingress;
        let found = found.map(|list| list.into_iter().map(|ingress| ingress.ip.unwrap()).collect::<Vec<_>>());
        let expected = expected.map(|list| list.into_iter().map(str::to_owned).collect::<Vec<_>>());
        assert_eq!(found, expected, "{kind} {class:?} {current:?}");
    }
}

/// Whatever somebody else has written on what is not ours stays, a note of ours goes with what it was about.
#[test]
fn what_is_not_ours_is_left_alone() {
    let a = node("a", "True", "10.0.0.1");
    let pool: AddressPool = "192.0.2.0/24".parse().unwrap();
    for (kind, class, note, expected) in [
        ("LoadBalancer", Some("other/class"), None, None),
        ("LoadBalancer", Some("other/class"), Some("a"), None),
        ("NodePort", None, None, None),
        ("NodePort", None, Some("a"), Some(None)),
    ] {
        let mut service = json!({"metadata": {"name": "s", "annotations": {}},
            "spec": {"type": kind, "loadBalancerClass": class},
            "status": {"loadBalancer": {"ingress": [{"hostname": "theirs.example"}]}}});
        if let Some(note) = note {
            service["metadata"]["annotations"][ANNOUNCED_BY] = note.into();
        }
        let service: Service = serde_json::from_value(service).unwrap();
        for pool in [None, Some(&pool)] {
            let found = decide_in(&service, std::slice::from_ref(&a), &[], pool);
            let expected = Outcome { announcer: expected.clone(), ..Outcome::default() };
            assert_eq!(found, expected, "{kind} {class:?} {note:?}");
        }
    }
}

fn balanced(name: &str, port: u16, created: &str, ip: Option<&str>) -> Arc<Service> {
    let ingress: Vec<_> = ip.iter().map(|ip| json!({"ip": ip, "ipMode": "VIP"})).collect();
    let value = json!({"metadata": {"name": name, "namespace": "n", "uid": name, "creationTimestamp": created},
        "spec": {"type": "LoadBalancer", "ports": [{"port": port}]},
        "status": {"loadBalancer": {"ingress": ingress}}});
    Arc::new(serde_json::from_value(value).unwrap())
}

#[test]
fn a_port_of_an_address_belongs_to_one() {
    let (early, late) = ("2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z");
    let (a, b) = (node("a", "True", "10.0.0.1"), node("b", "True", "10.0.0.2"));
    let holder = balanced("holder", 80, late, Some("10.0.0.1"));
    let ips = |outcome: &Outcome| -> Option<Vec<String>> {
        outcome.ingress.as_ref().map(|list| list.iter().flat_map(|ingress| ingress.ip.clone()).collect())
    };

    // However old, who comes second waits; where another node is free, it gets that one's address.
    let second = balanced("second", 80, early, None);
    let waits = decide_in(&second, std::slice::from_ref(&a), &[holder.clone(), second.clone()], None);
    assert_eq!(waits.ingress, None);
    let message = "port 80/TCP of 10.0.0.1 is taken by the Service n/holder";
    assert_eq!(waits.refusal.unwrap().to_string(), message);
    let elsewhere = decide_in(&second, &[a.clone(), b], &[holder.clone(), second.clone()], None);
    assert_eq!((ips(&elsewhere), &elsewhere.refusal), (Some(vec!["10.0.0.2".into()]), &None));

    // Another port is free.
    let other = balanced("other", 81, late, None);
    assert_eq!(
        ips(&decide_in(&other, std::slice::from_ref(&a), std::slice::from_ref(&holder), None)),
        Some(vec!["10.0.0.1".into()])
    );

    // Of two that hold it, the younger one gives it up.
    let older = balanced("older", 80, early, Some("10.0.0.1"));
    let both = [holder.clone(), older.clone()];
    assert_eq!(decide_in(&older, std::slice::from_ref(&a), &both, None), Outcome::default());
    assert_eq!(ips(&decide_in(&holder, &[a], &both, None)), Some(vec![]));
}

/// A Service with an address of a pool, and whoever answers for it.
fn pooled(name: &str, created: &str, ip: Option<&str>, node: Option<&str>) -> Service {
    let mut service = Arc::unwrap_or_clone(balanced(name, 80, created, ip));
    service.metadata.annotations =
        Some(node.map(|node| (ANNOUNCED_BY.to_owned(), node.to_owned())).into_iter().collect());
    service
}

#[test]
fn addresses_of_a_pool_are_never_shared() {
    let (early, late) = ("2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z");
    let pool: AddressPool = "10.0.9.1-10.0.9.2".parse().unwrap();
    let node = node("a", "True", "10.0.0.1");
    let nodes = std::slice::from_ref(&node);
    let ip = |outcome: Outcome| match (outcome.ingress, outcome.refusal) {
        (None, None) => "as it was".to_owned(),
        (Some(list), None) => list.into_iter().filter_map(|ingress| ingress.ip).collect(),
        (_, Some(refusal)) => refusal.to_string(),
    };
    let holder = Arc::new(pooled("holder", early, Some("10.0.9.1"), Some("a")));
    let other = Arc::new(pooled("other", early, Some("10.0.9.2"), Some("a")));
    let wants = |text: &str| {
        let mut service = pooled("new", late, None, None);
        service.spec.as_mut().unwrap().load_balancer_ip = Some(text.to_owned());
        service
    };
    let mut annotated = pooled("new", late, None, None);
    annotated.metadata.annotations.as_mut().unwrap().insert(WANTED_IP.to_owned(), "10.0.9.2".to_owned());
    let new = |current| pooled("new", late, current, None);
    let one = [holder.clone()];
    let two = [holder, other];
    for (service, services, expected) in [
        (new(None), &[][..], "10.0.9.1"),
        (new(None), &one, "10.0.9.2"),
        (new(None), &two, "no address is left in the pool 10.0.9.1-10.0.9.2"),
        (new(Some("10.0.9.2")), &one, "as it was"),
        // What it has is not of this pool, or is an older one's.
        (new(Some("10.0.0.1")), &one, "10.0.9.2"),
        (new(Some("10.0.9.1")), &one, "10.0.9.2"),
        (wants("10.0.9.2"), &one, "10.0.9.2"),
        (annotated, &one, "10.0.9.2"),
        (wants("10.0.9.1"), &one, "10.0.9.1 is taken by the Service n/holder"),
        (wants("10.0.9.3"), &one, "10.0.9.3 is no address of the pool 10.0.9.1-10.0.9.2"),
    ] {
        assert_eq!(ip(decide_in(&service, nodes, services, Some(&pool))), expected, "{service:?}");
    }
}

#[test]
fn one_node_that_can_answers_for_an_address() {
    let pool: AddressPool = "10.0.9.1-10.0.9.9".parse().unwrap();
    let (a, b) = (node("a", "True", "10.0.0.1"), node("b", "True", "10.0.0.2"));
    let silent = node("a", "Unknown", "10.0.0.1");
    let early = "2026-01-01T00:00:00Z";
    let by = |current: Option<&str>, nodes: &[&Arc<Node>], serving: &[&str], policy: &str| {
        let mut service = pooled("s", early, Some("10.0.9.1"), current);
        service.spec.as_mut().unwrap().external_traffic_policy = Some(policy.to_owned());
        let nodes: Vec<_> = nodes.iter().map(|node| (*node).clone()).collect();
        let serving = serving.iter().map(|name| (*name).to_owned()).collect();
        let outcome = decide(&service, &Site { nodes: &nodes, services: &[], pool: Some(&pool), serving: &serving });
        assert_eq!((outcome.ingress, outcome.refusal), (None, None));
        outcome.announcer.map(|node| node.unwrap())
    };
    for (current, nodes, serving, policy, expected) in [
        (None, &[&a][..], &[][..], "Cluster", Some("a")),
        (Some("b"), &[&a, &b], &[], "Cluster", None),
        (Some("a"), &[&silent, &b], &[], "Cluster", Some("b")),
        (Some("gone"), &[&b], &[], "Cluster", Some("b")),
        // Nobody can: whoever has it may come back, and another would be no better.
        (Some("a"), &[&silent], &[], "Cluster", None),
        (Some("a"), &[&a, &b], &["b"], "Cluster", None),
        (Some("a"), &[&a, &b], &["b"], "Local", Some("b")),
        (Some("a"), &[&a, &b], &[], "Local", None),
    ] {
        assert_eq!(by(current, nodes, serving, policy).as_deref(), expected, "{current:?} {serving:?} {policy}");
    }

    // Many Services spread over the nodes.
    let nodes: Vec<_> = (0..5).map(|index| node(&format!("node-{index}"), "True", "10.0.0.1")).collect();
    let mut counts = std::collections::BTreeMap::<String, usize>::new();
    for index in 0..100 {
        let service = pooled(&format!("6f{index}"), early, Some("10.0.9.1"), None);
        let chosen = decide_in(&service, &nodes, &[], Some(&pool)).announcer.unwrap().unwrap();
        *counts.entry(chosen).or_default() += 1;
    }
    assert!(counts.len() == 5 && counts.values().all(|count| (8..=40).contains(count)), "{counts:?}");
}
