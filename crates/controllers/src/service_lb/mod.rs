//! Gives Services of type LoadBalancer an address: that of a Ready node, where the service proxy answers on the
//! Service's ports. A port of an address belongs to one Service; others that want it wait until it is free. A cluster
//! with a load balancer of its own sets `spec.loadBalancerClass`, and is left alone.

mod plan;

use k8s_openapi::api::core::v1::{Node, Service};
use knarr_client::{Informer, ObjectKey, Outcome, WorkQueue, call, errors, worker};

use crate::{Context, Error};

pub const NAME: &str = "service-lb-controller";

pub async fn run(context: Context) {
    let queue = WorkQueue::new(context.cancel.clone());
    let services = context.informers.of::<Service>();
    let nodes = context.informers.of::<Node>();
    if !(services.synced().await && nodes.synced().await) {
        return;
    }
    let all = services.clone();
    services.feed(&queue, move |change| {
        let mut keys = vec![ObjectKey::of(&**change.latest())];
        // What one gives back, and what two hold, is others' business too.
        if change.old.as_deref().map(plan::claims) != change.new.as_deref().map(plan::claims) {
            keys.extend(all.list().iter().filter(|other| plan::is_ours(other)).map(|other| ObjectKey::of(&**other)));
        }
        keys
    });
    let all = services.clone();
    nodes.feed(&queue, move |change| {
        let changed = change.old.as_deref().and_then(plan::address) != change.new.as_deref().and_then(plan::address);
        let services = if changed { all.list() } else { Vec::new() };
        services.into_iter().map(|service| ObjectKey::of(&*service)).collect::<Vec<_>>()
    });
    worker::run(NAME, queue, 1, move |key| {
        let (context, services, nodes) = (context.clone(), services.clone(), nodes.clone());
        async move { reconcile(&context, &services, &nodes, key).await }
    })
    .await;
}

async fn reconcile(
    context: &Context,
    services: &Informer<Service>,
    nodes: &Informer<Node>,
    key: ObjectKey,
) -> Result<Outcome, Error> {
    let Some(service) = services.get(&key.namespace, &key.name) else { return Ok(Outcome::Done) };
    let outcome = plan::ingress(&service, &nodes.list(), &services.list());
    if let Some(taken) = outcome.taken {
        let message = format!("Error syncing load balancer: failed to ensure load balancer: {taken}");
        context.recorder.warning(&*service, "SyncLoadBalancerFailed", message);
    }
    if let Some(ingress) = outcome.ingress {
        let patch = serde_json::json!({"status": {"loadBalancer": {"ingress": ingress}}});
        let patched = errors::optional(call::merge_subresource(&context.client, &*service, "status", patch).await);
        patched.map_err(Error::api("writing the load balancer's address"))?;
    }
    Ok(Outcome::Done)
}
