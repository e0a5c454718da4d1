use std::sync::Arc;

use k8s_openapi::api::{
    core::v1::{Node, PersistentVolume, PersistentVolumeClaim},
    storage::v1::StorageClass,
};
use knarr_client::lean::Pod;
use serde_json::{Value, from_value, json};

use super::{
    claim::{self, Step, World},
    consumers,
    volume::{self, Fate},
};

fn merged(mut base: Value, change: Value) -> Value {
    json_patch::merge(&mut base, &change);
    base
}

fn claim(change: Value) -> Value {
    let base = json!({
        "metadata": {"name": "c", "namespace": "d", "uid": "u1"},
        "spec": {"accessModes": ["ReadWriteOnce"], "storageClassName": "now", "resources": {"requests": {"storage": "1Gi"}}},
        "status": {"phase": "Pending"},
    });
    merged(base, change)
}

fn volume(name: &str, change: Value) -> Value {
    let base = json!({
        "metadata": {"name": name},
        "spec": {"capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteOnce"], "storageClassName": "now"},
        "status": {"phase": "Available"},
    });
    merged(base, change)
}

fn kept(uid: &str) -> Value {
    json!({"spec": {"claimRef": {"namespace": "d", "name": "c", "uid": uid}}})
}

fn class(name: &str, provisioner: &str, mode: &str) -> Value {
    json!({"metadata": {"name": name}, "provisioner": provisioner, "volumeBindingMode": mode})
}

fn node(name: &str, spec: Value) -> Value {
    json!({"metadata": {"name": name, "labels": {"kubernetes.io/hostname": name}}, "spec": spec,
        "status": {"conditions": [{"type": "Ready", "status": "True"}]}})
}

fn all<K: serde::de::DeserializeOwned>(list: &[Value]) -> Vec<Arc<K>> {
    list.iter().map(|value| Arc::new(from_value(value.clone()).unwrap())).collect()
}

/// The steps in short.
fn steps(the_claim: Value, volumes: &[Value], more_classes: &[Value]) -> String {
    let claim: PersistentVolumeClaim = from_value(the_claim).unwrap();
    let volumes = all::<PersistentVolume>(volumes);
    let mut classes = vec![
        class("now", "example.com/p", "Immediate"),
        class("late", "example.com/p", "WaitForFirstConsumer"),
        class("static", "kubernetes.io/no-provisioner", "Immediate"),
        class("local", "knarr.dev/local", "Immediate"),
        class("local-late", "knarr.dev/local", "WaitForFirstConsumer"),
    ];
    classes.extend_from_slice(more_classes);
    let classes = all::<StorageClass>(&classes);
    let nodes = all::<Node>(&[
        node("n1", json!({"unschedulable": true})),
        node("n2", json!({})),
        node("n3", json!({})),
        node("n4", json!({"taints": [{"key": "k", "effect": "NoSchedule"}]})),
    ]);
    let plan = claim::plan(&claim, &World { volumes: &volumes, classes: &classes, nodes: &nodes, consumers: &[] });
    let short = plan.into_iter().map(|step| match step {
        Step::Bind(volume) => format!("bind {}", volume.metadata.name.as_deref().unwrap()),
        Step::Phase(phase) => phase.to_owned(),
        Step::Say((_, reason, _)) => reason.to_owned(),
        Step::Wait((_, reason, _)) => format!("{reason} and wait"),
        Step::Change(changed) => {
            let annotations = changed.metadata.annotations.clone().unwrap_or_default();
            let known = |key: &str| annotations.get(key).map_or("-", String::as_str).to_owned();
            format!(
                "class={} by={} node={}",
                changed.spec.unwrap().storage_class_name.unwrap_or_default(),
                known("volume.kubernetes.io/storage-provisioner"),
                known("volume.kubernetes.io/selected-node"),
            )
        }
    });
    short.collect::<Vec<_>>().join(", ")
}

