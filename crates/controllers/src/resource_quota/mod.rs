//! Writes into each ResourceQuota what its namespace uses, for people to read. Holding the limits is admission's work
//! in the API server, which counts for itself.
//! (<https://kubernetes.io/docs/concepts/policy/resource-quotas/>)

mod customs;
mod plan;
#[cfg(test)]
mod tests;

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use k8s_openapi::api::core::v1::{PersistentVolumeClaim, ResourceQuota, Service};
use knarr_api::registry::Resource;
use knarr_client::{
    Change, Informer, ObjectKey, Outcome, WorkQueue, call, errors, informer::Scope, lean::Pod, meta, worker,
};
use serde_json::Value;

use crate::{
    Context, Error,
    common::{definitions, pods, trace::Trace},
};

pub const NAME: &str = "resourcequota-controller";
const WORKERS: usize = 2;
/// Pods come by the hundred, and each is a reason to count: so long they are waited for together.
const SETTLE: Duration = Duration::from_millis(100);

struct Controller {
    context: Context,
    queue: WorkQueue<ObjectKey>,
    quotas: Informer<ResourceQuota>,
    pods: Informer<Pod>,
    services: Informer<Service>,
    claims: Informer<PersistentVolumeClaim>,
    /// By path; of resources that a quota only counts. They are watched from when the first quota names them.
    counted: Mutex<HashMap<String, Informer<Trace>>>,
    customs: customs::Customs,
}

pub async fn run(context: Context) {
    let queue = WorkQueue::new(context.cancel.clone());
    let controller = Arc::new(Controller {
        quotas: context.informers.of(),
        pods: context.informers.of(),
        services: context.informers.of(),
        claims: context.informers.of(),
        counted: Mutex::default(),
        customs: customs::Customs::default(),
        queue: queue.clone(),
        context,
    });
    let Controller { quotas, pods, services, claims, .. } = &*controller;
    if !(quotas.synced().await && pods.synced().await && services.synced().await && claims.synced().await) {
        return;
    }
    quotas.feed_keys(&queue);
    follow(&controller, pods, |change| change.is_addition() || change.is_deletion() || uses_otherwise(change));
    follow(&controller, services, |_| true);
    follow(&controller, claims, |_| true);
    let watcher = Arc::downgrade(&controller);
    definitions::on_change(&controller.context, move || {
        let Some(controller) = watcher.upgrade() else { return };
        controller.customs.forget();
        for quota in controller.quotas.list().iter().filter(|quota| !plan::customs(quota).is_empty()) {
            controller.queue.add_after(ObjectKey::of(&**quota), SETTLE);
        }
    });
    worker::run(NAME, queue, WORKERS, move |key| {
        let controller = controller.clone();
        async move { controller.reconcile(key).await }
    })
    .await;
}

/// Most changes of a pod are of its status, and leave what it uses as it is.
fn uses_otherwise(change: &Change<Pod>) -> bool {
    let (Some(old), Some(new)) = (&change.old, &change.new) else { return true };
    old.metadata.generation != new.metadata.generation || pods::is_terminal(old) != pods::is_terminal(new)
}

/// Has the quotas of a namespace counted anew when something in it changes that matters.
fn follow<K: knarr_client::informer::Object>(
    controller: &Arc<Controller>,
    informer: &Informer<K>,
    matters: impl Fn(&Change<K>) -> bool + Send + Sync + 'static,
) {
    let watcher = Arc::downgrade(controller);
    informer.on_change_until(controller.queue.cancellation(), move |change| {
        let Some(controller) = watcher.upgrade() else { return };
        if matters(change) {
            let namespace = meta::namespace(change.latest().meta());
            for quota in controller.quotas.in_namespace(namespace) {
                controller.queue.add_after(ObjectKey::of(&*quota), SETTLE);
            }
        }
    });
}

impl Controller {
    async fn reconcile(self: &Arc<Self>, key: ObjectKey) -> Result<Outcome, Error> {
        let Some(quota) = self.quotas.get(&key.namespace, &key.name) else { return Ok(Outcome::Done) };
        let mut objects: Vec<(&'static Resource, Vec<Value>)> = Vec::new();
        for resource in plan::resources(&quota) {
            let Some(found) = self.objects(resource, &key.namespace).await else { return Ok(Outcome::Done) };
            objects.push((resource, found));
        }
        let Some(customs) = self.count_customs(&plan::customs(&quota), &key.namespace).await? else {
            return Ok(Outcome::Again);
        };
        let status = plan::status(&quota, &objects, &customs);
        if quota.status.as_ref() != Some(&status) {
            let changed = ResourceQuota { status: Some(status), ..(*quota).clone() };
            let written = errors::optional(call::replace_status(&self.context.client, &changed).await);
            written.map_err(Error::api("writing the status"))?;
        }
        Ok(Outcome::Done)
    }

    /// The objects of a resource in a namespace, as far as what they use depends on them; `None` when this run ends.
    async fn objects(self: &Arc<Self>, resource: &'static Resource, namespace: &str) -> Option<Vec<Value>> {
        let value = |object: serde_json::Result<Value>| object.unwrap_or_default();
        Some(match (resource.group, resource.plural) {
            ("", "pods") => {
                self.pods.in_namespace(namespace).iter().map(|o| value(serde_json::to_value(&**o))).collect()
            }
            ("", "services") => {
                self.services.in_namespace(namespace).iter().map(|o| value(serde_json::to_value(&**o))).collect()
            }
            ("", "persistentvolumeclaims") => {
                self.claims.in_namespace(namespace).iter().map(|o| value(serde_json::to_value(&**o))).collect()
            }
            _ => {
                let informer = self.counted(resource);
                if !informer.synced().await {
                    return None;
                }
                vec![Value::Null; informer.in_namespace(namespace).len()]
            }
        })
    }

    fn counted(self: &Arc<Self>, resource: &'static Resource) -> Informer<Trace> {
        let root = if resource.group.is_empty() { "/api" } else { "/apis" };
        let path = format!("{root}/{}/{}", resource.api_version(), resource.plural);
        let mut counted = self.counted.lock().unwrap_or_else(PoisonError::into_inner);
        let start = || {
            let cancel = self.queue.cancellation().clone();
            let informer = self.context.informers.private::<Trace>(path.clone(), Scope::metadata(), cancel);
            follow(self, &informer, |change| change.is_addition() || change.is_deletion());
            informer
        };
        counted.entry(path.clone()).or_insert_with(start).clone()
    }
}
