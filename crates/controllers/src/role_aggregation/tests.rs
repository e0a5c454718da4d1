use std::sync::Arc;

use k8s_openapi::api::rbac::v1::ClusterRole;
use serde_json::{Value, from_value, json};

use super::plan::rules;

fn role(name: &str, labels: Value, verbs: &[&str]) -> Arc<ClusterRole> {
    let rules: Vec<Value> = verbs.iter().map(|verb| json!({ "verbs": [verb], "apiGroups": [""] })).collect();
    Arc::new(from_value(json!({ "metadata": { "name": name, "labels": labels }, "rules": rules })).unwrap())
}

fn aggregation(name: &str, labels: &[Value], has: &[&str]) -> ClusterRole {
    let mut role = ClusterRole::clone(&role(name, json!({ "a": "1" }), has));
    let selectors: Vec<Value> = labels.iter().map(|labels| json!({ "matchLabels": labels })).collect();
    role.aggregation_rule = Some(from_value(json!({ "clusterRoleSelectors": selectors })).unwrap());
    role
}

#[test]
fn an_aggregation_has_the_rules_of_what_it_selects() {
    let all = [
        role("z", json!({ "a": "1" }), &["get"]),
        role("b", json!({ "a": "1", "b": "1" }), &["list", "get"]),
        role("c", json!({ "b": "1" }), &["watch"]),
        role("d", json!({}), &["delete"]),
    ];
    let (a, b) = (json!({ "a": "1" }), json!({ "b": "1" }));
    for (what, labels, has, expected) in [
        ("by name, each once", vec![a.clone()], vec![], Some(vec!["list", "get"])),
        ("several selectors", vec![a.clone(), b.clone()], vec![], Some(vec!["list", "get", "watch"])),
        ("as it is", vec![a.clone()], vec!["list", "get"], None),
        ("what was added by hand goes", vec![b], vec!["delete"], Some(vec!["list", "get", "watch"])),
        ("nothing is selected", vec![json!({ "c": "1" })], vec!["get"], Some(vec![])),
        ("nothing is selected, and nothing was", vec![json!({ "c": "1" })], vec![], None),
    ] {
        let found = rules(&aggregation("own", &labels, &has), &all);
        let found = found.map(|rules| rules.into_iter().map(|rule| rule.verbs.concat()).collect::<Vec<_>>());
        let expected = expected.map(|verbs| verbs.into_iter().map(str::to_owned).collect::<Vec<_>>());
        assert_eq!(found, expected, "{what}");
    }
    assert_eq!(rules(&role("plain", json!({}), &["get"]), &all), None);
}
