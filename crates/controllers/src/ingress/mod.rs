//! The part of the built-in Ingress that is the cluster's and not a node's: the class that names it, and the addresses
//! at which Ingresses of that class are reached, which are those of the nodes.
//! (<https://kubernetes.io/docs/concepts/services-networking/ingress/>)

mod plan;

use k8s_openapi::api::{
    core::v1::Node,
    networking::v1::{Ingress, IngressClass},
};
use knarr_client::{Informer, ObjectKey, Outcome, WorkQueue, call, errors, worker};
use serde_json::json;

use crate::{Context, Error};

pub const NAME: &str = "ingress-controller";

pub async fn run(context: Context) {
    let queue = WorkQueue::new(context.cancel.clone());
    let controller = Controller {
        ingresses: context.informers.of(),
        classes: context.informers.of(),
        nodes: context.informers.of(),
        context,
    };
    let Controller { ingresses, classes, nodes, .. } = &controller;
    if !(ingresses.synced().await && classes.synced().await && nodes.synced().await) {
        return;
    }
    if let Err(error) = controller.make_class().await {
        // The next start tries again; Ingresses can name a class of the user's own meanwhile.
        tracing::warn!(error = &error as &dyn std::error::Error, "there is no IngressClass {}", plan::CLASS);
    }
    ingresses.feed_keys(&queue);
    let all = ingresses.clone();
    classes.feed(&queue, move |_| keys(&all));
    let all = ingresses.clone();
    nodes.feed(&queue, move |change| {
        let changed = change.old.as_deref().and_then(plan::address) != change.new.as_deref().and_then(plan::address);
        if changed { keys(&all) } else { Vec::new() }
    });
    let controller = std::sync::Arc::new(controller);
    worker::run(NAME, queue, 1, move |key| {
        let controller = controller.clone();
        async move { controller.reconcile(key).await }
    })
    .await;
}

fn keys(all: &Informer<Ingress>) -> Vec<ObjectKey> {
    all.list().iter().map(|ingress| ObjectKey::of(&**ingress)).collect()
}

struct Controller {
    context: Context,
    ingresses: Informer<Ingress>,
    classes: Informer<IngressClass>,
    nodes: Informer<Node>,
}

impl Controller {
    /// The class is the default one, unless the user has one already.
    async fn make_class(&self) -> Result<(), Error> {
        let classes = self.classes.list();
        let Some(class) = plan::missing_class(&classes) else { return Ok(()) };
        match call::create(&self.context.client, &class).await {
            Err(error) if !errors::is_already_exists(&error) => Err(Error::api("making the IngressClass")(error)),
            _ => Ok(()),
        }
    }

    async fn reconcile(&self, key: ObjectKey) -> Result<Outcome, Error> {
        let Some(ingress) = self.ingresses.get(&key.namespace, &key.name) else { return Ok(Outcome::Done) };
        let Some(wanted) = plan::status(&ingress, &self.classes.list(), &self.nodes.list()) else {
            return Ok(Outcome::Done);
        };
        let patch = json!({"status": {"loadBalancer": {"ingress": wanted}}});
        let patched = errors::optional(call::merge_subresource(&self.context.client, &*ingress, "status", patch).await);
        patched.map_err(Error::api("writing the Ingress's addresses"))?;
        Ok(Outcome::Done)
    }
}
