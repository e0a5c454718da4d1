//! Writes the older form of a Service's endpoints, one Endpoints object of its name, for clients that still read it.
//! Pods that terminate are not in it, and no more than 1000 addresses are. Endpoints go with their Service whoever made
//! them; those that were there before any Service of their name wait for one.

mod plan;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use k8s_openapi::api::core::v1::{Endpoints, Service};
use knarr_client::{Informer, ObjectKey, Outcome, WorkQueue, call, errors, lean::Pod, meta, worker};
use kube::api::DeleteParams;

use crate::{Context, Error, common::service};

pub const NAME: &str = "endpoint-controller";
const WORKERS: usize = 5;

struct Controller {
    context: Context,
    services: Informer<Service>,
    pods: Informer<Pod>,
    endpoints: Informer<Endpoints>,
}

pub async fn run(context: Context) {
    let queue = WorkQueue::new(context.cancel.clone());
    let controller = Arc::new(Controller {
        services: context.informers.of(),
        pods: context.informers.of(),
        endpoints: context.informers.of(),
        context,
    });
    let Controller { services, pods, endpoints, .. } = &*controller;
    if !(services.synced().await && pods.synced().await && endpoints.synced().await) {
        return;
    }
    services.feed_keys(&queue);
    service::feed_by_pods(&queue, services, pods);
    endpoints.feed_keys(&queue);
    let left_over = WorkQueue::new(queue.cancellation().clone());
    services.feed(&left_over, |change| change.is_deletion().then(|| ObjectKey::of(&**change.latest())));
    // Nobody was here to see their Services go.
    for one in endpoints.list() {
        let key = ObjectKey::of(&*one);
        if services.get(&key.namespace, &key.name).is_none()
            && meta::annotation(&one.metadata, service::LEADER).is_none()
        {
            left_over.add(key);
        }
    }
    let cleaner = controller.clone();
    let clean = worker::run(NAME, left_over, 1, move |key| {
        let cleaner = cleaner.clone();
        async move { cleaner.clean(key).await }
    });
    let write = worker::run(NAME, queue, WORKERS, move |key| {
        let controller = controller.clone();
        async move { controller.reconcile(key).await }
    });
    tokio::join!(clean, write);
}

impl Controller {
    /// Deletes Endpoints that somebody else made and whose Service is gone; `reconcile` deletes what is ours.
    async fn clean(&self, key: ObjectKey) -> Result<Outcome, Error> {
        let there = self.endpoints.get(&key.namespace, &key.name);
        let Some(there) = there.filter(|there| !plan::is_ours(there)) else { return Ok(Outcome::Done) };
        let client = &self.context.client;
        let service: Option<Service> =
            call::get(client, &key.namespace, &key.name).await.map_err(Error::api("reading the Service"))?;
        if service.is_none() {
            let deleted = call::delete(client, &*there, DeleteParams::default()).await;
            deleted.map_err(Error::api("deleting Endpoints"))?;
        }
        Ok(Outcome::Done)
    }

    async fn reconcile(&self, key: ObjectKey) -> Result<Outcome, Error> {
        let there = self.endpoints.get(&key.namespace, &key.name);
        let client = &self.context.client;
        let Some(service) = self.services.get(&key.namespace, &key.name) else {
            // What this controller made is of no use without the Service; what somebody else made may await one.
            if let Some(orphan) = there.filter(|there| plan::is_ours(there)) {
                let deleted = call::delete(client, &*orphan, DeleteParams::default()).await;
                deleted.map_err(Error::api("deleting Endpoints"))?;
            }
            return Ok(Outcome::Done);
        };
        let Some(pods) = service::selected(&service, &self.pods) else { return Ok(Outcome::Done) };
        let wanted = plan::endpoints(&service, &pods, there.as_deref());
        let written = match &there {
            Some(there) if **there == wanted => return Ok(Outcome::Done),
            Some(_) => call::replace(client, &wanted).await,
            None => call::create(client, &wanted).await,
        };
        match written {
            Ok(_) => Ok(Outcome::Done),
            Err(error) if errors::is_namespace_terminating(&error) => Ok(Outcome::Done),
            Err(source) => {
                tracing::debug!(service = meta::name(&service.metadata), "endpoints not written");
                Err(Error::Api { what: "writing Endpoints", source })
            }
        }
    }
}
