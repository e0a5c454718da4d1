//! Writes down, in EndpointSlices, which pods stand behind each Service and in what state they are. The service
//! proxies and DNS read nothing else.
//! (<https://kubernetes.io/docs/concepts/services-networking/endpoint-slices/>)

mod plan;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use k8s_openapi::api::{
    core::v1::{Node, Pod, Service},
    discovery::v1::EndpointSlice,
};
use knarr_client::{Informer, ObjectKey, Outcome, WorkQueue, call, errors, meta, worker};
use kube::api::DeleteParams;

use crate::{Context, Error, common::service};
use plan::{Action, MANAGED_BY, SERVICE_NAME};

pub const NAME: &str = "endpointslice-controller";
const WORKERS: usize = 5;
const BY_SERVICE: &str = "service";

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
    slices.add_index(BY_SERVICE, |slice| service_of(slice).map(|key| key.to_string()).into_iter().collect());
    if !(services.synced().await && pods.synced().await && nodes.synced().await && slices.synced().await) {
        return;
    }
    services.feed_keys(&queue);
    service::feed_by_pods(&queue, services, pods);
    // Somebody may have changed or deleted what is ours.
    slices.feed(&queue, |change| service_of(change.latest()));
    worker::run(NAME, queue, WORKERS, move |key| {
        let controller = controller.clone();
        async move { controller.reconcile(key).await }
    })
    .await;
}

/// The Service that this controller keeps the slice for.
fn service_of(slice: &EndpointSlice) -> Option<ObjectKey> {
    let meta = &slice.metadata;
    let service = meta::label(meta, SERVICE_NAME)?;
    let ours = meta::label(meta, plan::MANAGED_BY_LABEL) == Some(MANAGED_BY);
    ours.then(|| ObjectKey::new(meta::namespace(meta), service))
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
        let zone = |node: &str| {
            let node = self.nodes.get("", node)?;
            meta::label(&node.metadata, "topology.kubernetes.io/zone").map(str::to_owned)
        };
        let client = &self.context.client;
        for action in plan::plan(&service, &pods, &slices, &zone) {
            match action {
                Action::Create(slice) => match call::create(client, &slice).await {
                    Ok(_) => {}
                    Err(error) if errors::is_namespace_terminating(&error) => return Ok(Outcome::Done),
                    Err(source) => return Err(Error::Api { what: "creating an EndpointSlice", source }),
                },
                Action::Update(slice) => {
                    call::replace(client, &slice).await.map_err(Error::api("updating an EndpointSlice"))?;
                }
                Action::Delete(slice) => {
                    let deleted = call::delete(client, &*slice, DeleteParams::default()).await;
                    deleted.map_err(Error::api("deleting an EndpointSlice"))?;
                }
            }
        }
        Ok(Outcome::Done)
    }
}
