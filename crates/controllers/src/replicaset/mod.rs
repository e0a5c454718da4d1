//! Keeps as many pods as a ReplicaSet asks for.
//! (<https://kubernetes.io/docs/concepts/workloads/controllers/replicaset/>)

mod plan;
#[cfg(test)]
mod tests;

use std::{sync::Arc, time::Duration};

use k8s_openapi::api::{apps::v1::ReplicaSet, core::v1::Pod};
use knarr_client::{
    Change, Informer, ObjectKey, Outcome, WorkQueue, call, errors,
    informer::{CONTROLLER_INDEX, orphans_key},
    meta, worker,
};
use kube::api::DeleteParams;

use crate::{
    Context, Error,
    common::{batch, claim, expectations::Expectations, pods, selector},
};
use plan::{Failure, Step};

pub const NAME: &str = "replicaset-controller";
const WORKERS: usize = 5;

struct Controller {
    context: Context,
    replica_sets: Informer<ReplicaSet>,
    pods: Informer<Pod>,
    expectations: Expectations,
    queue: WorkQueue<ObjectKey>,
}

pub async fn run(context: Context) {
    let queue = WorkQueue::new(context.cancel.clone());
    let controller = Arc::new(Controller {
        replica_sets: context.informers.of(),
        pods: context.informers.of(),
        expectations: Expectations::default(),
        queue: queue.clone(),
        context,
    });
    controller.replica_sets.index_by_controller();
    controller.pods.index_by_controller();
    if !(controller.replica_sets.synced().await && controller.pods.synced().await) {
        return;
    }
    let watcher = Arc::downgrade(&controller);
    controller.replica_sets.on_change_until(queue.cancellation(), move |change| {
        if let Some(controller) = watcher.upgrade() {
            if change.is_deletion() {
                controller.expectations.forget(meta::uid(&change.latest().metadata));
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
    worker::run(NAME, queue, WORKERS, move |key| {
        let controller = controller.clone();
        async move { controller.reconcile(key).await }
    })
    .await;
}

impl Controller {
    fn pod_changed(&self, change: &Change<Pod>) {
        let pod = change.latest();
        let owner = meta::controller_of(&pod.metadata).filter(|owner| owner.kind == "ReplicaSet");
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
            let wait =
                self.replica_sets.get(namespace, &owner.name).and_then(|set| set.spec.as_ref()?.min_ready_seconds);
            if let Some(seconds) = wait.filter(|seconds| *seconds > 0 && became_ready) {
                self.queue.add_after(key.clone(), Duration::from_secs(seconds as u64 + 1));
            }
            self.queue.add(key);
        }
        if let Some(old) =
            old_owner.filter(|old| old.kind == "ReplicaSet" && owner.is_none_or(|new| new.uid != old.uid))
        {
            self.queue.add(ObjectKey::new(namespace, old.name.clone()));
        }
        if meta::controller_of(&pod.metadata).is_none() && !change.is_deletion() {
            for set in self.replica_sets.in_namespace(namespace) {
                let wanted = set.spec.as_ref().and_then(|spec| selector::of_workload(&spec.selector).ok());
                if wanted.is_some_and(|wanted| selector::matches(&wanted, &pod.metadata)) {
                    self.queue.add(ObjectKey::of(&*set));
                }
            }
        }
    }

    async fn reconcile(&self, key: ObjectKey) -> Result<Outcome, Error> {
        let Some(set) = self.replica_sets.get(&key.namespace, &key.name) else { return Ok(Outcome::Done) };
        let Some(spec) = &set.spec else { return Ok(Outcome::Done) };
        let uid = meta::uid(&set.metadata);
        let wanted = selector::of_workload(&spec.selector)?;
        // Asked for before the cache is read: what the cache shows then is at least as new.
        let settled = self.expectations.satisfied(uid);
        let owned = self.pods.by_index(CONTROLLER_INDEX, uid);
        let orphans = self.pods.by_index(CONTROLLER_INDEX, &orphans_key(&key.namespace));
        let candidates = owned.into_iter().chain(orphans);
        let pods = claim::claim(&self.context.client, &*set, &wanted, candidates).await?;

        let mut failure = None;
        let mut result = Ok(());
        if settled && set.metadata.deletion_timestamp.is_none() {
            let step = plan::step(&set, &pods, || self.related_pods(&set), self.context.clock.now());
            if let Err((kind, error)) = self.take(&set, step).await {
                failure = Some(Failure { reason: kind, message: errors::message(&error) });
                result = Err(Error::Api { what: "creating or deleting pods", source: error });
            }
        }
        let now = self.context.clock.now();
        let status = plan::status(&set, &pods, failure, now);
        let again = plan::recheck_after(&set, &status, &pods, now);
        if set.status.as_ref() != Some(&status) {
            let changed = ReplicaSet { status: Some(status), ..(*set).clone() };
            let written = errors::optional(call::replace_status(&self.context.client, &changed).await);
            written.map_err(Error::api("writing the status"))?;
        }
        result.map(|()| again.map_or(Outcome::Done, Outcome::After))
    }

    /// The pods of all ReplicaSets with the same owner.
    fn related_pods(&self, set: &ReplicaSet) -> Vec<Arc<Pod>> {
        let siblings = match meta::controller_of(&set.metadata) {
            Some(owner) => self.replica_sets.by_index(CONTROLLER_INDEX, &owner.uid),
            None => vec![Arc::new(set.clone())],
        };
        let pods_of = |set: &Arc<ReplicaSet>| self.pods.by_index(CONTROLLER_INDEX, meta::uid(&set.metadata));
        siblings.iter().flat_map(pods_of).collect()
    }

    async fn take(&self, set: &Arc<ReplicaSet>, step: Step) -> Result<(), (&'static str, kube::Error)> {
        match step {
            Step::Nothing => Ok(()),
            Step::Create(count) => self.create_pods(set, count).await.map_err(|error| ("FailedCreate", error)),
            Step::Delete(pods) => self.delete_pods(set, pods).await.map_err(|error| ("FailedDelete", error)),
        }
    }

    async fn create_pods(&self, set: &Arc<ReplicaSet>, count: usize) -> Result<(), kube::Error> {
        let uid = meta::uid(&set.metadata);
        let Some(template) = set.spec.as_ref().and_then(|spec| spec.template.as_ref()) else { return Ok(()) };
        let (namespace, name) = (meta::namespace(&set.metadata), meta::name(&set.metadata));
        let pod = Arc::new(pods::from_template(template, name, namespace, meta::controller_reference(&**set)));
        self.expectations.expect_creations(uid, count);
        let (context, owner) = (self.context.clone(), set.clone());
        let (created, error) = batch::slow_start(count, move |_| {
            let (context, owner, pod) = (context.clone(), owner.clone(), pod.clone());
            async move { create_pod(&context, &owner, &pod).await }
        })
        .await;
        self.expectations.creations_observed(uid, count - created);
        match error {
            // Nothing can be made there any more; that is no failure of the ReplicaSet.
            Some(error) if errors::is_namespace_terminating(&error) => Ok(()),
            Some(error) => Err(error),
            None => Ok(()),
        }
    }

    async fn delete_pods(&self, set: &Arc<ReplicaSet>, pods: Vec<Arc<Pod>>) -> Result<(), kube::Error> {
        let uid = meta::uid(&set.metadata);
        self.expectations.expect_deletions(uid, pods.iter().map(|pod| meta::uid(&pod.metadata).to_owned()));
        let deletions = pods.into_iter().map(|pod| async move {
            let deleted = call::delete(&self.context.client, &*pod, DeleteParams::default()).await;
            let name = meta::name(&pod.metadata);
            match &deleted {
                Ok(true) => self.context.recorder.normal(&**set, "SuccessfulDelete", format!("Deleted pod: {name}")),
                Ok(false) => self.expectations.deletion_observed(uid, meta::uid(&pod.metadata)),
                Err(error) => {
                    self.expectations.deletion_observed(uid, meta::uid(&pod.metadata));
                    let message = format!("Error deleting: {}", errors::message(error));
                    self.context.recorder.warning(&**set, "FailedDelete", message);
                }
            }
            deleted.map(drop)
        });
        futures::future::join_all(deletions).await.into_iter().collect()
    }
}

async fn create_pod(context: &Context, owner: &ReplicaSet, pod: &Pod) -> Result<(), kube::Error> {
    match call::create(&context.client, pod).await {
        Ok(created) => {
            let message = format!("Created pod: {}", meta::name(&created.metadata));
            context.recorder.normal(owner, "SuccessfulCreate", message);
            Ok(())
        }
        Err(error) => {
            if !errors::is_namespace_terminating(&error) {
                let message = format!("Error creating: {}", errors::message(&error));
                context.recorder.warning(owner, "FailedCreate", message);
            }
            Err(error)
        }
    }
}
