use serde_json::{Value, json};

use super::*;

fn pod(name: &str, ready: &str, going: bool) -> Arc<Pod> {
    let deleted = going.then_some("2024-01-01T00:00:00Z");
    let value = json!({"metadata": {"name": name, "deletionTimestamp": deleted},
        "status": {"conditions": [{"type": "Ready", "status": ready}]}});
    Arc::new(serde_json::from_value(value).unwrap())
}

#[test]
fn numbers() {
    let pods = [pod("a", "True", false), pod("b", "True", false), pod("c", "False", false), pod("d", "True", true)];
    let now: jiff::Timestamp = "2024-01-01T00:10:00Z".parse().unwrap();
    let unknown = || Err("found no controllers".to_owned());
    for (spec, disrupted, scale, expected) in [
        (json!({"minAvailable": 1}), json!({}), unknown(), (4, 1, 2, 1, "SufficientPods")),
        (json!({"minAvailable": 2}), json!({}), unknown(), (4, 2, 2, 0, "InsufficientPods")),
        (json!({"minAvailable": "50%"}), json!({}), Ok(3), (3, 2, 2, 0, "InsufficientPods")),
        (json!({"maxUnavailable": 2}), json!({}), Ok(3), (3, 1, 2, 1, "SufficientPods")),
        (json!({"maxUnavailable": "100%"}), json!({}), Ok(3), (3, 0, 2, 2, "SufficientPods")),
        (json!({"maxUnavailable": 1}), json!({}), unknown(), (0, 0, 2, 0, "SyncFailed")),
        (json!({"minAvailable": 1}), json!({"a": "2024-01-01T00:09:00Z"}), unknown(), (4, 1, 1, 0, "InsufficientPods")),
        (json!({"minAvailable": 1}), json!({"a": "2024-01-01T00:01:00Z"}), unknown(), (4, 1, 2, 1, "SufficientPods")),
    ]
        as [(Value, Value, Result<i32, String>, (i32, i32, i32, i32, &str)); 8]
    {
        let budget = json!({"metadata": {"generation": 2}, "spec": spec, "status": {"disruptedPods": disrupted,
            "currentHealthy": 0, "desiredHealthy": 0, "disruptionsAllowed": 0, "expectedPods": 0}});
        let mut budget: PodDisruptionBudget = serde_json::from_value(budget).unwrap();
        let (status, again) = plan::status(&budget, &pods, scale.clone(), now);
        let reason = status.conditions.as_ref().unwrap()[0].reason.clone();
        let shown = [status.expected_pods, status.desired_healthy, status.current_healthy, status.disruptions_allowed];
        let [a, b, c, d] = shown.map(Option::unwrap);
        assert_eq!((a, b, c, d, reason.as_str()), expected, "{spec} {disrupted}");
        assert_eq!(again.is_some(), status.disrupted_pods.is_some());
        budget.status = Some(status.clone());
        assert_eq!(plan::status(&budget, &pods, scale, now).0, status, "nothing to write the second time");
    }
}
