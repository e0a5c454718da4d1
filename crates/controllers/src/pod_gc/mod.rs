//! Deletes pods that nobody will: of nodes that are gone, terminating ones that never had a node, and the oldest of
//! too many that have ended.

mod plan;

use std::{collections::HashMap, sync::Arc, time::Duration};

use k8s_openapi::api::core::v1::Node;
use knarr_client::{Informer, call, errors, informer::NODE_INDEX, lean::Pod, meta};
use kube::api::DeleteParams;
use tokio::time::Instant;

use crate::{Context, common::pods};

pub const NAME: &str = "pod-garbage-collector";
const PERIOD: Duration = Duration::from_secs(20);
/// A node has to be gone for so long: it may be registering anew.
const QUARANTINE: Duration = Duration::from_secs(40);

pub async fn run(context: Context) {
    let (all_pods, nodes) = (context.informers.of::<Pod>(), context.informers.of::<Node>());
    all_pods.index_by_node();
    if !(all_pods.synced().await && nodes.synced().await) {
        return;
    }
    let mut missing: HashMap<String, Instant> = HashMap::new();
    loop {
        tokio::select! {
            () = tokio::time::sleep(PERIOD) => {}
            () = context.cancel.cancelled() => return,
        }
        sweep(&context, &all_pods, &nodes, &mut missing).await;
    }
}

async fn sweep(context: &Context, all: &Informer<Pod>, nodes: &Informer<Node>, missing: &mut HashMap<String, Instant>) {
    let list = all.list();
    let now = Instant::now();
    let names = list.iter().map(|pod| pods::node_name(pod)).filter(|name| !name.is_empty());
    let absent: std::collections::BTreeSet<&str> = names.filter(|name| nodes.get("", name).is_none()).collect();
    missing.retain(|name, _| absent.contains(name.as_str()));
    for name in absent {
        missing.entry(name.to_owned()).or_insert(now);
    }
    for (name, since) in missing.iter().filter(|(_, since)| now.duration_since(**since) >= QUARANTINE) {
        // The cache may lag behind; the server decides.
        let is_gone = call::get::<Node>(&context.client, "", name).await.is_ok_and(|node| node.is_none());
        tracing::debug!(node = name, is_gone, waited = ?since.elapsed(), "pods of a missing node");
        if is_gone {
            for pod in all.by_index(NODE_INDEX, name) {
                delete(context, &pod).await;
            }
        }
    }
    for node in nodes.list().iter().filter(|node| plan::is_out_of_service(node)) {
        let on_node = all.by_index(NODE_INDEX, meta::name(&node.metadata));
        for pod in on_node.iter().filter(|pod| pods::is_terminating(pod)) {
            delete(context, pod).await;
        }
    }
    for pod in plan::to_delete(&list) {
        delete(context, &pod).await;
    }
}

async fn delete(context: &Context, pod: &Arc<Pod>) {
    let params = DeleteParams { grace_period_seconds: Some(0), ..DeleteParams::default() };
    if !pods::is_terminal(pod) {
        // So that whoever owns it sees it end: nobody else will say so.
        let patch = serde_json::json!({"metadata": {"uid": pod.metadata.uid}, "status": {"phase": "Failed"}});
        let patched = errors::optional(call::merge_subresource(&context.client, &**pod, "status", patch).await);
        if let Err(error) = patched {
            tracing::debug!(pod = meta::name(&pod.metadata), error = errors::message(&error), "phase not written");
        }
    }
    if let Err(error) = call::delete(&context.client, &**pod, params).await {
        tracing::warn!(pod = meta::name(&pod.metadata), error = errors::message(&error), "could not be collected");
    }
}
