use std::time::Duration;

use k8s_openapi::api::core::v1::PodTemplateSpec;
use serde_json::{Value, json};

use super::{plan::*, *};
use crate::common::pods;

fn set(spec: Value) -> StatefulSet {
    let mut value = json!({
        "metadata": {"name": "db", "namespace": "d", "uid": "set", "generation": 2},
        "spec": {"replicas": 3, "serviceName": "db", "selector": {"matchLabels": {"app": "db"}},
            "updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"partition": 0}},
            "template": {"metadata": {"labels": {"app": "db"}}, "spec": {"containers": []}},
            "volumeClaimTemplates": [{"metadata": {"name": "data"}, "spec": {"accessModes": ["ReadWriteOnce"]}}]},
    });
    json_patch::merge(&mut value, &json!({"spec": spec}));
    serde_json::from_value(value).unwrap()
}

/// `ordinal/revision/state`: ready, starting, going, Failed, Succeeded.
fn pod(text: &str) -> (i32, Arc<Pod>) {
    let [ordinal, revision, state] = text.split('/').collect::<Vec<_>>().try_into().unwrap();
    let ordinal = ordinal.parse().unwrap();
    let mut pod = identity::new_pod(&set(json!({})), &PodTemplateSpec::default(), revision, ordinal);
    pod.metadata.uid = Some(format!("p{ordinal}"));
    if state == "going" {
        pod.metadata.deletion_timestamp = serde_json::from_value(json!("2024-01-01T00:00:00Z")).unwrap();
    }
    let phase = if matches!(state, "Failed" | "Succeeded") { state } else { "Running" };
    let ready = if matches!(state, "ready" | "going") { "True" } else { "False" };
    let conditions = json!([{"type": "Ready", "status": ready, "lastTransitionTime": "2024-01-01T00:00:30Z"}]);
    pod.status = serde_json::from_value(json!({"phase": phase, "conditions": conditions})).unwrap();
    (ordinal, Arc::new(pods::seen(&pod)))
}

