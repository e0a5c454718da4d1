//! Makes Jobs when their time has come.
//! (<https://kubernetes.io/docs/concepts/workloads/controllers/cron-jobs/>)
//!
//! A Job's name ends with the minute that it was due, so no minute has two.

mod plan;
mod schedule;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use k8s_openapi::api::batch::v1::{CronJob, Job};
use knarr_client::{Informer, ObjectKey, Outcome, WorkQueue, call, errors, informer::CONTROLLER_INDEX, meta, worker};
use kube::api::DeleteParams;

use crate::{
    Context, Error,
    common::{owners, written::Written},
};
use plan::{Note, Plan};

pub const NAME: &str = "cronjob-controller";
const KIND: &str = "CronJob";
const WORKERS: usize = 5;

struct Controller {
    context: Context,
    cron_jobs: Informer<CronJob>,
    jobs: Informer<Job>,
    written: Written,
}

pub async fn run(context: Context) {
    let queue = WorkQueue::new(context.cancel.clone());
    let controller = Arc::new(Controller {
        cron_jobs: context.informers.of(),
        jobs: context.informers.of(),
        written: Written::default(),
        context,
    });
    let Controller { cron_jobs, jobs, .. } = &*controller;
    jobs.index_by_controller();
    if !(cron_jobs.synced().await && jobs.synced().await) {
        return;
    }
    owners::feed(&queue, jobs, KIND);
    let watcher = Arc::downgrade(&controller);
    cron_jobs.feed(&queue, move |change| {
        let cron_job = change.latest();
        if let Some(controller) = watcher.upgrade().filter(|_| change.is_deletion()) {
            controller.written.forget(meta::uid(&cron_job.metadata));
        }
        [ObjectKey::of(&**cron_job)]
    });
    worker::run(NAME, queue, WORKERS, move |key| {
        let controller = controller.clone();
        async move { controller.reconcile(key).await }
    })
    .await;
}

impl Controller {
    async fn reconcile(&self, key: ObjectKey) -> Result<Outcome, Error> {
        let Some(cron_job) = self.cron_jobs.get(&key.namespace, &key.name) else { return Ok(Outcome::Done) };
        if self.written.is_outdated(&cron_job.metadata) {
            // The change that is on the way brings it back here.
            return Ok(Outcome::Done);
        }
        let jobs = self.jobs.by_index(CONTROLLER_INDEX, meta::uid(&cron_job.metadata));
        let missing = self.missing(&cron_job, &jobs).await?;
        let plan = plan::plan(&cron_job, &jobs, &missing, self.context.clock.now());
        self.carry_out(&cron_job, plan).await
    }

    /// The uids of active Jobs that are really gone: the cache of Jobs may be behind.
    async fn missing(&self, cron_job: &CronJob, jobs: &[Arc<Job>]) -> Result<Vec<String>, Error> {
        let mut missing = Vec::new();
        for active in cron_job.status.iter().flat_map(|status| status.active.iter().flatten()) {
            let uid = active.uid.as_deref().unwrap_or_default();
            if jobs.iter().any(|job| meta::uid(&job.metadata) == uid) {
                continue;
            }
            let name = active.name.as_deref().unwrap_or_default();
            let there = call::get::<Job>(&self.context.client, meta::namespace(&cron_job.metadata), name).await;
            let there = there.map_err(Error::api("looking for an active Job"))?;
            if there.is_none_or(|there| meta::uid(&there.metadata) != uid) {
                missing.push(uid.to_owned());
            }
        }
        Ok(missing)
    }

    async fn carry_out(&self, cron_job: &Arc<CronJob>, plan: Plan) -> Result<Outcome, Error> {
        let Plan { notes, delete, create, mut status, look_again } = plan;
        for Note { is_warning, reason, message } in notes {
            match is_warning {
                true => self.context.recorder.warning(&**cron_job, reason, message),
                false => self.context.recorder.normal(&**cron_job, reason, message),
            }
        }
        for job in delete {
            let name = meta::name(&job.metadata);
            match call::delete(&self.context.client, &*job, DeleteParams::background()).await {
                Ok(_) => self.context.recorder.normal(&**cron_job, "SuccessfulDelete", format!("Deleted job {name}")),
                Err(error) => {
                    let message = format!("Deleted job: {}", errors::message(&error));
                    self.context.recorder.warning(&**cron_job, "FailedDelete", message);
                    return Err(Error::Api { what: "deleting a Job", source: error });
                }
            }
        }
        if let Some((job, due)) = create {
            let Some(made) = self.create(cron_job, &job).await? else { return Ok(Outcome::Done) };
            plan::note_made(&mut status, &made, due);
        }
        if cron_job.status.as_ref() != Some(&status) {
            let changed = CronJob { status: Some(status), ..(**cron_job).clone() };
            let written = errors::optional(call::replace_status(&self.context.client, &changed).await);
            match written.map_err(Error::api("writing the status"))? {
                Some(written) => self.written.note(&written.metadata),
                None => return Ok(Outcome::Done),
            }
        }
        Ok(look_again.map_or(Outcome::Done, Outcome::After))
    }

    /// The Job of the minute that is due, made now or, unnoticed, before. `None` where nothing can be made.
    async fn create(&self, cron_job: &CronJob, job: &Job) -> Result<Option<Job>, Error> {
        let name = meta::name(&job.metadata);
        let error = match call::create(&self.context.client, job).await {
            Ok(made) => {
                self.context.recorder.normal(cron_job, "SuccessfulCreate", format!("Created job {name}"));
                return Ok(Some(made));
            }
            Err(error) => error,
        };
        if errors::is_namespace_terminating(&error) {
            return Ok(None);
        }
        if errors::is_already_exists(&error) {
            let there = call::get::<Job>(&self.context.client, meta::namespace(&job.metadata), name).await;
            let there = there.map_err(Error::api("reading a Job of the same name"))?;
            let ours = there.filter(|there| meta::is_controlled_by(&there.metadata, meta::uid(&cron_job.metadata)));
            return ours.map(Some).ok_or(Error::NotYet("a Job of that name is there, and is not this CronJob's"));
        }
        let message = format!("Error creating job: {}", errors::message(&error));
        self.context.recorder.warning(cron_job, "FailedCreate", message);
        Err(Error::Api { what: "creating a Job", source: error })
    }
}
