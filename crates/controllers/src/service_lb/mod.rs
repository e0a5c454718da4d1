//! Gives Services of type LoadBalancer an address.
//!
//! With a pool each gets one of its own from there, and one node is chosen to answer for it: the choice is written on
//! the Service, all nodes read it there, and it falls on another node as soon as the one that has it can no longer
//! serve. Without a pool the address is that of a Ready node, where the service proxy answers on the Service's ports; a
//! port of an address belongs to one Service, and others that want it wait until it is free. A cluster with a load
//! balancer of its own sets `spec.loadBalancerClass`, and is left alone.

mod plan;
mod pool;

use std::{
    collections::{BTreeSet, HashMap},
    sync::{Arc, Mutex, PoisonError},
};

use k8s_openapi::api::{
    core::v1::{Node, Service},
    discovery::v1::EndpointSlice,
};
use knarr_client::{Informer, ObjectKey, Outcome, WorkQueue, call, errors, meta, worker};
use serde_json::json;

use crate::{Context, Error};
pub use pool::{AddressPool, PoolError};

pub const NAME: &str = "service-lb-controller";
const SERVICE_NAME: &str = "kubernetes.io/service-name";

struct Controller {
    context: Context,
    services: Informer<Service>,
    nodes: Informer<Node>,
    slices: Informer<EndpointSlice>,
    pool: Option<AddressPool>,
    /// Services as they were written last, by uid, until the cache shows it: no address must be given twice.
    written: Mutex<HashMap<String, Arc<Service>>>,
}

pub async fn run(context: Context, pool: Option<AddressPool>) {
    let queue = WorkQueue::new(context.cancel.clone());
    let controller = Arc::new(Controller {
        services: context.informers.of(),
        nodes: context.informers.of(),
        slices: context.informers.of(),
        pool,
        written: Mutex::default(),
        context,
    });
    let Controller { services, nodes, slices, .. } = &*controller;
    slices.index_by_label(SERVICE_NAME);
    if !(services.synced().await && nodes.synced().await && slices.synced().await) {
        return;
    }
    controller.feed(&queue);
    worker::run(NAME, queue, 1, move |key| {
        let controller = controller.clone();
        async move { controller.reconcile(key).await }
    })
    .await;
}

impl Controller {
    fn feed(&self, queue: &WorkQueue<ObjectKey>) {
        let all = self.services.clone();
        let ours = move || {
            let services = all.list().into_iter().filter(|service| plan::is_ours(service));
            services.map(|service| ObjectKey::of(&*service)).collect::<Vec<_>>()
        };
        let others = ours.clone();
        self.services.feed(queue, move |change| {
            let mut keys = vec![ObjectKey::of(&**change.latest())];
            // What one gives back, and what two hold, is others' business too.
            if change.old.as_deref().map(plan::claims) != change.new.as_deref().map(plan::claims) {
                keys.extend(others());
            }
            keys
        });
        self.nodes.feed(queue, move |change| {
            let seen = |node: &Option<Arc<Node>>| {
                node.as_deref().map(|node| (plan::can_serve(node), plan::address(node).map(str::to_owned)))
            };
            if seen(&change.old) == seen(&change.new) { Vec::new() } else { ours() }
        });
        let services = self.services.clone();
        self.slices.feed(queue, move |change| {
            let meta = &change.latest().metadata;
            let service = services.get(meta::namespace(meta), meta::label(meta, SERVICE_NAME)?)?;
            plan::serves_locally(&service).then(|| ObjectKey::of(&*service))
        });
    }

    async fn reconcile(&self, key: ObjectKey) -> Result<Outcome, Error> {
        let services = self.current();
        let Some(service) = services.iter().find(|service| ObjectKey::of(&***service) == key) else {
            return Ok(Outcome::Done);
        };
        let serving = if plan::serves_locally(service) { self.serving(&key) } else { BTreeSet::new() };
        let nodes = self.nodes.list();
        let site = plan::Site { nodes: &nodes, services: &services, pool: self.pool.as_ref(), serving: &serving };
        let plan::Outcome { ingress, announcer, refusal } = plan::decide(service, &site);
        let recorder = &self.context.recorder;
        if let Some(refusal) = refusal {
            let message = format!("Error syncing load balancer: failed to ensure load balancer: {refusal}");
            recorder.warning(&**service, "SyncLoadBalancerFailed", message);
        }
        let mut patch = json!({});
        if let Some(ingress) = &ingress {
            patch["status"] = json!({"loadBalancer": {"ingress": ingress}});
        }
        if let Some(announcer) = &announcer {
            patch["metadata"] = json!({"annotations": {plan::ANNOUNCED_BY: announcer}});
        }
        if ingress.is_none() && announcer.is_none() {
            return Ok(Outcome::Done);
        }
        // Both at once: an address that is shown is one that somebody answers for.
        let written = call::merge_subresource(&self.context.client, &**service, "status", patch).await;
        let written = errors::optional(written).map_err(Error::api("writing the load balancer's address"))?;
        let Some(written) = written else { return Ok(Outcome::Done) };
        if ingress.is_some_and(|ingress| !ingress.is_empty()) {
            recorder.normal(&written, "EnsuredLoadBalancer", "Ensured load balancer");
        }
        if let Some(Some(node)) = announcer {
            recorder.normal(
                &written,
                "nodeAssigned",
                format!("announcing from node {node:?} with protocol \"layer2\""),
            );
        }
        let mut memory = self.written.lock().unwrap_or_else(PoisonError::into_inner);
        memory.insert(meta::uid(&written.metadata).to_owned(), Arc::new(written));
        Ok(Outcome::Done)
    }

    /// All Services, those that were just written as they were written.
    fn current(&self) -> Vec<Arc<Service>> {
        let mut services = self.services.list();
        let mut written = self.written.lock().unwrap_or_else(PoisonError::into_inner);
        let mut unseen = HashMap::new();
        for service in &mut services {
            let Some(newer) = written.remove(meta::uid(&service.metadata)) else { continue };
            if meta::version(&newer.metadata) > meta::version(&service.metadata) {
                *service = newer.clone();
                unseen.insert(meta::uid(&newer.metadata).to_owned(), newer);
            }
        }
        *written = unseen;
        services
    }

    /// The nodes with an endpoint of a Service that is ready.
    fn serving(&self, service: &ObjectKey) -> BTreeSet<String> {
        let slices = self.slices.by_index(SERVICE_NAME, &service.name).into_iter();
        let slices = slices.filter(|slice| meta::namespace(&slice.metadata) == service.namespace);
        let mut nodes = BTreeSet::new();
        for endpoint in slices.flat_map(|slice| slice.endpoints.clone().unwrap_or_default()) {
            let is_ready = endpoint.conditions.as_ref().and_then(|conditions| conditions.ready).unwrap_or(true);
            nodes.extend(endpoint.node_name.filter(|_| is_ready));
        }
        nodes
    }
}
