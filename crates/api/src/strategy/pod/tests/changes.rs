//! What of a pod that is there may change.

use super::*;

fn update(change: impl FnOnce(&mut Value)) -> Vec<String> {
    let old = pod(|pod| {
        pod["spec"]["tolerations"] = json!([{"key": "a", "operator": "Exists"}]);
        pod["spec"]["activeDeadlineSeconds"] = json!(100);
    });
    let mut new = old.clone();
    change(&mut new["spec"]);
    POD.default(&mut new);
    POD.prepare_update(&mut new, &old, Part::Main);
    POD.validate_update(&new, &old, Part::Main).iter().map(ToString::to_string).collect()
}

#[test]
fn a_running_pod_changes_in_few_ways() {
    assert_eq!(update(|spec| spec["containers"][0]["image"] = json!("web:2")), [""; 0]);
    assert_eq!(update(|spec| spec["activeDeadlineSeconds"] = json!(50)), [""; 0]);
    let added = json!([{"key": "a", "operator": "Exists", "tolerationSeconds": 3, "effect": ""}, {"key": "b", "operator": "Exists"}]);
    assert_eq!(
        update(|spec| spec["tolerations"] = added)[..1],
        ["spec.tolerations[0].effect: Invalid value: \"\": effect must be 'NoExecute' when `tolerationSeconds` is set"]
    );
    assert_eq!(
        update(|spec| spec["tolerations"] = json!([])),
        ["spec.tolerations: Forbidden: existing toleration can not be modified except its tolerationSeconds"]
    );
    assert_eq!(
        update(|spec| spec["containers"] = json!([])),
        ["spec.containers: Required value", "spec.containers: Forbidden: pod updates may not add or remove containers"]
    );
    let found = update(|spec| spec["hostname"] = json!("other"));
    assert_eq!(
        found,
        ["spec: Forbidden: pod updates may not change fields other than `spec.containers[*].image`,\
          `spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing \
          tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)\n\
          - Spec.hostname: null\n+ Spec.hostname: \"other\"\n"]
    );
}

#[test]
fn ephemeral_containers_are_only_added() {
    let old = pod(|_| {});
    let mut new = old.clone();
    new["spec"]["ephemeralContainers"] = json!([{"name": "debug", "image": "sh"}]);
    new["spec"]["hostname"] = json!("ignored");
    let part = Part::Subresource("ephemeralcontainers");
    POD.default(&mut new);
    POD.prepare_update(&mut new, &old, part);
    assert_eq!(POD.validate_update(&new, &old, part), []);
    assert_eq!((new["spec"].get("hostname"), &new["metadata"]["generation"]), (None, &json!(2)));
    let gone = POD.validate_update(&old, &new, part);
    assert_eq!(
        gone[0].to_string(),
        "spec.ephemeralContainers: Forbidden: existing ephemeral containers \"debug\" may not be removed\n"
    );
}