#[test]
fn what_is_done_about_a_claim() {
    let of = |class: &str| json!({"spec": {"storageClassName": class}});
    let done = |volume: &str, phase: &str| {
        json!({"metadata": {"annotations": {"pv.kubernetes.io/bind-completed": "yes"}},
            "spec": {"volumeName": volume}, "status": {"phase": phase}})
    };
    let on = |node: &str| {
        merged(of("local-late"), json!({"metadata": {"annotations": {"volume.kubernetes.io/selected-node": node}}}))
    };
    let busy = volume(
        "x",
        json!({"spec": {"claimRef": {"namespace": "d", "name": "other", "uid": "u9"}, "nodeAffinity": {"required": {
        "nodeSelectorTerms": [{"matchExpressions": [{"key": "kubernetes.io/hostname", "operator": "In", "values": ["n2"]}]}]}}}}),
    );
    for (change, volumes, expected) in [
        (json!({}), vec![volume("v", json!({}))], "bind v"),
        (json!({}), vec![], "class=now by=example.com/p node=-, ExternalProvisioning"),
        (
            json!({"status": {"phase": "Lost"}}),
            vec![],
            "Pending, class=now by=example.com/p node=-, ExternalProvisioning",
        ),
        (of(""), vec![], "FailedBinding"),
        (of("none"), vec![], "ProvisioningFailed"),
        (of("static"), vec![], "ProvisioningFailed"),
        (of("late"), vec![volume("v", of("late"))], "WaitForFirstConsumer and wait"),
        (of("late"), vec![volume("v", merged(of("late"), kept("")))], "bind v"),
        (of("local"), vec![], "class=local by=knarr.dev/local node=n2, ExternalProvisioning"),
        (of("local"), vec![busy], "class=local by=knarr.dev/local node=n3, ExternalProvisioning"),
        (of("local-late"), vec![], "WaitForFirstConsumer and wait"),
        (on("n2"), vec![], "class=local-late by=knarr.dev/local node=n2, ExternalProvisioning"),
        (on("n1"), vec![], "class=local-late by=knarr.dev/local node=n1, ExternalProvisioning"),
        (on("gone"), vec![], "class=local-late by=knarr.dev/local node=-"),
        (json!({"spec": {"volumeName": "v"}}), vec![], ""),
        (json!({"spec": {"volumeName": "v"}}), vec![volume("v", json!({}))], "bind v"),
        (json!({"spec": {"volumeName": "v"}}), vec![volume("v", of("late"))], "VolumeMismatch"),
        (json!({"spec": {"volumeName": "v"}}), vec![volume("v", kept("u9"))], "FailedBinding"),
        (done("v", "Bound"), vec![volume("v", kept("u1"))], "bind v"),
        (done("v", "Bound"), vec![volume("v", json!({}))], "bind v"),
        (done("v", "Bound"), vec![volume("v", kept("u9"))], "Lost, ClaimMisbound"),
        (done("v", "Bound"), vec![], "Lost, ClaimLost"),
        (done("v", "Lost"), vec![], ""),
        (done("", "Bound"), vec![], "Lost, ClaimLost"),
    ] {
        assert_eq!(steps(claim(change.clone()), &volumes, &[]), expected, "{change} {volumes:?}");
    }
}

#[test]
fn a_class_that_becomes_the_default_is_given_later_too() {
    let mut unnamed = claim(json!({}));
    unnamed["spec"].as_object_mut().unwrap().remove("storageClassName");
    assert_eq!(steps(unnamed.clone(), &[], &[]), "FailedBinding");
    let default = |name: &str, day: &str| {
        merged(
            class(name, "example.com/p", "Immediate"),
            json!({"metadata": {"creationTimestamp": format!("2026-01-{day}T00:00:00Z"),
                "annotations": {"storageclass.kubernetes.io/is-default-class": "true"}}}),
        )
    };
    let both = [default("older", "01"), default("newer", "02")];
    assert_eq!(steps(unnamed.clone(), &[], &both), "class=newer by=- node=-");
    assert_eq!(steps(unnamed, &[volume("v", json!({"spec": {"storageClassName": ""}}))], &both), "bind v");
}

