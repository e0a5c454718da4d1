use knarr_api::registry::by_plural;
use serde_json::json;

use super::*;

fn quota(spec: Value) -> ResourceQuota {
    serde_json::from_value(json!({"metadata": {"name": "q", "namespace": "n"}, "spec": spec})).unwrap()
}

#[test]
fn what_is_used_is_what_the_limits_speak_of() {
    let pod = |cpu: &str, phase: &str, class: &str| {
        json!({"spec": {"priorityClassName": class, "containers": [{"resources": {"requests": {"cpu": cpu}}}]},
            "status": {"phase": phase}})
    };
    let pods = vec![pod("100m", "Running", "high"), pod("250m", "Pending", ""), pod("1", "Succeeded", "high")];
    let services =
        vec![json!({"spec": {"type": "NodePort", "ports": [{"port": 1}, {"port": 2}]}}), json!({"spec": {}})];
    let high = json!({"matchExpressions": [{"scopeName": "PriorityClass", "operator": "In", "values": ["high"]}]});
    for (spec, expected) in [
        (json!({"hard": {"pods": "4", "requests.cpu": "2"}}), json!({"pods": "2", "requests.cpu": "350m"})),
        (json!({"hard": {"pods": "4"}, "scopeSelector": high}), json!({"pods": "1"})),
        (
            json!({"hard": {"count/pods": "4", "limits.memory": "1Gi"}}),
            json!({"count/pods": "3", "limits.memory": "0"}),
        ),
        (
            json!({"hard": {"services": "2", "services.nodeports": "2", "services.loadbalancers": "1"}}),
            json!({"services": "2", "services.nodeports": "2", "services.loadbalancers": "0"}),
        ),
        (
            json!({"hard": {"count/deployments.apps": "2", "configmaps": "9"}}),
            json!({"count/deployments.apps": "3", "configmaps": "0"}),
        ),
        (json!({"hard": {"example.org/unheard-of": "2"}}), json!({})),
    ] {
        let quota = quota(spec.clone());
        let objects = |resource: &'static Resource| match resource.plural {
            "pods" => (resource, pods.clone()),
            "services" => (resource, services.clone()),
            "deployments" => (resource, vec![Value::Null; 3]),
            _ => (resource, Vec::new()),
        };
        let objects: Vec<_> = plan::resources(&quota).into_iter().map(objects).collect();
        let status = serde_json::to_value(plan::status(&quota, &objects, &[])).unwrap();
        assert_eq!(status["used"], expected, "{spec}");
        assert_eq!(status["hard"], spec["hard"], "{spec}");
    }
}

#[test]
fn a_resource_of_two_groups_is_counted_once() {
    let quota = quota(json!({"hard": {"count/events": "5", "pods": "1"}}));
    let found: Vec<_> = plan::resources(&quota).iter().map(|resource| resource.qualified_name()).collect();
    assert!(found.iter().filter(|name| name.starts_with("events")).count() <= 1, "{found:?}");
    assert!(found.contains(&by_plural("", "v1", "pods").unwrap().qualified_name()));
}

#[test]
fn custom_resources_are_counted_where_they_are_served() {
    let quota = quota(json!({"hard": {"count/widgets.example.com": "5", "count/gone.example.com": "1", "pods": "1"}}));
    assert_eq!(plan::customs(&quota), ["gone.example.com", "widgets.example.com"]);
    let status = plan::status(&quota, &[], &[("widgets.example.com".to_owned(), 3)]);
    assert_eq!(serde_json::to_value(status.used).unwrap(), json!({"count/widgets.example.com": "3"}));
}
