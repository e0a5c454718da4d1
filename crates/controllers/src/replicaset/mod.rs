//! Keeps as many pods as a ReplicaSet, or a ReplicationController, asks for.
//! (<https://kubernetes.io/docs/concepts/workloads/controllers/replicaset/>)

mod kinds;
mod plan;
#[cfg(test)]
mod tests;

use std::{sync::Arc, time::Duration};

use knarr_client::lean::Pod;
use knarr_client::{
    Change, Informer, ObjectKey, Outcome, WorkQueue, call, errors, informer::CONTROLLER_INDEX, meta, worker,
};

use crate::{
    Context, Error,
    common::{batch, claim, expectations::Expectations, pods, selector},
};
use kinds::Replicated;
use plan::{Failure, Step};

pub const REPLICA_SETS: &str = "replicaset-controller";
pub const REPLICATION_CONTROLLERS: &str = "replication-controller";
const WORKERS: usize = 5;

struct Controller<K> {
    context: Context,
    owners: Informer<K>,
    pods: Informer<Pod>,
    expectations: Expectations,
    queue: WorkQueue<ObjectKey>,
}

/// Runs the controller of one of the two kinds.
pub async fn run<K: Replicated>(context: Context) {
    let queue = WorkQueue::new(context.cancel.clone());
    let controller = Arc::new(Controller {
        owners: context.informers.of::<K>(),
        pods: context.informers.of(),
        expectations: Expectations::default(),
        queue: queue.clone(),
        context,
    });
    controller.owners.index_by_controller();
    controller.pods.index_by_controller();
    if !(controller.owners.synced().await && controller.pods.synced().await) {
        return;
    }
    let watcher = Arc::downgrade(&controller);
    controller.owners.on_change_until(queue.cancellation(), move |change| {
        if let Some(controller) = watcher.upgrade() {
            if change.is_deletion() {
                controller.expectations.forget(meta::uid(change.latest().meta()));
            }
            controller.queue.add(ObjectKey::of(&**change.latest()));
        }
    });
    let watcher = Arc::downgrade(&controller);
    controller.pods.on_change_until(queue.cancellation(), move |change| {
        if let Some(controller) = watcher.upgrade() {
            controller.pod_changed(change);
        }
    });
    worker::run(K::CONTROLLER, queue, WORKERS, move |key| {
        let controller = controller.clone();
        async move { controller.reconcile(key).await }
    })
    .await;
}

impl<K: Replicated> Controller<K> {
    fn pod_changed(&self, change: &Change<Pod>) {
        let pod = change.latest();
        let kind = K::kind(&());
        let owner = meta::controller_of(&pod.metadata).filter(|owner| owner.kind == kind);
        let old_owner = change.old.as_ref().and_then(|old| meta::controller_of(&old.metadata));
        let namespace = meta::namespace(&pod.metadata);
        if let Some(owner) = owner {
            if change.is_addition() {
                self.expectations.creation_observed(&owner.uid);
            }
            if change.is_deletion() || pods::is_terminating(pod) {
                self.expectations.deletion_observed(&owner.uid, meta::uid(&pod.metadata));
            }
            let key = ObjectKey::new(namespace, owner.name.clone());
            // The pod will be available once it has been ready for long enough, and no event will say so.
            let became_ready = pods::is_ready(pod) && !change.old.as_ref().is_some_and(|old| pods::is_ready(old));
            let wait = self.owners.get(namespace, &owner.name).map(|set| plan::min_ready_seconds(&set.as_set()));
            if let Some(seconds) = wait.filter(|seconds| *seconds > 0 && became_ready) {
                self.queue.add_after(key.clone(), Duration::from_secs(seconds as u64 + 1));
            }
            self.queue.add(key);
        }
        if let Some(old) = old_owner.filter(|old| old.kind == kind && owner.is_none_or(|new| new.uid != old.uid)) {
            self.queue.add(ObjectKey::new(namespace, old.name.clone()));
        }
        if meta::controller_of(&pod.metadata).is_none() && !change.is_deletion() {
            for set in self.owners.in_namespace(namespace) {
                if set.selector().is_ok_and(|wanted| selector::matches(&wanted, &pod.metadata)) {
                    self.queue.add(ObjectKey::of(&*set));
                }
            }
        }
    }

