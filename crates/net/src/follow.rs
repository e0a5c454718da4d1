//! Follows the Nodes of the cluster: takes this node's pod range from its own, and the ways to the others from theirs.

use std::{sync::Arc, time::Duration};

use k8s_openapi::api::core::v1::Node;
use knarr_client::Informers;
use tokio::sync::Notify;

use crate::{
    Ipv4Cidr,
    base::{Base, Ranges},
    error::{NetworkError, Result},
    ways,
};

/// The range of all nodes' pods, which the controller that gives out the ranges writes on each Node.
const CLUSTER_RANGE: &str = "knarr.dev/cluster-pod-cidr";
/// How often routes are looked at: the kernel drops those of a link that goes down, and puts none back.
const CHECK_EVERY: Duration = if cfg!(test) { Duration::from_millis(200) } else { Duration::from_secs(5) };
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// Runs until the informers are cancelled.
pub async fn watch(informers: Informers, base: Arc<Base>) {
    let nodes = informers.of::<Node>();
    let wake = Arc::new(Notify::new());
    let woken = wake.clone();
    let cancel = informers.cancellation().child_token();
    let _ends = cancel.clone().drop_guard();
    nodes.on_change_until(&cancel, move |change| {
        let seen = |node: &Option<Arc<Node>>| node.as_deref().map(|node| (ranges(node), ways::internal_ip(node)));
        if seen(&change.old) != seen(&change.new) {
            wake.notify_one();
        }
    });
    // A node that is not known yet is not one that is gone.
    if !nodes.synced().await {
        return;
    }
    let mut told = String::new();
    loop {
        let (list, base) = (nodes.list(), base.clone());
        let done =
            tokio::task::spawn_blocking(move || pass(&base, &list)).await.unwrap_or(Err(NetworkError::WorkerGone));
        let pause = match done {
            Ok(()) => {
                told.clear();
                CHECK_EVERY
            }
            Err(error) => {
                // Once for each trouble, not once a second.
                if told != error.to_string() {
                    told = error.to_string();
                    let error = &error as &dyn std::error::Error;
                    tracing::error!(error, "the way to other nodes' pods is not as it should be; trying again");
                }
                RETRY_AFTER
            }
        };
        let _ = tokio::time::timeout(pause, woken.notified()).await;
    }
}

fn pass(base: &Base, nodes: &[Arc<Node>]) -> Result<()> {
    let me = &*base.config.node_name;
    let own = nodes.iter().find(|node| node.metadata.name.as_deref() == Some(me));
    if let Some((node, cluster)) = own.and_then(|node| ranges(node)) {
        base.adopt(Ranges { node, cluster: cluster.unwrap_or(base.config.cluster_cidr) })?;
    }
    let Some(ranges) = base.ranges() else { return Ok(()) };
    let peers = ways::plan(nodes, me, base.config.overlay, &ways::uplinks(&base.links)?);
    ways::apply(&base.links, &base.config, &ranges.node, base.mtu, &peers)
}

/// A node's own range, and the cluster's where the node says it.
fn ranges(node: &Node) -> Option<(Ipv4Cidr, Option<Ipv4Cidr>)> {
    let range = node.spec.as_ref()?.pod_cidr.as_deref()?.parse().ok()?;
    let cluster = node.metadata.annotations.as_ref().and_then(|all| all.get(CLUSTER_RANGE)?.parse().ok());
    Some((range, cluster))
}
