//! Writes EndpointSlices for the Endpoints that somebody keeps by hand behind a Service without a selector: the service
//! proxies and DNS read slices only.
//! (<https://kubernetes.io/docs/concepts/services-networking/service/#endpointslice-mirroring>)

mod plan;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use k8s_openapi::api::{
    core::v1::{Endpoints, Service},
    discovery::v1::EndpointSlice,
};
use knarr_client::{Informer, ObjectKey, Outcome, WorkQueue, worker};

use crate::{
    Context, Error,
    common::slices::{self, Action},
};
use plan::{MANAGED_BY, MAX_PER_SUBSET};

pub const NAME: &str = "endpointslicemirroring-controller";
const WORKERS: usize = 5;
const BY_MIRRORED: &str = "mirrored-endpoints";

struct Controller {
    context: Context,
    services: Informer<Service>,
    endpoints: Informer<Endpoints>,
    slices: Informer<EndpointSlice>,
}

pub async fn run(context: Context) {
    let queue = WorkQueue::new(context.cancel.clone());
    let controller = Arc::new(Controller {
        services: context.informers.of(),
        endpoints: context.informers.of(),
        slices: context.informers.of(),
        context,
    });
    let Controller { services, endpoints, slices, .. } = &*controller;
    slices.add_index(BY_MIRRORED, |slice| {
        slices::service_of(slice, MANAGED_BY).map(|key| key.to_string()).into_iter().collect()
    });
    if !(services.synced().await && endpoints.synced().await && slices.synced().await) {
        return;
    }
    // Both bear the same name.
    services.feed_keys(&queue);
    endpoints.feed_keys(&queue);
    // Somebody may have changed or deleted what is ours.
    slices.feed(&queue, |change| slices::service_of(change.latest(), MANAGED_BY));
    worker::run(NAME, queue, WORKERS, move |key| {
        let controller = controller.clone();
        async move { controller.reconcile(key).await }
    })
    .await;
}

impl Controller {
    async fn reconcile(&self, key: ObjectKey) -> Result<Outcome, Error> {
        let slices = self.slices.by_index(BY_MIRRORED, &key.to_string());
        let client = &self.context.client;
        let service = self.services.get(&key.namespace, &key.name);
        let there = self.endpoints.get(&key.namespace, &key.name);
        let wanted = there.filter(|endpoints| plan::is_mirrored(endpoints, service.as_deref()));
        let Some(endpoints) = wanted else {
            return slices::carry_out(client, slices.into_iter().map(Action::Delete).collect()).await;
        };
        let plan::Plan { actions, invalid, skipped } = plan::plan(&endpoints, &slices);
        let is_news = !actions.is_empty();
        if is_news && invalid > 0 {
            let message = format!("Skipped {invalid} invalid IP addresses when mirroring to EndpointSlices");
            self.context.recorder.warning(&*endpoints, "InvalidIPAddress", message);
        }
        if is_news && skipped > invalid {
            let message = format!(
                "A max of {MAX_PER_SUBSET} addresses can be mirrored to EndpointSlices per Endpoints subset. \
                 {skipped} addresses were skipped"
            );
            self.context.recorder.warning(&*endpoints, "TooManyAddressesToMirror", message);
        }
        slices::carry_out(client, actions).await
    }
}