fn observe<T>(spec: &Value, there: &[&str], look: impl FnOnce(&Observed<'_>) -> T) -> T {
    let set = set(spec.clone());
    let pods: BTreeMap<_, _> = there.iter().map(|text| pod(text)).collect();
    let template = PodTemplateSpec::default();
    look(&Observed {
        set: &set,
        spec: set.spec.as_ref().unwrap(),
        pods: &pods,
        current: Version { name: "old", template: &template },
        update: Version { name: "new", template: &template },
        now: "2024-01-01T00:01:00Z".parse().unwrap(),
    })
}

fn check(spec: Value, there: &[&str], expected: &str) {
    let Plan { create, delete, ended } = observe(&spec, there, plan::plan);
    let revision = |pod: &v1::Pod| meta::label(&pod.metadata, history::OF_POD).unwrap().to_owned();
    let mut parts: Vec<_> = create.iter().map(|(ordinal, pod)| format!("+{ordinal}/{}", revision(pod))).collect();
    parts.extend(delete.iter().map(|pod| format!("-{}", pod_name(&**pod).trim_start_matches("db-"))));
    parts.extend(ended.iter().map(|(reason, _)| (*reason).to_owned()));
    assert_eq!(parts.join(" "), expected, "{spec} {there:?}");
}

#[test]
fn one_after_the_other() {
    let rows: [(&[&str], &str); 10] = [
        (&[], "+0/new"),
        (&["0/new/starting"], ""),
        (&["0/new/ready"], "+1/new"),
        (&["0/new/ready", "2/new/ready"], "+1/new"),
        (&["0/new/ready", "1/new/ready", "2/new/ready"], ""),
        (&["0/new/ready", "1/new/going", "2/new/ready"], ""),
        (&["0/new/Failed", "1/new/ready", "2/new/ready"], "-0 RecreatingFailedPod"),
        (&["0/new/Succeeded"], "-0 RecreatingTerminatedPod"),
        (&["0/new/ready", "1/new/ready", "2/new/ready", "3/new/ready", "4/new/ready"], "-4"),
        (&["0/new/ready", "1/new/ready", "2/new/ready", "3/new/ready", "4/new/going"], ""),
    ];
    for (there, expected) in rows {
        check(json!({}), there, expected);
    }
    let all = ["0/new/ready", "1/new/ready", "2/new/ready"];
    check(json!({"minReadySeconds": 40}), &all[..1], "");
    check(json!({"ordinals": {"start": 5}}), &[], "+5/new");
    check(json!({"ordinals": {"start": 1}, "replicas": 2}), &all, "-0");
    check(json!({"replicas": 0}), &["0/new/starting", "1/new/starting"], "");
    check(json!({"replicas": 0}), &["0/new/starting", "1/new/ready"], "-1");
    check(json!({"replicas": 0}), &["0/new/starting"], "-0");
}

#[test]
fn all_at_once() {
    let parallel = |more: Value| {
        let mut spec = json!({"podManagementPolicy": "Parallel"});
        json_patch::merge(&mut spec, &more);
        spec
    };
    check(parallel(json!({})), &[], "+0/new +1/new +2/new");
    check(parallel(json!({})), &["0/new/starting", "1/new/Failed"], "+2/new -1 RecreatingFailedPod");
    check(parallel(json!({"replicas": 0})), &["0/new/ready", "1/new/going", "2/new/starting"], "-2 -0");
}

#[test]
fn an_update_goes_down_from_the_top() {
    let rolling = |rolling: Value| json!({"updateStrategy": {"rollingUpdate": rolling}});
    let old = ["0/old/ready", "1/old/ready", "2/old/ready"];
    let rows: [(Value, &[&str], &str); 11] = [
        (json!({"updateStrategy": {"type": "OnDelete", "rollingUpdate": null}}), &old, ""),
        (json!({"updateStrategy": {"type": "OnDelete", "rollingUpdate": null}}), &old[..2], "+2/new"),
        (json!({}), &old, "-2"),
        (json!({}), &["0/old/ready", "1/old/ready", "2/new/starting"], ""),
        (json!({}), &["0/old/ready", "1/old/ready", "2/new/ready"], "-1"),
        (rolling(json!({"partition": 2})), &["0/old/ready", "1/old/ready", "2/new/ready"], ""),
        (rolling(json!({"partition": 2})), &["0/old/ready", "2/new/ready"], "+1/old"),
        (rolling(json!({"partition": 1})), &["0/old/ready", "2/new/ready"], "+1/new"),
        (rolling(json!({"maxUnavailable": 2})), &old, "-2 -1"),
        (rolling(json!({"maxUnavailable": "50%"})), &old, "-2"),
        (rolling(json!({"maxUnavailable": "1%"})), &old, "-2"),
    ];
    for (spec, there, expected) in rows {
        check(spec, there, expected);
    }
    let mut parallel = rolling(json!({"maxUnavailable": 2}));
    parallel["podManagementPolicy"] = "Parallel".into();
    check(parallel, &["0/old/starting", "1/old/ready", "2/old/ready"], "-2 -0");
}

#[test]
fn the_status_says_when_an_update_is_complete() {
    for (there, expected) in [
        (
            &["0/old/ready", "1/old/ready", "2/new/starting"][..],
            json!({"replicas": 3, "readyReplicas": 2, "availableReplicas": 2, "currentReplicas": 2, "updatedReplicas": 1,
                "currentRevision": "old", "updateRevision": "new", "observedGeneration": 2}),
        ),
        (
            &["0/new/ready", "1/new/ready", "2/new/ready"][..],
            json!({"replicas": 3, "readyReplicas": 3, "availableReplicas": 3, "currentReplicas": 3, "updatedReplicas": 3,
                "currentRevision": "new", "updateRevision": "new", "observedGeneration": 2}),
        ),
    ] {
        let (status, again) = observe(&json!({}), there, plan::status);
        assert_eq!((serde_json::to_value(status).unwrap(), again), (expected, None), "{there:?}");
    }
    let (status, again) = observe(&json!({"minReadySeconds": 40}), &["0/new/ready"], plan::status);
    assert_eq!((status.available_replicas, again), (Some(0), Some(Duration::from_millis(10_050))));
}

#[test]
fn a_pod_is_somebody() {
    let set = set(json!({}));
    let pod = identity::new_pod(&set, &PodTemplateSpec::default(), "new", 7);
    assert_eq!(
        serde_json::to_value(&pod.metadata.labels).unwrap(),
        json!({"statefulset.kubernetes.io/pod-name": "db-7", "apps.kubernetes.io/pod-index": "7", "controller-revision-hash": "new"})
    );
    let spec = serde_json::to_value(pod.spec.as_ref().unwrap()).unwrap();
    assert_eq!([&spec["hostname"], &spec["subdomain"]], [&json!("db-7"), &json!("db")]);
    assert_eq!(spec["volumes"], json!([{"name": "data", "persistentVolumeClaim": {"claimName": "data-db-7"}}]));
    let claim = &identity::claims(&set, 7)[0];
    assert_eq!(
        serde_json::to_value(&claim.metadata).unwrap(),
        json!({"name": "data-db-7", "namespace": "d", "labels": {"app": "db"}})
    );
    for (name, expected) in [("db-7", Some(7)), ("db-07", None), ("db-x", None), ("db-", None), ("other-1", None)] {
        let named = serde_json::from_value(json!({"metadata": {"name": name}})).unwrap();
        assert_eq!(identity::ordinal(&set, &named), expected, "{name}");
    }
}

#[test]
fn claims_go_with_whom_the_policy_names() {
    use claims::Keeper::*;
    for (deleted, scaled, is_condemned, expected) in [
        ("Retain", "Retain", true, Nobody),
        ("Delete", "Retain", false, Set),
        ("Delete", "Retain", true, Set),
        ("Retain", "Delete", false, Nobody),
        ("Retain", "Delete", true, Pod),
        ("Delete", "Delete", true, Pod),
    ] {
        let policy = json!({"persistentVolumeClaimRetentionPolicy": {"whenDeleted": deleted, "whenScaled": scaled}});
        assert_eq!(keeper(&set(policy), is_condemned), expected, "{deleted} {scaled} {is_condemned}");
    }
}