#[test]
fn what_becomes_of_a_volume() {
    let provisioned = |policy: &str| {
        merged(
            kept("u1"),
            json!({"metadata": {"annotations": {"pv.kubernetes.io/provisioned-by": "p"}}, "spec": {"persistentVolumeReclaimPolicy": policy}}),
        )
    };
    let by_controller =
        merged(kept("u1"), json!({"metadata": {"annotations": {"pv.kubernetes.io/bound-by-controller": "yes"}}}));
    let naming = |volume: &str| {
        Some(json!({"metadata": {"name": "c", "namespace": "d", "uid": "u1"}, "spec": {"volumeName": volume}}))
    };
    let other = Some(json!({"metadata": {"name": "c", "namespace": "d", "uid": "u2"}, "spec": {"volumeName": "v"}}));
    for (change, claim, expected) in [
        (json!({}), None, "stay"),
        (json!({"status": {"phase": "Bound"}}), None, "Available"),
        (kept(""), naming(""), "stay"),
        (kept("u1"), naming(""), "bind the claim"),
        (kept("u1"), naming("v"), "Bound"),
        (kept("u1"), None, "release"),
        (kept("u1"), other, "release"),
        (provisioned("Delete"), naming("w"), "release"),
        (provisioned("Retain"), naming("w"), "kept for \"\""),
        (kept("u1"), naming("w"), "kept for \"\""),
        (by_controller, naming("w"), "free"),
    ] {
        let volume: PersistentVolume = from_value(volume("v", change.clone())).unwrap();
        let claim: Option<PersistentVolumeClaim> = claim.map(|claim| from_value(claim).unwrap());
        let fate = match volume::fate(&volume, claim.as_ref()) {
            Fate::Stay => "stay".to_owned(),
            Fate::Phase(phase) => phase.to_owned(),
            Fate::BindClaim => "bind the claim".to_owned(),
            Fate::Release => "release".to_owned(),
            Fate::Unbind(unbound) => match unbound.spec.unwrap().claim_ref {
                Some(reference) => format!("kept for {:?}", reference.uid.unwrap_or_default()),
                None => "free".to_owned(),
            },
        };
        assert_eq!(fate, expected, "{change} {claim:?}");
    }
}

#[test]
fn only_what_can_be_deleted_is_said_to_be() {
    for (change, expected) in [
        (json!({"spec": {"persistentVolumeReclaimPolicy": "Retain"}}), None),
        (json!({"spec": {"persistentVolumeReclaimPolicy": "Recycle"}}), Some("VolumeFailedRecycle")),
        (json!({"spec": {"persistentVolumeReclaimPolicy": "Delete"}}), Some("VolumeFailedDelete")),
        (
            json!({"spec": {"persistentVolumeReclaimPolicy": "Delete"}, "metadata": {"annotations": {"pv.kubernetes.io/provisioned-by": "p"}}}),
            None,
        ),
    ] {
        let volume: PersistentVolume = from_value(volume("v", change.clone())).unwrap();
        assert_eq!(volume::cannot_reclaim(&volume).map(|(reason, _)| reason), expected, "{change}");
    }
}

#[test]
fn who_is_waited_for() {
    let pod = |name: &str, change: Value| -> Arc<Pod> {
        let base = json!({"metadata": {"name": name, "namespace": "d"}, "spec": {"containers": [],
            "volumes": [{"name": "v", "persistentVolumeClaim": {"claimName": "c"}}, {"name": "own", "ephemeral": {}}]}});
        Arc::new(from_value(merged(base, change)).unwrap())
    };
    for (change, expected) in [
        (json!({}), vec!["d/c", "d/p-own"]),
        (json!({"spec": {"nodeName": "n1"}}), vec![]),
        (json!({"status": {"phase": "Failed"}}), vec![]),
        (json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}}), vec![]),
        (json!({"spec": {"volumes": null}}), vec![]),
    ] {
        assert_eq!(consumers::claims_of_waiting(&pod("p", change.clone())), expected, "{change}");
    }
    let (p, q) = (pod("p", json!({})), pod("q", json!({})));
    for (pods, reason, message) in [
        (vec![], "WaitForFirstConsumer", "waiting for first consumer to be created before binding"),
        (vec![p.clone()], "WaitForPodScheduled", "waiting for pod p to be scheduled"),
        (vec![p, q], "WaitForPodScheduled", "waiting for pods p,q to be scheduled"),
    ] {
        let (_, said, why) = consumers::wait(&pods);
        assert_eq!((said, &*why), (reason, message));
    }
}
