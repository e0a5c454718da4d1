//! Claims, volumes and the pods that want them, through binder, scheduler and protection together.

use std::collections::BTreeSet;

use k8s_openapi::api::{
    core::v1::{PersistentVolume, PersistentVolumeClaim, Pod},
    storage::v1::{StorageClass, VolumeAttributesClass},
};
use knarr_client::{call, meta};
use kube::{Api, api::DeleteParams};
use serde_json::{Value, json};

use crate::harness::{Cluster, start};

fn volume(name: &str, class: &str, on: Option<&str>) -> Value {
    let affinity = on.map(|node| {
        json!({"required": {"nodeSelectorTerms": [{"matchExpressions": [
            {"key": "kubernetes.io/hostname", "operator": "In", "values": [node]}]}]}})
    });
    json!({
        "apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": name},
        "spec": {"capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteOnce"], "storageClassName": class,
            "local": {"path": "/v"}, "nodeAffinity": affinity.unwrap_or_else(|| json!({"required": {"nodeSelectorTerms": [
                {"matchExpressions": [{"key": "kubernetes.io/hostname", "operator": "Exists"}]}]}}))},
    })
}

fn claim(name: &str, class: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": name, "namespace": "default"},
        "spec": {"accessModes": ["ReadWriteOnce"], "storageClassName": class, "resources": {"requests": {"storage": "1Gi"}}},
    })
}

async fn claims(cluster: &Cluster) -> Vec<PersistentVolumeClaim> {
    let claims: Api<PersistentVolumeClaim> = Api::namespaced(cluster.client.clone(), "default");
    claims.list(&Default::default()).await.unwrap().items
}

