use serde_json::{Value, json};

use super::*;

fn whole() -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": "p", "namespace": "n", "uid": "u", "resourceVersion": "7", "labels": {"app": "web"},
            "annotations": {"kubectl.kubernetes.io/last-applied-configuration": "{}", "a": "b"},
            "creationTimestamp": "2026-01-01T00:00:00Z", "finalizers": ["f"],
            "ownerReferences": [{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "r", "uid": "ru", "controller": true}],
            "managedFields": [{"manager": "m", "operation": "Update", "fieldsType": "FieldsV1", "fieldsV1": {"f:spec": {}}}]},
        "spec": {"nodeName": "node", "containers": [{"name": "c", "image": "i", "env": [{"name": "A", "value": "1"}],
                "ports": [{"containerPort": 80, "hostPort": 8080, "hostIP": "10.0.0.1", "protocol": "TCP"}],
                "resources": {"requests": {"cpu": "1"}}, "livenessProbe": {"httpGet": {"port": 80}}}],
            "volumes": [{"name": "v", "persistentVolumeClaim": {"claimName": "claim"}},
                {"name": "e", "ephemeral": {}}, {"name": "m", "configMap": {"name": "m"}}],
            "tolerations": [{"key": "k", "operator": "Exists"}], "dnsPolicy": "ClusterFirst"},
        "status": {"phase": "Running", "podIP": "10.1.1.1", "podIPs": [{"ip": "10.1.1.1"}], "hostIP": "10.0.0.1",
            "conditions": [{"type": "Ready", "status": "True", "lastTransitionTime": "2026-01-01T00:00:00Z"}],
            "containerStatuses": [{"name": "c", "ready": true, "restartCount": 2, "image": "i", "imageID": "id",
                "state": {"running": {"startedAt": "2026-01-01T00:00:00Z"}}}]}
    })
}

/// All but nulls.
fn bare(value: Value) -> Value {
    match value {
        Value::Object(map) => map.into_iter().filter(|(_, v)| !v.is_null()).map(|(k, v)| (k, bare(v))).collect(),
        Value::Array(list) => list.into_iter().map(bare).collect(),
        other => other,
    }
}

#[test]
fn what_is_kept_reads_as_it_was_written() {
    let mut kept = whole();
    for (place, gone) in [
        ("", "apiVersion"),
        ("", "kind"),
        ("/metadata", "managedFields"),
        ("/metadata/annotations", "kubectl.kubernetes.io/last-applied-configuration"),
        ("/spec/containers/0", "env"),
        ("/spec/containers/0", "livenessProbe"),
        ("/spec", "dnsPolicy"),
        ("/status", "hostIP"),
        ("/status/containerStatuses/0", "image"),
        ("/status/containerStatuses/0", "imageID"),
    ] {
        kept.pointer_mut(place).unwrap().as_object_mut().unwrap().remove(gone).unwrap();
    }
    kept["spec"]["volumes"].as_array_mut().unwrap().pop();
    let pod: Pod = serde_json::from_value(whole()).unwrap();
    assert_eq!(bare(serde_json::to_value(&pod).unwrap()), kept);
}

#[test]
fn nulls_and_nothing_are_read() {
    let empty: Pod = serde_json::from_value(json!({})).unwrap();
    assert_eq!(empty, Pod::default());
    let nulls = json!({"metadata": null, "spec": {"containers": null, "volumes": null, "tolerations": null},
        "status": {"conditions": null, "containerStatuses": null}});
    let nulls: Pod = serde_json::from_value(nulls).unwrap();
    assert_eq!(nulls, Pod { spec: Some(PodSpec::default()), status: Some(PodStatus::default()), ..Pod::default() });
}

#[test]
fn lists_hold_no_room_to_grow() {
    let pod: Pod = serde_json::from_value(whole()).unwrap();
    let (spec, status) = (pod.spec.unwrap(), pod.status.unwrap());
    assert_eq!(spec.containers.capacity(), 1);
    assert_eq!(spec.tolerations.unwrap().capacity(), 1);
    assert_eq!(spec.volumes.unwrap().capacity(), 2);
    assert_eq!(status.conditions.unwrap().capacity(), 1);
    assert_eq!(pod.metadata.owner_references.unwrap().capacity(), 1);
}
