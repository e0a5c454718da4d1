//! Claims of devices, through templates, controller and scheduler together.

use std::collections::BTreeSet;

use k8s_openapi::api::{core::v1::Pod, resource::v1::ResourceClaim};
use knarr_client::{call, meta};
use kube::{Api, api::DeleteParams};
use serde_json::{Value, json};

use crate::harness::{Cluster, start};

const DEVICES: &str = "resource.k8s.io/v1";

fn slice(node: &str, devices: &[&str]) -> Value {
    let devices: Vec<_> = devices.iter().map(|name| json!({"name": name})).collect();
    json!({"apiVersion": DEVICES, "kind": "ResourceSlice", "metadata": {"name": format!("gpus-{node}")}, "spec": {
        "driver": "gpu.example.com", "nodeName": node, "devices": devices,
        "pool": {"name": node, "generation": 1, "resourceSliceCount": 1}}})
}

fn spec() -> Value {
    json!({"devices": {"requests": [{"name": "gpu", "exactly": {"deviceClassName": "gpu"}}]}})
}

fn pod(name: &str, claim: Value) -> Value {
    let claim = json_merged(json!({"name": "gpu"}), claim);
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": "default"}, "spec": {
        "resourceClaims": [claim],
        "containers": [{"name": "c", "image": "i", "resources": {"claims": [{"name": "gpu"}]}}]}})
}

fn json_merged(mut base: Value, other: Value) -> Value {
    base.as_object_mut().unwrap().extend(other.as_object().unwrap().clone());
    base
}

async fn start_with_gpus() -> Cluster {
    let cluster = start(2).await;
    cluster.create(slice("n0", &["a"])).await;
    cluster.create(slice("n1", &["a", "b"])).await;
    let class = json!([{"cel": {"expression": "device.driver == 'gpu.example.com'"}}]);
    cluster
        .create(json!({"apiVersion": DEVICES, "kind": "DeviceClass", "metadata": {"name": "gpu"}, "spec": {"selectors": class}}))
        .await;
    cluster
}

async fn claims(cluster: &Cluster) -> Vec<ResourceClaim> {
    let claims: Api<ResourceClaim> = Api::namespaced(cluster.client.clone(), "default");
    claims.list(&Default::default()).await.unwrap().items
}

/// `POOL/DEVICE` of each claim that has any.
async fn given(cluster: &Cluster) -> Vec<String> {
    let all = claims(cluster).await;
    let results =
        all.iter().filter_map(|claim| claim.status.as_ref()?.allocation.as_ref()?.devices.as_ref()?.results.as_ref());
    results.flatten().map(|result| format!("{}/{}", result.pool, result.device)).collect()
}

async fn running(cluster: &Cluster) -> Vec<Pod> {
    let is_running = |pod: &Pod| pod.status.as_ref().is_some_and(|status| status.phase.as_deref() == Some("Running"));
    cluster.pods("default").await.into_iter().filter(is_running).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pods_that_compete_get_a_device_each_and_then_the_next() {
    let cluster = start_with_gpus().await;
    for i in 0..6 {
        cluster.create(pod(&format!("p{i}"), json!({"resourceClaimTemplateName": "one"}))).await;
    }
    cluster
        .create(json!({"apiVersion": DEVICES, "kind": "ResourceClaimTemplate", "metadata": {"name": "one", "namespace": "default"},
            "spec": {"metadata": {"labels": {"made": "yes"}}, "spec": spec()}}))
        .await;
    cluster.eventually("three pods", || async { running(&cluster).await.len() == 3 }).await;
    cluster
        .eventually("the others' reason", || async {
            let pods = cluster.pods("default").await;
            let told = pods.iter().filter(|pod| {
                let conditions = pod.status.iter().flat_map(|status| status.conditions.iter().flatten());
                let mut messages = conditions.filter_map(|condition| condition.message.as_deref());
                messages.any(|message| message.starts_with("0/2 nodes are available: 2 cannot allocate all claims. "))
            });
            told.count() == 3
        })
        .await;
    let mut seen = BTreeSet::new();
    for round in 0..2 {
        let given = given(&cluster).await;
        assert_eq!(given.len(), 3, "{given:?}");
        assert_eq!(given.into_iter().collect::<BTreeSet<_>>().len(), 3, "each has a device of its own");
        let now = running(&cluster).await;
        seen.extend(now.iter().map(|pod| meta::name(&pod.metadata).to_owned()));
        if round == 0 {
            for pod in &now {
                call::delete(&cluster.client, pod, DeleteParams::default()).await.unwrap();
            }
            cluster
                .eventually("the next three", || async {
                    let next = running(&cluster).await;
                    next.len() == 3 && next.iter().all(|pod| !seen.contains(meta::name(&pod.metadata)))
                })
                .await;
            cluster
                .eventually("the claims of those that left go", || async { claims(&cluster).await.len() == 3 })
                .await;
        }
    }
    assert_eq!(seen.len(), 6);
    let claim = claims(&cluster).await.remove(0);
    assert_eq!(meta::label(&claim.metadata, "made"), Some("yes"));
    assert!(
        meta::name(&claim.metadata)
            .starts_with(&format!("{}-gpu-", meta::controller_of(&claim.metadata).unwrap().name))
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_claim_is_shared_and_gives_its_device_back_with_its_last_user() {
    let cluster = start_with_gpus().await;
    cluster
        .create(json!({"apiVersion": DEVICES, "kind": "ResourceClaim", "metadata": {"name": "shared", "namespace": "default"}, "spec": spec()}))
        .await;
    for name in ["x", "y"] {
        cluster.create(pod(name, json!({"resourceClaimName": "shared"}))).await;
    }
    cluster.eventually("both pods", || async { running(&cluster).await.len() == 2 }).await;
    let nodes: BTreeSet<_> = running(&cluster).await.into_iter().map(|pod| pod.spec.unwrap().node_name).collect();
    assert_eq!(nodes.len(), 1, "both are where the device is");
    let users = || async {
        let claim = claims(&cluster).await.remove(0);
        (knarr_api::device::users(&claim).len(), knarr_api::device::is_allocated(&claim), claim.metadata.finalizers)
    };
    let protected = Some(vec![knarr_api::device::FINALIZER.to_owned()]);
    assert_eq!(users().await, (2, true, protected.clone()));
    for (left, is_allocated) in [(1, true), (0, false)] {
        let pod = running(&cluster).await.remove(0);
        call::delete(&cluster.client, &pod, DeleteParams::default()).await.unwrap();
        cluster
            .eventually("one user less", || async {
                let (users, allocated, _) = users().await;
                (users, allocated) == (left, is_allocated)
            })
            .await;
    }
    cluster.eventually("no finalizer", || async { users().await.2.is_none() }).await;
}
