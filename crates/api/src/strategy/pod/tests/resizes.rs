//! What the resize subresource lets through.

use super::*;

/// What a resize of a pod with these containers to those is told.
fn resize(old: Value, new: Value) -> Vec<String> {
    let old = pod(|pod| pod["spec"] = old);
    let mut new = pod(|pod| pod["spec"] = new);
    let part = Part::Subresource("resize");
    POD.prepare_update(&mut new, &old, part);
    POD.validate_update(&new, &old, part).iter().map(ToString::to_string).collect()
}

#[test]
fn a_resize_changes_cpu_and_memory_and_nothing_else() {
    let amounts = |list: &str, cpu: &str| json!({list: {"cpu": cpu, "memory": "64Mi"}});
    let of = |name: &str, resources: Value| json!({"name": name, "image": "i", "resources": resources});
    let one = |resources: Value| json!({"containers": [of("a", resources)]});
    let init = |policy: Value, resources: Value| {
        let mut init = of("i", resources);
        init["restartPolicy"] = policy;
        json!({"initContainers": [init], "containers": [of("a", amounts("requests", "1"))]})
    };
    let two = |first: &str, second: &str| json!({"containers": [of(first, amounts("requests", "1")), of(second, amounts("requests", "1"))]});
    let mut storage = amounts("requests", "1");
    storage["requests"]["ephemeral-storage"] = json!("1Gi");
    let renamed = |i: usize| {
        format!("spec.containers[{i}].name: Forbidden: containers may not be renamed or reordered on resize")
    };
    let sidecar_storage = init(json!("Always"), storage.clone());
    let rows: [(Value, Value, Vec<String>); 13] = [
        (
            init(json!("Always"), amounts("requests", "1")),
            sidecar_storage,
            vec!["spec: Forbidden: only cpu and memory resources for sidecar containers are mutable".into()],
        ),
        (one(amounts("requests", "1")), one(amounts("requests", "2")), vec![]),
        (
            one(amounts("requests", "1")),
            one(json!({"requests": {"cpu": "1", "memory": "64Mi"}, "limits": {"cpu": "3"}})),
            vec![],
        ),
        (
            one(amounts("requests", "1")),
            one(json!({"requests": {"cpu": "1"}})),
            vec!["spec.containers[0].resources.requests: Forbidden: resource requests cannot be removed".into()],
        ),
        (
            one(json!({"requests": {"cpu": "1"}, "limits": {"cpu": "2"}})),
            one(json!({"requests": {"cpu": "1"}})),
            vec!["spec.containers[0].resources.limits: Forbidden: resource limits cannot be removed".into()],
        ),
        (
            one(amounts("limits", "1")),
            one(json!({"limits": {"cpu": "1", "memory": "64Mi"}, "requests": {"cpu": "500m"}})),
            vec!["spec: Invalid value: \"Burstable\": Pod QOS Class may not change as a result of resizing".into()],
        ),
        (
            one(amounts("requests", "1")),
            one(storage),
            vec!["spec: Forbidden: only cpu and memory resources are mutable".into()],
        ),
        (
            init(Value::Null, amounts("requests", "1")),
            init(Value::Null, amounts("requests", "2")),
            vec!["spec: Forbidden: resources for non-sidecar init containers are immutable".into()],
        ),
        (init(json!("Always"), amounts("requests", "1")), init(json!("Always"), amounts("requests", "2")), vec![]),
        (two("a", "b"), two("b", "a"), vec![renamed(0), renamed(1)]),
        (two("a", "b"), two("a", "c"), vec![renamed(1)]),
        (
            two("a", "b"),
            one(amounts("requests", "1")),
            vec!["spec.containers: Forbidden: containers may not be added or removed on resize".into()],
        ),
        // What else is sent along is passed over, as upstream does.
        (
            one(amounts("requests", "1")),
            json!({"hostNetwork": true, "containers": [{"name": "a", "image": "other", "resources": amounts("requests", "2")}]}),
            vec![],
        ),
    ];
    for (old, new, expected) in rows {
        assert_eq!(resize(old.clone(), new.clone()), expected, "{old} to {new}");
    }
}

#[test]
fn some_pods_are_never_resized() {
    let mirror = pod(|pod| pod["metadata"]["annotations"] = json!({"kubernetes.io/config.mirror": "x"}));
    let windows = pod(|pod| pod["spec"]["os"] = json!({"name": "windows"}));
    for (old, kind) in [(mirror, "static"), (windows, "windows")] {
        let told = POD.validate_update(&old, &old, Part::Subresource("resize"));
        let expected = format!(": Forbidden: {kind} pods cannot be resized");
        assert_eq!(told.iter().map(ToString::to_string).collect::<Vec<_>>(), [expected]);
    }
}
