//! Keeps one pod on every node that is to have one.
//! (<https://kubernetes.io/docs/concepts/workloads/controllers/daemonset/>)
//!
//! Each pod is made for one node, by a node affinity that names it, and placed there by the scheduler.

mod backoff;
mod plan;
mod pod;
mod rolling;
#[cfg(test)]
mod tests;

use std::sync::{Arc, Mutex, PoisonError};

use k8s_openapi::api::{
    apps::v1::{ControllerRevision, DaemonSet},
    core::v1::Node,
};
use knarr_api::selector::LabelSelector;
use knarr_client::{
    Change, Informer, ObjectKey, Outcome, WorkQueue, call, errors, informer::Object, lean::Pod, meta, worker,
};

use crate::{
    Context, Error,
    common::{
        batch, claim,
        expectations::Expectations,
        history::{self, Newest},
        owners, selector,
    },
};
use backoff::Backoff;
use plan::{Observed, Plan};

pub const NAME: &str = "daemon-set-controller";
const KIND: &str = "DaemonSet";
const WORKERS: usize = 2;

struct Controller {
    context: Context,
    sets: Informer<DaemonSet>,
    nodes: Informer<Node>,
    pods: Informer<Pod>,
    revisions: Informer<ControllerRevision>,
    expectations: Arc<Expectations>,
    backoff: Mutex<Backoff>,
}

pub async fn run(context: Context) {
    let queue = WorkQueue::new(context.cancel.clone());
    let controller = Arc::new(Controller {
        sets: context.informers.of(),
        nodes: context.informers.of(),
        pods: context.informers.of(),
        revisions: context.informers.of(),
        expectations: Arc::default(),
        backoff: Mutex::default(),
        context,
    });
    let Controller { sets, nodes, pods, revisions, expectations, .. } = &*controller;
    pods.index_by_controller();
    revisions.index_by_controller();
    if !(sets.synced().await && nodes.synced().await && pods.synced().await && revisions.synced().await) {
        return;
    }
    expectations.watch(pods, KIND, queue.cancellation());
    owners::feed(&queue, pods, KIND);
    owners::feed_by_orphans(&queue, pods, sets, selector_of);
    owners::feed(&queue, revisions, KIND);
    let forgetful = expectations.clone();
    sets.feed(&queue, move |change| {
        let set = change.latest();
        if change.is_deletion() {
            forgetful.forget(meta::uid(&set.metadata));
        }
        [ObjectKey::of(&**set)]
    });
    let all = sets.clone();
    nodes.feed(&queue, move |change| {
        let sets = if concerns(change) { all.list() } else { Vec::new() };
        sets.into_iter().map(|set| ObjectKey::of(&*set))
    });
    worker::run(NAME, queue, WORKERS, move |key| {
        let controller = controller.clone();
        async move { controller.reconcile(key).await }
    })
    .await;
}

/// Most changes of a node are signs of life, which change nothing here.
fn concerns(change: &Change<Node>) -> bool {
    let seen = |node: &Node| (node.metadata.labels.clone(), node.spec.as_ref().and_then(|spec| spec.taints.clone()));
    match (&change.old, &change.new) {
        (Some(old), Some(new)) => seen(old) != seen(new),
        _ => true,
    }
}

fn selector_of(set: &DaemonSet) -> Result<LabelSelector, Error> {
    selector::of_workload(set.spec.as_ref().map(|spec| &spec.selector))
}

fn collisions_of(set: &mut DaemonSet) -> &mut Option<i32> {
    &mut set.status.get_or_insert_default().collision_count
}