    async fn reconcile(&self, key: ObjectKey) -> Result<Outcome, Error> {
        let Some(owner) = self.owners.get(&key.namespace, &key.name) else { return Ok(Outcome::Done) };
        let set = owner.as_set();
        let uid = meta::uid(&set.metadata);
        let wanted = owner.selector()?;
        // Asked for before the cache is read: what the cache shows then is at least as new.
        let settled = self.expectations.satisfied(uid);
        let candidates = claim::candidates(&self.pods, owner.meta());
        let pods = claim::claim(&self.context.client, &*owner, &wanted, candidates).await?;

        let mut failure = None;
        let mut result = Ok(());
        if settled && set.metadata.deletion_timestamp.is_none() {
            let step = plan::step(&set, &pods, || self.related_pods(&owner), self.context.clock.now());
            if let Err((kind, error)) = self.take(&owner, step).await {
                failure = Some(Failure { reason: kind, message: errors::message(&error) });
                result = Err(Error::Api { what: "creating or deleting pods", source: error });
            }
        }
        let now = self.context.clock.now();
        let status = plan::status(&set, &pods, failure, now);
        let again = plan::recheck_after(&set, &status, &pods, now);
        if !owner.says(&status) {
            let changed = owner.with_status(status);
            let written = errors::optional(call::replace_status(&self.context.client, &changed).await);
            written.map_err(Error::api("writing the status"))?;
        }
        let again = [again, self.expectations.pending_for(uid)].into_iter().flatten().min();
        result.map(|()| again.map_or(Outcome::Done, Outcome::After))
    }

    /// The pods of all ReplicaSets with the same owner.
    fn related_pods(&self, set: &Arc<K>) -> Vec<Arc<Pod>> {
        let siblings = match meta::controller_of(set.meta()) {
            Some(owner) => self.owners.by_index(CONTROLLER_INDEX, &owner.uid),
            None => vec![set.clone()],
        };
        let pods_of = |set: &Arc<K>| self.pods.by_index(CONTROLLER_INDEX, meta::uid(set.meta()));
        siblings.iter().flat_map(pods_of).collect()
    }

    async fn take(&self, set: &Arc<K>, step: Step) -> Result<(), (&'static str, kube::Error)> {
        match step {
            Step::Nothing => Ok(()),
            Step::Create(count) => self.create_pods(set, count).await.map_err(|error| ("FailedCreate", error)),
            Step::Delete(pods) => self.delete_pods(set, pods).await.map_err(|error| ("FailedDelete", error)),
        }
    }

    async fn create_pods(&self, set: &Arc<K>, count: usize) -> Result<(), kube::Error> {
        let uid = meta::uid(set.meta());
        let spec = set.as_set();
        let Some(template) = spec.spec.as_ref().and_then(|spec| spec.template.as_ref()) else { return Ok(()) };
        let (namespace, name) = (meta::namespace(set.meta()), meta::name(set.meta()));
        let pod = Arc::new(pods::from_template(template, name, namespace, meta::controller_reference(&**set)));
        self.expectations.expect_creations(uid, count);
        let (created, error) = batch::create_pods(&self.context, set, vec![pod; count]).await;
        self.expectations.creations_observed(uid, count - created);
        error.map_or(Ok(()), Err)
    }

    async fn delete_pods(&self, set: &Arc<K>, pods: Vec<Arc<Pod>>) -> Result<(), kube::Error> {
        let uid = meta::uid(set.meta());
        self.expectations.expect_deletions(uid, pods.iter().map(|pod| meta::uid(&pod.metadata).to_owned()));
        let unseen = |pod: &Pod| self.expectations.deletion_observed(uid, meta::uid(&pod.metadata));
        batch::delete_pods(&self.context, &**set, &pods, unseen).await
    }
}
