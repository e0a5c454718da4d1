//! Who makes room for whom.

use super::*;

#[test]
fn preemption_takes_the_least_important_and_no_more_than_needed() {
    let important = |change: Value| pod("new", with(change, json!({"spec": {"priority": 100}})));
    let nodes = [node("n1", json!({})), node("n2", json!({}))];
    let running = |name: &str, amount: &str, priority: i32, at: &str| {
        pod(name, with(with(cpu(amount), on(at)), json!({"spec": {"priority": priority}})))
    };
    let busy = vec![
        running("a", "2", 50, "n1"),
        running("b", "2", 10, "n1"),
        running("c", "1", 10, "n2"),
        running("d", "3", 60, "n2"),
    ];
    assert_eq!(outcome(&nodes, &busy, &important(cpu("2"))), "evict b on n1");
    assert_eq!(outcome(&nodes, &busy, &important(cpu("1"))), "evict b on n1");
    assert_eq!(outcome(&nodes, &busy, &important(cpu("4"))), "evict a b on n1");
    let never = important(with(cpu("2"), json!({"spec": {"preemptionPolicy": "Never"}})));
    assert!(outcome(&nodes, &busy, &never).ends_with("preemption: not eligible due to preemptionPolicy=Never."));
}

#[test]
fn what_is_promised_is_kept_for_whom_it_was_promised_to() {
    let nodes = [node("n1", json!({}))];
    let promised = json!({"spec": {"priority": 50}, "status": {"nominatedNodeName": "n1"}});
    let waiting = [pod("vip", with(cpu("3"), promised))];
    let of = |priority: i32| pod("new", with(cpu("2"), json!({"spec": {"priority": priority}})));
    assert!(outcome(&nodes, &waiting, &of(0)).contains("1 Insufficient cpu"));
    assert_eq!(outcome(&nodes, &waiting, &of(100)), "n1", "a more important one need not wait");
    let two = [nodes[0].clone(), node("n2", json!({"status": {"allocatable": {"cpu": "64", "memory": "640Gi"}}}))];
    assert_eq!(outcome(&two, &[], &waiting[0]), "n1", "it goes where room was made, whatever else is free");
}

#[test]
fn budgets_are_broken_only_where_nothing_else_helps() {
    let nodes = [node("n1", json!({})), node("n2", json!({}))];
    let running = |name: &str, priority: i32, at: &str| {
        let labels = json!({"metadata": {"labels": {"app": name}}, "spec": {"priority": priority}});
        pod(name, with(with(cpu("3"), on(at)), labels))
    };
    let both = [running("guarded", 1, "n1"), running("free", 5, "n2")];
    let budget = |app: &str, allowed: i32| {
        let budget = json!({"metadata": {"name": app}, "spec": {"selector": {"matchLabels": {"app": app}}},
            "status": {"disruptionsAllowed": allowed, "currentHealthy": 1, "desiredHealthy": 1, "expectedPods": 1}});
        Arc::new(serde_json::from_value::<PodDisruptionBudget>(budget).unwrap())
    };
    let new = pod("new", with(cpu("3"), json!({"spec": {"priority": 100}})));
    for (budgets, expected) in [
        (vec![], "evict guarded on n1"),
        (vec![budget("guarded", 0)], "evict free on n2"),
        (vec![budget("guarded", 1)], "evict guarded on n1"),
        (vec![budget("guarded", 0), budget("free", 0)], "evict guarded on n1"),
    ] {
        let setting = Setting { budgets, ..Setting::default() };
        assert_eq!(outcome_in(&setting, &nodes, &both, &new), expected);
    }
}

#[test]
fn evicting_makes_room_beside_those_who_shun_it() {
    let anti = json!({"spec": {"affinity": {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [
        {"topologyKey": "kubernetes.io/hostname", "labelSelector": {"matchLabels": {"app": "x"}}}]}}}});
    let new = pod("new", with(anti, json!({"spec": {"priority": 100}})));
    assert_eq!(outcome(&[node("n1", json!({}))], &[pod("r", on("n1"))], &new), "evict r on n1");
}