impl Controller {
    async fn reconcile(&self, key: ObjectKey) -> Result<Outcome, Error> {
        let Some(set) = self.sets.get(&key.namespace, &key.name) else { return Ok(Outcome::Done) };
        let Some(spec) = set.spec.as_ref().filter(|_| set.metadata.deletion_timestamp.is_none()) else {
            return Ok(Outcome::Done);
        };
        let uid = meta::uid(&set.metadata);
        let wanted = selector_of(&set)?;
        // Asked for before the cache is read: what the cache shows then is at least as new.
        let settled = self.expectations.satisfied(uid);
        let pods = self.claimed(&set, &wanted, &self.pods).await?;
        let mut revisions = self.claimed(&set, &wanted, &self.revisions).await?;
        history::sort(&mut revisions);
        let collisions = set.status.as_ref().and_then(|status| status.collision_count);
        let newest =
            history::sync(&self.context, &*set, &spec.template, &revisions, collisions, history::OF_POD).await?;
        let Newest::Is(newest) = newest else {
            return history::count_collision(&self.context, &*set, collisions_of).await;
        };
        let hash = meta::label(&newest.metadata, history::OF_POD).unwrap_or_default();

        let (nodes, now) = (self.nodes.list(), self.context.clock.now());
        let observed = Observed { set: &set, nodes: &nodes, pods: &pods, hash, now };
        let plan = if settled {
            let mut backoff = self.backoff.lock().unwrap_or_else(PoisonError::into_inner);
            plan::plan(&observed, &mut |node| backoff.take(uid, node, now))
        } else {
            Plan::default()
        };
        let (status, becomes_available) = plan::status(&observed);
        let retry = [plan.retry, becomes_available].into_iter().flatten().min();
        let taken = self.take(&set, hash, plan).await;
        if set.status.as_ref() != Some(&status) {
            let changed = DaemonSet { status: Some(status), ..(*set).clone() };
            let written = errors::optional(call::replace_status(&self.context.client, &changed).await);
            written.map_err(Error::api("writing the status"))?;
        }
        taken?;
        let is_live = |revision: &ControllerRevision| {
            let hash = meta::label(&revision.metadata, history::OF_POD);
            revision.metadata.uid == newest.metadata.uid
                || pods.iter().any(|pod| meta::label(&pod.metadata, history::OF_POD) == hash)
        };
        history::truncate(&self.context, &revisions, spec.revision_history_limit, is_live).await?;
        let retry = [retry, self.expectations.pending_for(uid)].into_iter().flatten().min();
        Ok(retry.map_or(Outcome::Done, Outcome::After))
    }

    async fn claimed<K: call::Kind + Object>(
        &self,
        set: &DaemonSet,
        wanted: &LabelSelector,
        all: &Informer<K>,
    ) -> Result<Vec<Arc<K>>, Error> {
        claim::claim(&self.context.client, set, wanted, claim::candidates(all, &set.metadata)).await
    }

    async fn take(&self, set: &Arc<DaemonSet>, hash: &str, plan: Plan) -> Result<(), Error> {
        let Plan { create, delete, ended, retry: _ } = plan;
        for (is_warning, reason, message) in ended {
            match is_warning {
                true => self.context.recorder.warning(&**set, reason, message),
                false => self.context.recorder.normal(&**set, reason, message),
            }
        }
        if create.is_empty() && delete.is_empty() {
            return Ok(());
        }
        let uid = meta::uid(&set.metadata);
        let leaving = delete.iter().map(|pod| meta::uid(&pod.metadata).to_owned()).collect();
        self.expectations.expect(uid, create.len(), leaving);
        let (count, new) = (create.len(), pod::new(set, hash));
        let pods = create.iter().map(|node| Arc::new(pod::on_node(&new, node))).collect();
        let (created, error) = batch::create_pods(&self.context, set, pods).await;
        self.expectations.creations_observed(uid, count - created);
        let unseen = |pod: &Pod| self.expectations.deletion_observed(uid, meta::uid(&pod.metadata));
        let deleted = batch::delete_pods(&self.context, &**set, &delete, unseen).await;
        error.map_or(Ok(()), Err).and(deleted).map_err(Error::api("creating or deleting pods"))
    }
}
