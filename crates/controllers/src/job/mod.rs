//! Runs pods until enough of them have succeeded.
//! (<https://kubernetes.io/docs/concepts/workloads/controllers/job/>)
//!
//! Each pod carries a finalizer until it is counted, so that none is missed. Counting takes two writes: first the
//! pod's uid goes into `status.uncountedTerminatedPods`, then its finalizer is taken off; once the cache shows that,
//! the uid becomes part of a number. A crash between any two of these counts nothing twice and nothing never.

mod count;
mod indexes;
mod making;
mod per_index;
mod plan;
mod policy;
mod success;
#[cfg(test)]
mod tests;

use std::{fmt, sync::Arc, time::Duration};

use k8s_openapi::api::{batch::v1::Job, core::v1};
use knarr_client::{
    Change, Informer, ObjectKey, Outcome, WorkQueue, call, errors, informer::CONTROLLER_INDEX, lean::Pod, meta, worker,
};

use crate::{
    Context, Error,
    common::{batch, claim, expectations::Expectations, pods, selector, some_or_null, written::Written},
};
use plan::{FINALIZER, Plan};

pub const NAME: &str = "job-controller";
const WORKERS: usize = 5;
/// Upstream's backoff of a Job whose pods the API server refuses.
const FIRST_BACKOFF: Duration = Duration::from_secs(1);
const LAST_BACKOFF: Duration = Duration::from_secs(60);

struct Controller {
    context: Context,
    jobs: Informer<Job>,
    pods: Informer<Pod>,
    expectations: Expectations,
    written: Written,
    queue: WorkQueue<Work>,
}

/// What there is to look at.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Work {
    Job(ObjectKey),
    /// A pod that carries the finalizer, and may have no Job any more that would count it.
    Stray(ObjectKey),
}

impl fmt::Display for Work {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Work::Job(key) => key.fmt(f),
            Work::Stray(key) => write!(f, "pod {key}"),
        }
    }
}

pub async fn run(context: Context) {
    // A pod that is refused (by a quota, mostly) is refused again a moment later, and each time is an event.
    let queue = WorkQueue::with_backoff(context.cancel.clone(), FIRST_BACKOFF, LAST_BACKOFF);
    let controller = Arc::new(Controller {
        jobs: context.informers.of(),
        pods: context.informers.of(),
        expectations: Expectations::default(),
        written: Written::default(),
        queue: queue.clone(),
        context,
    });
    controller.pods.index_by_controller();
    if !(controller.jobs.synced().await && controller.pods.synced().await) {
        return;
    }
    let watcher = Arc::downgrade(&controller);
    controller.jobs.on_change_until(queue.cancellation(), move |change| {
        if let Some(controller) = watcher.upgrade() {
            controller.job_changed(change);
        }
    });
    let watcher = Arc::downgrade(&controller);
    controller.pods.on_change_until(queue.cancellation(), move |change| {
        if let Some(controller) = watcher.upgrade() {
            controller.pod_changed(change);
        }
    });
    worker::run(NAME, queue, WORKERS, move |work| {
        let controller = controller.clone();
        async move {
            match work {
                Work::Job(key) => controller.reconcile(key).await,
                Work::Stray(key) => controller.free_stray(key).await,
            }
        }
    })
    .await;
}

impl Controller {
    fn job_changed(&self, change: &Change<Job>) {
        let job = change.latest();
        if change.is_deletion() {
            let uid = meta::uid(&job.metadata);
            self.expectations.forget(uid);
            self.written.forget(uid);
            let strays = self.pods.by_index(CONTROLLER_INDEX, uid);
            strays.iter().for_each(|pod| self.queue.add(Work::Stray(ObjectKey::of(&**pod))));
        } else {
            self.queue.add(Work::Job(ObjectKey::of(&**job)));
        }
    }

    fn pod_changed(&self, change: &Change<Pod>) {
        let pod = change.latest();
        let owner = meta::controller_of(&pod.metadata);
        if meta::has_finalizer(&pod.metadata, FINALIZER) && self.cached_owner(pod).is_none() {
            self.queue.add(Work::Stray(ObjectKey::of(&**pod)));
        }
        let Some(owner) = owner.filter(|owner| owner.kind == "Job") else { return };
        if change.is_addition() {
            self.expectations.creation_observed(&owner.uid);
        }
        if change.is_deletion() || pods::is_terminating(pod) {
            self.expectations.deletion_observed(&owner.uid, meta::uid(&pod.metadata));
        }
        self.queue.add(Work::Job(ObjectKey::new(meta::namespace(&pod.metadata), owner.name.clone())));
    }

