//! Owners and dependents that lists alone do not show.

use k8s_openapi::api::core::v1::ConfigMap;
use knarr_client::{call, meta};
use kube::api::DeleteParams;
use serde_json::json;

use super::{
    get,
    harness::{Cluster, start},
};

const RING: [&str; 3] = ["one", "two", "three"];

/// Each is owned by the one before it, and the first by the last.
async fn ring(cluster: &Cluster) {
    for name in RING {
        cluster
            .create(
                json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "namespace": "default"}}),
            )
            .await;
    }
    for (index, name) in RING.iter().enumerate() {
        let owner = get::<ConfigMap>(cluster, RING[(index + RING.len() - 1) % RING.len()]).await.unwrap();
        let reference = json!({"apiVersion": "v1", "kind": "ConfigMap", "name": owner.metadata.name, "uid": meta::uid(&owner.metadata),
            "controller": true, "blockOwnerDeletion": true});
        let there = get::<ConfigMap>(cluster, name).await.unwrap();
        call::merge(&cluster.client, &there, json!({"metadata": {"ownerReferences": [reference]}})).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_circle_of_owners_goes_whoever_is_deleted_first() {
    let cluster = start(0).await;
    for deleted in [&RING[..1], &RING[..]] {
        ring(&cluster).await;
        for name in deleted {
            // The first of them may have taken it along already.
            if let Some(there) = get::<ConfigMap>(&cluster, name).await {
                call::delete(&cluster.client, &there, DeleteParams::foreground()).await.unwrap();
            }
        }
        for name in RING {
            cluster.eventually("the circle to go", || async { get::<ConfigMap>(&cluster, name).await.is_none() }).await;
        }
    }
}
