//! What is left of a claim, by who uses it and who is gone.

use k8s_openapi::api::resource::v1::{ResourceClaim, ResourceClaimConsumerReference};
use serde_json::{Value, from_value, json};

use super::plan;

fn claim(users: &[&str], change: Value) -> ResourceClaim {
    let users: Vec<Value> = users.iter().map(|uid| json!({"resource": "pods", "name": uid, "uid": uid})).collect();
    let mut claim = json!({
        "metadata": {"name": "c", "namespace": "d", "finalizers": ["resource.kubernetes.io/delete-protection"]},
        "spec": {}, "status": {"allocation": {}, "reservedFor": users},
    });
    json_patch::merge(&mut claim, &change);
    from_value(claim).unwrap()
}

fn users(uids: &[&str]) -> Vec<ResourceClaimConsumerReference> {
    uids.iter().map(|uid| from_value(json!({"resource": "pods", "name": uid, "uid": uid})).unwrap()).collect()
}

/// `+` where the devices stay, then the users; nothing where the claim stays as it is.
fn outcome(claim: &ResourceClaim, left: &[&str]) -> Option<String> {
    let released = plan::release(claim, users(left))?;
    let status = released.status.unwrap();
    let names = status.reserved_for.iter().flatten().map(|user| user.uid.as_str());
    Some(format!("{}{}", if status.allocation.is_some() { "+" } else { "-" }, names.collect::<Vec<_>>().join(" ")))
}

#[test]
fn devices_go_with_the_last_user() {
    let going = json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}});
    let of_another = json!({"metadata": {"finalizers": null}});
    let outcome_of = |users: &[&str], change: &Value, left: &[&str]| outcome(&claim(users, change.clone()), left);
    let some = |text: &str| Some(text.to_owned());
    let plain = json!({});
    assert_eq!(outcome_of(&["a", "b"], &plain, &["a", "b"]), None);
    assert_eq!(outcome_of(&["a", "b"], &plain, &["b"]), some("+b"));
    assert_eq!(outcome_of(&["a", "b"], &plain, &[]), some("-"));
    assert_eq!(outcome_of(&["a"], &of_another, &[]), some("+"), "whoever allocated it takes it back");
    assert_eq!(outcome_of(&[], &plain, &[]), None, "allocated, and its pod is about to be bound");
    assert_eq!(outcome_of(&[], &going, &[]), some("-"));
    assert_eq!(outcome_of(&["a"], &going, &["a"]), None);
}

#[test]
fn the_finalizer_goes_with_the_devices() {
    assert!(plan::unlock(&claim(&[], json!({}))).is_none());
    let free = claim(&[], json!({"status": {"allocation": null}}));
    assert_eq!(plan::unlock(&free).unwrap().metadata.finalizers, Some(Vec::new()));
    assert!(plan::unlock(&claim(&[], json!({"status": null, "metadata": {"finalizers": null}}))).is_none());
}
