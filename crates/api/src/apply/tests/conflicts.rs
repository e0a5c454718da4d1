//! What an apply may not take from others, and who may all the same.

use serde_json::{Value, json};

use super::{deployment, fields, request, writer};
use crate::apply::{ApplyError, ApplyRequest, Conflict, Writer, apply, track_update};

#[test]
fn applying_what_another_owns_is_a_conflict_unless_forced_or_equal() {
    let first = deployment(json!({"replicas": 1, "template": {"spec": {"containers": [{"name": "c", "image": "a"}]}}}));
    let live = apply(request(writer("Deployment", "one"), None, &first)).unwrap();
    assert_eq!(
        fields(&live, "one")["f:spec"]["f:template"]["f:spec"]["f:containers"]["k:{\"name\":\"c\"}"],
        json!({".": {}, "f:image": {}, "f:name": {}})
    );
    let mut second = first.clone();
    second["spec"]["replicas"] = json!(2);
    let error = apply(request(writer("Deployment", "two"), Some(&live), &second)).unwrap_err();
    assert_eq!(error.to_string(), "Apply failed with 1 conflict: conflict with \"one\": .spec.replicas");
    second["spec"]["template"]["spec"]["containers"][0]["image"] = json!("b");
    let error = apply(request(writer("Deployment", "two"), Some(&live), &second)).unwrap_err();
    assert_eq!(
        error.to_string(),
        "Apply failed with 2 conflicts: conflicts with \"one\":\n- .spec.replicas\n- .spec.template.spec.containers[name=\"c\"].image"
    );
    let forced =
        apply(ApplyRequest { force: true, ..request(writer("Deployment", "two"), Some(&live), &second) }).unwrap();
    assert_eq!(forced["spec"]["replicas"], 2);
    assert_eq!(fields(&forced, "one")["f:spec"]["f:replicas"], Value::Null);
    assert_eq!(fields(&forced, "two")["f:spec"]["f:replicas"], json!({}));

    let shared = apply(request(writer("Deployment", "two"), Some(&live), &first)).unwrap();
    assert_eq!(fields(&shared, "one"), fields(&shared, "two"), "equal values are owned together");
}

#[test]
fn conflicts_with_updaters_name_their_version() {
    let mut live = deployment(json!({"replicas": 1}));
    track_update(writer("Deployment", "kubectl-edit"), None, &mut live);
    let config = deployment(json!({"replicas": 2}));
    let error = apply(request(writer("Deployment", "me"), Some(&live), &config)).unwrap_err();
    assert_eq!(
        error,
        ApplyError::Conflicts {
            conflicts: vec![Conflict {
                manager: "\"kubectl-edit\" using apps/v1".into(),
                field: ".spec.replicas".into()
            }]
        }
    );
    let scale = Writer { subresource: "scale", ..writer("Deployment", "hpa") };
    let mut scaled = live.clone();
    scaled["spec"]["replicas"] = json!(7);
    track_update(scale, Some(&live), &mut scaled);
    let error = apply(request(writer("Deployment", "me"), Some(&scaled), &config)).unwrap_err();
    assert!(
        error.to_string().contains("conflict with \"hpa\" with subresource \"scale\" using apps/v1: .spec.replicas")
    );
}

#[test]
fn kubectl_may_go_over_from_client_side_apply() {
    let mut live = deployment(json!({"replicas": 1}));
    live["metadata"]["annotations"] = json!({
        "kubectl.kubernetes.io/last-applied-configuration": deployment(json!({"replicas": 1})).to_string(),
    });
    track_update(writer("Deployment", "kubectl-client-side-apply"), None, &mut live);
    let config = deployment(json!({"replicas": 2}));
    assert!(apply(request(writer("Deployment", "other"), Some(&live), &config)).is_err());
    let merged = apply(request(writer("Deployment", "kubectl"), Some(&live), &config)).unwrap();
    assert_eq!(merged["spec"]["replicas"], 2);
    let last = merged["metadata"]["annotations"]["kubectl.kubernetes.io/last-applied-configuration"].as_str().unwrap();
    assert_eq!(serde_json::from_str::<Value>(last).unwrap()["spec"]["replicas"], 2);
}
