//! Writes down, in EndpointSlices, which pods stand behind each Service and in what state they are. The service
//! proxies and DNS read nothing else.
//! (<https://kubernetes.io/docs/concepts/services-networking/endpoint-slices/>)

mod hints;
mod plan;
#[cfg(test)]
mod tests;

use std::{collections::BTreeSet, sync::Arc};

use k8s_openapi::api::{
    core::v1::{Node, Service},
    discovery::v1::EndpointSlice,
};
use knarr_client::{Informer, ObjectKey, Outcome, WorkQueue, lean::Pod, meta, worker};

use crate::{
    Context, Error,
    common::{service, slices},
};
use plan::MANAGED_BY;

pub const NAME: &str = "endpointslice-controller";
const WORKERS: usize = 5;
const BY_SERVICE: &str = "service";
/// Finds the slices with an endpoint on a node.
const BY_NODE: &str = "endpoint-node";

struct Controller {
    context: Context,
    services: Informer<Service>,
    pods: Informer<Pod>,
    nodes: Informer<Node>,
    slices: Informer<EndpointSlice>,
}

pub async fn run(context: Context) {
    let queue = WorkQueue::new(context.cancel.clone());
    let controller = Arc::new(Controller {
        services: context.informers.of(),
        pods: context.informers.of(),
        nodes: context.informers.of(),
        slices: context.informers.of(),
        context,
    });
    let Controller { services, pods, nodes, slices, .. } = &*controller;
    slices.add_index(BY_SERVICE, |slice| {
        slices::service_of(slice, MANAGED_BY).map(|key| key.to_string()).into_iter().collect()
    });
    slices.add_index(BY_NODE, nodes_of);
    if !(services.synced().await && pods.synced().await && nodes.synced().await && slices.synced().await) {
        return;
    }
    services.feed_keys(&queue);
    service::feed_by_pods(&queue, services, pods);
    // Somebody may have changed or deleted what is ours.
    slices.feed(&queue, |change| slices::service_of(change.latest(), MANAGED_BY));
    feed_by_zones(&queue, nodes, slices);
    worker::run(NAME, queue, WORKERS, move |key| {
        let controller = controller.clone();
        async move { controller.reconcile(key).await }
    })
    .await;
}

fn nodes_of(slice: &EndpointSlice) -> Vec<String> {
    let nodes: BTreeSet<_> =
        slice.endpoints.iter().flatten().filter_map(|endpoint| endpoint.node_name.clone()).collect();
    nodes.into_iter().collect()
}

/// Endpoints show the zone of their node, so a node that comes into another zone is looked at in each slice that
/// names it. A slice that is being written meanwhile is looked at again when it is seen.
fn feed_by_zones(queue: &WorkQueue<ObjectKey>, nodes: &Informer<Node>, slices: &Informer<EndpointSlice>) {
    let slices = slices.clone();
    nodes.feed(queue, move |change| {
        let [old, new] = [&change.old, &change.new].map(|node| meta::zone(&node.as_ref()?.metadata));
        if old == new {
            return Vec::new();
        }
        let there = slices.by_index(BY_NODE, meta::name(&change.latest().metadata));
        there.iter().filter_map(|slice| slices::service_of(slice, MANAGED_BY)).collect()
    });
}

impl Controller {
    async fn reconcile(&self, key: ObjectKey) -> Result<Outcome, Error> {
        let slices = self.slices.by_index(BY_SERVICE, &key.to_string());
        // With its Service gone the garbage collector takes the slices.
        let Some(service) = self.services.get(&key.namespace, &key.name) else { return Ok(Outcome::Done) };
        if service.metadata.deletion_timestamp.is_some() {
            return Ok(Outcome::Done);
        }
        let Some(pods) = service::selected(&service, &self.pods) else { return Ok(Outcome::Done) };
        let zone = |node: &str| meta::zone(&self.nodes.get("", node)?.metadata).map(str::to_owned);
        slices::carry_out(&self.context.client, plan::plan(&service, &pods, &slices, &zone)).await
    }
}