fn bound_volume(claim: &PersistentVolumeClaim) -> Option<String> {
    let phase = claim.status.as_ref()?.phase.as_deref()?;
    (phase == "Bound").then(|| claim.spec.as_ref()?.volume_name.clone())?
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_volume_has_two_claims() {
    let cluster = start(1).await;
    for i in 0..20 {
        cluster.create(claim(&format!("c{i}"), "")).await;
    }
    for i in 0..15 {
        cluster.create(volume(&format!("v{i}"), "", None)).await;
    }
    let bound = || async { claims(&cluster).await.iter().filter_map(bound_volume).collect::<Vec<_>>() };
    cluster.eventually("15 bound claims", || async { bound().await.len() == 15 }).await;
    assert_eq!(bound().await.into_iter().collect::<BTreeSet<_>>().len(), 15, "each has a volume of its own");
    let some = claims(&cluster).await.into_iter().find(|claim| bound_volume(claim).is_some()).unwrap();
    let name = bound_volume(&some).unwrap();
    call::delete(&cluster.client, &some, DeleteParams::default()).await.unwrap();
    let fresh = || async { call::get::<PersistentVolume>(&cluster.client, "", &name).await.unwrap().unwrap() };
    let phase = |volume: &PersistentVolume| volume.status.as_ref().and_then(|status| status.phase.clone());
    cluster
        .eventually("the volume to be released", || async { phase(&fresh().await).as_deref() == Some("Released") })
        .await;
    assert_eq!(bound().await.len(), 14, "what one claim had no other gets by itself");
    call::merge(&cluster.client, &fresh().await, json!({"spec": {"claimRef": null}})).await.unwrap();
    cluster.eventually("another claim to have it", || async { bound().await.contains(&name) }).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_class_of_attributes_is_matched_and_kept_while_it_is_named() {
    let cluster = start(1).await;
    let class: VolumeAttributesClass = serde_json::from_value(json!({
        "metadata": {"name": "fast"}, "driverName": "d.io", "parameters": {"iops": "500"},
    }))
    .unwrap();
    let class = call::create(&cluster.client, &class).await.unwrap();
    assert!(meta::has_finalizer(&class.metadata, "kubernetes.io/vac-protection"));
    let mut wish = claim("data", "");
    wish["spec"]["volumeAttributesClassName"] = json!("fast");
    cluster.create(wish).await;
    cluster.create(volume("plain", "", None)).await;
    let mut fast = volume("fast", "", None);
    fast["spec"]["volumeAttributesClassName"] = json!("fast");
    cluster.create(fast).await;
    let bound = || async { claims(&cluster).await.iter().filter_map(bound_volume).collect::<Vec<_>>() };
    cluster.eventually("the claim to have the volume of its class", || async { bound().await == ["fast"] }).await;
    let data = claims(&cluster).await.remove(0);
    let status = data.status.clone().unwrap_or_default();
    assert_eq!(status.current_volume_attributes_class_name.as_deref(), Some("fast"));

    call::delete(&cluster.client, &class, DeleteParams::default()).await.unwrap();
    let there = || async { call::get::<VolumeAttributesClass>(&cluster.client, "", "fast").await.unwrap() };
    call::delete(&cluster.client, &data, DeleteParams::default()).await.unwrap();
    cluster.eventually("the claim to be gone", || async { claims(&cluster).await.is_empty() }).await;
    assert!(
        there().await.is_some_and(|class| class.metadata.deletion_timestamp.is_some()),
        "its volume names it still"
    );
    let volume = call::get::<PersistentVolume>(&cluster.client, "", "fast").await.unwrap().unwrap();
    call::delete(&cluster.client, &volume, DeleteParams::default()).await.unwrap();
    cluster.eventually("the class to be gone", || async { there().await.is_none() }).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pod_goes_where_its_volume_is() {
    let cluster = start(3).await;
    let class: StorageClass = serde_json::from_value(json!({
        "metadata": {"name": "disks"}, "provisioner": "kubernetes.io/no-provisioner", "volumeBindingMode": "WaitForFirstConsumer",
    }))
    .unwrap();
    call::create(&cluster.client, &class).await.unwrap();
    cluster.create(claim("data", "disks")).await;
    let pod = |name: &str| {
        json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": "default"},
            "spec": {"containers": [{"name": "c", "image": "i"}], "volumes": [{"name": "v", "persistentVolumeClaim": {"claimName": "data"}}]}})
    };
    cluster.create(pod("p")).await;
    let get = |name: &'static str| {
        let client = cluster.client.clone();
        async move { call::get::<Pod>(&client, "default", name).await.unwrap().unwrap() }
    };
    cluster
        .eventually("the pod to say what it lacks", || async {
            let conditions = get("p").await.status.and_then(|status| status.conditions).unwrap_or_default();
            conditions.iter().any(|c| {
                c.message
                    .as_deref()
                    .is_some_and(|m| m.contains("3 node(s) didn't find available persistent volumes to bind"))
            })
        })
        .await;
    cluster.create(volume("disk", "disks", Some("n2"))).await;
    cluster
        .eventually("the pod to run where the disk is", || async {
            get("p").await.spec.and_then(|spec| spec.node_name).as_deref() == Some("n2")
        })
        .await;
    // The volume is the claim's before the pod is placed; that the claim is bound, its status says a moment later.
    let volumes = claims(&cluster).await.into_iter().filter_map(|claim| claim.spec?.volume_name);
    assert_eq!(volumes.collect::<Vec<_>>(), ["disk"]);
    let bound = || async { claims(&cluster).await.iter().filter_map(bound_volume).collect::<Vec<_>>() };
    cluster.eventually("the claim to say that it is bound", || async { bound().await == ["disk"] }).await;
    // In use, the claim stays, and nobody else may begin to use it.
    let data = claims(&cluster).await.remove(0);
    call::delete(&cluster.client, &data, DeleteParams::default()).await.unwrap();
    // What the scheduler decides before it has heard of the deletion is undone by nobody: the claim waits for its pods.
    let is_going = |claim: &PersistentVolumeClaim| claim.metadata.deletion_timestamp.is_some();
    cluster.known("the claim's deletion to be known", "default", "data", is_going).await;
    cluster.create(pod("late")).await;
    cluster
        .eventually("the late pod to be told", || async {
            let conditions = get("late").await.status.and_then(|status| status.conditions).unwrap_or_default();
            conditions.iter().any(|c| {
                c.message.as_deref().is_some_and(|m| m.contains("persistentvolumeclaim \"data\" is being deleted"))
            })
        })
        .await;
    assert_eq!(claims(&cluster).await.len(), 1);
    call::delete(&cluster.client, &get("p").await, DeleteParams::default()).await.unwrap();
    cluster.eventually("the claim to go with its pod", || async { claims(&cluster).await.is_empty() }).await;
    assert!(meta::has_finalizer(&data.metadata, "kubernetes.io/pvc-protection"));
}
