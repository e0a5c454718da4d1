//! Which fields a write makes whose, and how that is written down.

use serde_json::json;

use super::{deployment, fields, request, writer};
use crate::apply::{Writer, apply, reset_fields, track_update};

#[test]
fn a_created_object_belongs_to_its_creator_as_upstream_writes_it() {
    let mut object = deployment(json!({
        "progressDeadlineSeconds": 600, "replicas": 3, "selector": {"matchLabels": {"app": "x"}},
        "strategy": {"rollingUpdate": {"maxSurge": "25%"}, "type": "RollingUpdate"},
        "template": {
            "metadata": {"labels": {"app": "x"}},
            "spec": {"containers": [{
                "name": "web", "image": "i", "resources": {},
                "ports": [{"containerPort": 80, "protocol": "TCP"}],
            }]},
        },
    }));
    object["metadata"]["uid"] = json!("u");
    object["metadata"]["labels"] = json!({"a": "b"});
    object["status"] = json!({"replicas": 1});
    track_update(writer("Deployment", "kubectl-create"), None, &mut object);
    let entries = object["metadata"]["managedFields"].as_array().unwrap();
    assert_eq!(entries.len(), 1);
    assert_eq!(entries[0]["operation"], "Update");
    assert_eq!(entries[0]["apiVersion"], "apps/v1");
    assert_eq!(entries[0]["time"], "2026-01-02T03:04:05Z");
    assert_eq!(
        entries[0]["fieldsV1"],
        json!({
            "f:metadata": {"f:labels": {".": {}, "f:a": {}}},
            "f:spec": {
                "f:progressDeadlineSeconds": {},
                "f:replicas": {},
                "f:selector": {},
                "f:strategy": {"f:rollingUpdate": {".": {}, "f:maxSurge": {}}, "f:type": {}},
                "f:template": {
                    "f:metadata": {"f:labels": {".": {}, "f:app": {}}},
                    "f:spec": {"f:containers": {"k:{\"name\":\"web\"}": {
                        ".": {},
                        "f:image": {},
                        "f:name": {},
                        "f:ports": {".": {}, "k:{\"containerPort\":80,\"protocol\":\"TCP\"}": {
                            ".": {}, "f:containerPort": {}, "f:protocol": {},
                        }},
                        "f:resources": {},
                    }}},
                },
            },
        })
    );
}

#[test]
fn structs_held_by_value_do_not_appear() {
    let event = json!({
        "apiVersion": "v1", "kind": "Event", "metadata": {"name": "e", "namespace": "n"}, "count": 1,
        "involvedObject": {"kind": "Pod", "name": "p"}, "source": {"component": "kubelet"}, "type": "Normal",
    });
    let mut object = event.clone();
    track_update(writer("Event", "kubelet"), None, &mut object);
    assert_eq!(
        fields(&object, "kubelet"),
        &json!({"f:count": {}, "f:involvedObject": {}, "f:source": {"f:component": {}}, "f:type": {}})
    );
}

#[test]
fn an_update_takes_over_what_it_changes_and_forgets_what_it_removes() {
    let mut old = deployment(json!({"replicas": 1, "paused": true, "minReadySeconds": 5}));
    track_update(writer("Deployment", "one"), None, &mut old);
    let mut new = old.clone();
    new["spec"]["replicas"] = json!(2);
    new["spec"].as_object_mut().unwrap().remove("paused");
    track_update(writer("Deployment", "two"), Some(&old), &mut new);
    assert_eq!(fields(&new, "one"), &json!({"f:spec": {"f:minReadySeconds": {}}}));
    assert_eq!(fields(&new, "two"), &json!({"f:spec": {"f:replicas": {}}}));

    let mut same = new.clone();
    track_update(
        Writer { now: "2030-01-01T00:00:00Z".parse().unwrap(), ..writer("Deployment", "three") },
        Some(&new),
        &mut same,
    );
    assert_eq!(same, new, "a write that changes nothing leaves no trace");
    let mut stripped = new.clone();
    stripped["metadata"].as_object_mut().unwrap().remove("managedFields");
    track_update(writer("Deployment", "three"), Some(&new), &mut stripped);
    assert_eq!(stripped, new, "a client that does not send managed fields does not lose them");
    let mut cleared = new.clone();
    cleared["metadata"]["managedFields"] = json!([{}]);
    track_update(writer("Deployment", "three"), Some(&new), &mut cleared);
    assert!(cleared["metadata"].get("managedFields").is_none());
    let mut later = cleared.clone();
    later["spec"]["replicas"] = json!(9);
    track_update(writer("Deployment", "three"), Some(&cleared), &mut later);
    assert!(later["metadata"].get("managedFields").is_none(), "not before it is applied again");
    let error =
        apply(request(writer("Deployment", "me"), Some(&later), &deployment(json!({"replicas": 1})))).unwrap_err();
    assert!(
        error.to_string().contains("conflict with \"before-first-apply\" using apps/v1: .spec.replicas"),
        "{error}"
    );
}

#[test]
fn status_and_spec_are_owned_apart() {
    let mut live = deployment(json!({"replicas": 1}));
    track_update(writer("Deployment", "m"), None, &mut live);
    let mut new = live.clone();
    new["status"] = json!({"conditions": [{"type": "Available", "status": "True"}], "replicas": 1});
    let status = Writer { subresource: "status", reset: reset_fields(true, "status"), ..writer("Deployment", "m") };
    track_update(status, Some(&live), &mut new);
    let entries = new["metadata"]["managedFields"].as_array().unwrap();
    assert_eq!(entries.len(), 2);
    assert_eq!(entries[1]["subresource"], "status");
    assert_eq!(
        entries[1]["fieldsV1"]["f:status"],
        json!({"f:conditions": {".": {}, "k:{\"type\":\"Available\"}": {".": {}, "f:status": {}, "f:type": {}}}, "f:replicas": {}})
    );
}

#[test]
fn at_most_ten_updaters_are_told_apart() {
    let mut object = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c"}, "data": {"k": "v"}});
    let now = jiff::Timestamp::from_second(999_999).unwrap();
    track_update(Writer { now, ..writer("ConfigMap", "m") }, None, &mut object);
    for index in 0..14 {
        let old = object.clone();
        object["data"][format!("k{index}")] = json!("v");
        let manager: &'static str = String::leak(format!("m{index:02}"));
        let now = jiff::Timestamp::from_second(1_000_000 + index).unwrap();
        track_update(Writer { now, ..writer("ConfigMap", manager) }, Some(&old), &mut object);
    }
    let entries = object["metadata"]["managedFields"].as_array().unwrap();
    assert_eq!(entries.len(), 10);
    let old = fields(&object, "ancient-changes");
    assert_eq!(old["f:data"].as_object().unwrap().keys().filter(|k| k.starts_with("f:")).count(), 6);
}
