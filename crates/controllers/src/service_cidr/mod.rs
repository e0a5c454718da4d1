//! Keeps ServiceCIDRs: each is said to be ready, and none goes while it would leave addresses of Services behind that
//! lie in no other. The allocation of addresses itself is the API server's.
//! (<https://kubernetes.io/docs/tasks/network/extend-service-ip-ranges/>)

mod default;
mod plan;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use k8s_openapi::{
    api::networking::v1::{IPAddress, ServiceCIDR},
    apimachinery::pkg::apis::meta::v1::Time,
};
use knarr_client::{Informer, ObjectKey, Outcome, WorkQueue, call, errors, meta, worker};
use serde_json::json;

use crate::{Context, Error};
pub use default::{NAME as DEFAULT, run as run_default};
pub use plan::contains;
use plan::{Condition, Plan};

/// As upstream names its role; in events it calls itself otherwise.
pub const NAME: &str = "service-cidrs-controller";
const COMPONENT: &str = "service-cidr-controller";

struct Controller {
    context: Context,
    cidrs: Informer<ServiceCIDR>,
    addresses: Informer<IPAddress>,
}

pub async fn run(context: Context) {
    let queue = WorkQueue::new(context.cancel.clone());
    let recorder = context.recorder.for_component(COMPONENT);
    let controller = Arc::new(Controller {
        cidrs: context.informers.of(),
        addresses: context.informers.of(),
        context: Context { recorder, ..context },
    });
    let Controller { cidrs, addresses, .. } = &*controller;
    if !(cidrs.synced().await && addresses.synced().await) {
        return;
    }
    let all = cidrs.clone();
    cidrs.feed(&queue, move |change| {
        // One that comes may free others to go, and one that goes may hold them.
        let others = all.list().into_iter().filter(|other| plan::is_deleted(other));
        let others: Vec<_> = others.map(|other| ObjectKey::of(&*other)).collect();
        [ObjectKey::of(&**change.latest())].into_iter().chain(others)
    });
    let all = cidrs.clone();
    addresses.feed(&queue, move |change| {
        let address = change.latest().metadata.name.as_deref().and_then(|name| name.parse().ok());
        let held = all.list().into_iter().filter(|cidr| plan::is_deleted(cidr));
        let held = held.filter(|cidr| address.is_some_and(|address| plan::contains(cidr, address)));
        held.map(|cidr| ObjectKey::of(&*cidr)).collect::<Vec<_>>()
    });
    worker::run(NAME, queue, 1, move |key| {
        let controller = controller.clone();
        async move { controller.reconcile(key).await }
    })
    .await;
}

impl Controller {
    async fn reconcile(&self, key: ObjectKey) -> Result<Outcome, Error> {
        let Some(cidr) = self.cidrs.get("", &key.name) else { return Ok(Outcome::Done) };
        let Plan { finalizers, condition, after } =
            plan::plan(&cidr, &self.cidrs.list(), &self.addresses.list(), self.context.clock.now());
        let client = &self.context.client;
        if let Some(finalizers) = finalizers {
            let mut changed = ServiceCIDR::clone(&cidr);
            changed.metadata.finalizers = Some(finalizers);
            let written = errors::optional(call::replace(client, &changed).await);
            written.map_err(Error::api("writing the ServiceCIDR's finalizers"))?;
        }
        if let Some(condition) = condition
            && let Err(error) = write(&self.context, &cidr, &condition).await
        {
            if condition.is_ready {
                let message = "The ServiceCIDR Status can not be set to Ready=True";
                self.context.recorder.warning(&*cidr, "KubernetesServiceCIDRError", message);
            }
            return Err(error);
        }
        Ok(after.map_or(Outcome::Done, Outcome::After))
    }
}

/// Writes this condition and leaves those that others have written.
async fn write(context: &Context, cidr: &ServiceCIDR, condition: &Condition) -> Result<(), Error> {
    let Condition { is_ready, reason, message } = condition;
    let condition = json!({
        "type": plan::READY, "status": if *is_ready { "True" } else { "False" }, "reason": reason, "message": message,
        "lastTransitionTime": Time(context.clock.now()),
    });
    let patch = json!({
        "metadata": {"uid": meta::uid(&cidr.metadata)},
        "status": {"conditions": [condition]},
    });
    let written = errors::optional(call::strategic_status(&context.client, cidr, patch).await);
    written.map(drop).map_err(Error::api("writing the ServiceCIDR's status"))
}
