//! Gives each node a range of its own for its pods' addresses, once and for as long as the node is there, and tells it
//! the range of the whole cluster.
//! (<https://kubernetes.io/docs/reference/command-line-tools-reference/kube-controller-manager/>, `--allocate-node-cidrs`)

mod plan;

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use k8s_openapi::api::core::v1::Node;
use knarr_api::cidr::Ipv4Cidr;
use knarr_client::{Informer, ObjectKey, Outcome, WorkQueue, call, errors, meta, worker};
use kube::{Api, api::ListParams};
use serde_json::json;

use crate::{Context, Error};

pub const NAME: &str = "node-ipam-controller";
/// Where a node finds the range of all nodes' pods, which need no masquerade among each other.
const CLUSTER_RANGE: &str = "knarr.dev/cluster-pod-cidr";

struct Controller {
    context: Context,
    nodes: Informer<Node>,
    cluster: Ipv4Cidr,
    given: Mutex<Given>,
}

#[derive(Default)]
struct Given {
    /// What was written, or may have been, and is not seen in the cache yet; by the node's uid.
    unseen: HashMap<String, Ipv4Cidr>,
    cursor: u32,
}

pub async fn run(context: Context, cluster: Ipv4Cidr) {
    let queue = WorkQueue::new(context.cancel.clone());
    let nodes = context.informers.of::<Node>();
    if !nodes.synced().await {
        return;
    }
    // The cache may lack what a former run wrote; the server does not.
    let live = match Api::<Node>::all(context.client.clone()).list(&ListParams::default()).await {
        Ok(live) => live.items,
        Err(error) => return tracing::warn!(%error, "the nodes' pod ranges cannot be read; trying again"),
    };
    let unseen = live.iter().filter_map(|node| Some((meta::uid(&node.metadata).to_owned(), range_of(node)?))).collect();
    let given = Mutex::new(Given { unseen, cursor: 0 });
    let controller = Arc::new(Controller { context, nodes: nodes.clone(), cluster, given });
    let feeding = controller.clone();
    nodes.feed(&queue, move |change| {
        if let Some(node) = &change.new {
            return vec![ObjectKey::of(&**node)];
        }
        // What a node leaves is for those that wait.
        feeding.given().unseen.remove(meta::uid(&change.latest().metadata));
        let waiting = feeding.nodes.list().into_iter().filter(|node| range_of(node).is_none());
        waiting.map(|node| ObjectKey::of(&*node)).collect()
    });
    // One at a time: each has to see what the one before it got.
    worker::run(NAME, queue, 1, move |key| {
        let controller = controller.clone();
        async move { controller.reconcile(key).await }
    })
    .await;
}

fn range_of(node: &Node) -> Option<Ipv4Cidr> {
    node.spec.as_ref()?.pod_cidr.as_deref()?.parse().ok()
}

impl Controller {
    async fn reconcile(&self, key: ObjectKey) -> Result<Outcome, Error> {
        let Some(node) = self.nodes.get("", &key.name) else { return Ok(Outcome::Done) };
        let uid = meta::uid(&node.metadata);
        let has = node.spec.as_ref().and_then(|spec| spec.pod_cidr.clone()).filter(|range| !range.is_empty());
        let knows = node.metadata.annotations.as_ref().and_then(|all| all.get(CLUSTER_RANGE));
        if has.is_some() {
            self.given().unseen.remove(uid);
            if knows == Some(&self.cluster.to_string()) {
                return Ok(Outcome::Done);
            }
        }
        let annotations = json!({CLUSTER_RANGE: self.cluster.to_string()});
        let mut patch = json!({"metadata": {"uid": uid, "annotations": annotations}});
        if has.is_none() {
            let Some(range) = self.choose(uid) else {
                let message = format!("Node {} status is now: CIDRNotAvailable", key.name);
                self.context.recorder.normal(&*node, "CIDRNotAvailable", message);
                return Ok(Outcome::Done);
            };
            patch["spec"] = json!({"podCIDR": range, "podCIDRs": [range]});
        }
        let written = errors::optional(call::merge(&self.context.client, &*node, patch).await);
        written.map_err(Error::api("giving the node its pod range"))?;
        Ok(Outcome::Done)
    }

    /// The range for a node that has none; the same one again where the first answer got lost.
    fn choose(&self, uid: &str) -> Option<Ipv4Cidr> {
        let nodes = self.nodes.list();
        let mut given = self.given();
        if let Some(range) = given.unseen.get(uid) {
            return Some(*range);
        }
        let taken: Vec<_> =
            nodes.iter().filter_map(|node| range_of(node)).chain(given.unseen.values().copied()).collect();
        let (range, cursor) = plan::next(&self.cluster, &taken, given.cursor)?;
        given.cursor = cursor;
        given.unseen.insert(uid.to_owned(), range);
        Some(range)
    }

    fn given(&self) -> MutexGuard<'_, Given> {
        self.given.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