    async fn reconcile(&self, key: ObjectKey) -> Result<Outcome, Error> {
        let Some(job) = self.jobs.get(&key.namespace, &key.name) else { return Ok(Outcome::Done) };
        let spec = job.spec.clone().unwrap_or_default();
        if spec.managed_by.as_deref().is_some_and(|manager| manager != "kubernetes.io/job-controller") {
            return Ok(Outcome::Done);
        }
        if self.written.is_outdated(&job.metadata) {
            // The change that is on the way brings the Job back here.
            return Ok(Outcome::Done);
        }
        let uid = meta::uid(&job.metadata);
        let settled = self.expectations.satisfied(uid);
        let pods = match &spec.selector {
            Some(wanted) => {
                let wanted = selector::of_workload(Some(wanted))?;
                let candidates = claim::candidates(&self.pods, &job.metadata);
                claim::claim(&self.context.client, &*job, &wanted, candidates).await?
            }
            None => self.pods.by_index(CONTROLLER_INDEX, uid),
        };
        let plan = plan::plan(&job, &pods, self.context.clock.now());
        self.carry_out(&job, plan, settled).await
    }

    async fn carry_out(&self, job: &Arc<Job>, plan: Plan, settled: bool) -> Result<Outcome, Error> {
        let Plan { status, uncounted_written, free, delete, free_and_delete, create, events, look_again } = plan;
        let client = &self.context.client;
        // Before a finalizer goes its pod has to be in the status.
        if let Some(status) = status {
            let changed = Job { status: Some(*status), ..(**job).clone() };
            let written = errors::optional(call::replace_status(client, &changed).await);
            match written.map_err(Error::api("writing the status"))? {
                Some(written) => self.written.note(&written.metadata),
                None => return Ok(Outcome::Done),
            }
            for (is_warning, reason, message) in events {
                if is_warning {
                    self.context.recorder.warning(&**job, reason, message);
                } else {
                    self.context.recorder.normal(&**job, reason, message);
                }
            }
        }
        debug_assert!(uncounted_written || free.is_empty());
        for pod in &free {
            self.free(pod).await?;
        }
        for pod in &free_and_delete {
            self.free(pod).await?;
        }
        let delete: Vec<_> = delete.into_iter().chain(free_and_delete).collect();
        let deleted = batch::delete_pods(&self.context, &**job, &delete, |_| {}).await;
        deleted.map_err(Error::api("deleting a pod"))?;
        if settled && !create.is_empty() {
            self.create(job, create).await?;
        }
        let pending = self.expectations.pending_for(meta::uid(&job.metadata));
        Ok([look_again, pending].into_iter().flatten().min().map_or(Outcome::Done, Outcome::After))
    }

    /// The Job that counts the pod, as far as the cache knows.
    fn cached_owner(&self, pod: &Pod) -> Option<Arc<Job>> {
        let owner = meta::controller_of(&pod.metadata).filter(|owner| owner.kind == "Job")?;
        let job = self.jobs.get(meta::namespace(&pod.metadata), &owner.name)?;
        (meta::uid(&job.metadata) == owner.uid).then_some(job)
    }

    /// Takes the finalizer off a pod whose Job is gone, or has let go of it: nobody counts it any more.
    async fn free_stray(&self, key: ObjectKey) -> Result<Outcome, Error> {
        let Some(pod) = self.pods.get(&key.namespace, &key.name) else { return Ok(Outcome::Done) };
        if self.cached_owner(&pod).is_some() {
            return Ok(Outcome::Done);
        }
        if let Some(owner) = meta::controller_of(&pod.metadata) {
            if owner.kind != "Job" {
                return Ok(Outcome::Done);
            }
            // The cache of Jobs may be behind that of pods; the server knows.
            let job = call::get::<Job>(&self.context.client, &key.namespace, &owner.name).await;
            let job = job.map_err(Error::api("looking for a pod's Job"))?;
            if job.is_some_and(|job| meta::uid(&job.metadata) == owner.uid) {
                return Ok(Outcome::Done);
            }
        }
        self.free(&pod).await.map(|()| Outcome::Done)
    }

    async fn free(&self, pod: &Pod) -> Result<(), Error> {
        if !meta::has_finalizer(&pod.metadata, FINALIZER) {
            return Ok(());
        }
        let left: Vec<_> = pod.metadata.finalizers.iter().flatten().filter(|other| *other != FINALIZER).collect();
        let patch = serde_json::json!({"metadata": {
            "uid": pod.metadata.uid, "resourceVersion": pod.metadata.resource_version, "finalizers": some_or_null(left),
        }});
        let patched = errors::optional(call::merge(&self.context.client, pod, patch).await);
        patched.map(drop).map_err(Error::api("removing a pod's finalizer"))
    }

    async fn create(&self, job: &Arc<Job>, pods: Vec<Arc<v1::Pod>>) -> Result<(), Error> {
        let (uid, count) = (meta::uid(&job.metadata), pods.len());
        self.expectations.expect_creations(uid, count);
        let (created, error) = batch::create_pods(&self.context, job, pods).await;
        self.expectations.creations_observed(uid, count - created);
        error.map_or(Ok(()), |source| Err(Error::Api { what: "creating pods", source }))
    }
}
