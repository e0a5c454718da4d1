//! What a CronJob's Jobs amount to, and whether the next is to be made. Pure.

use std::{sync::Arc, time::Duration};

use jiff::{SignedDuration, Timestamp, tz::TimeZone};
use k8s_openapi::{
    api::{
        batch::v1::{CronJob, CronJobSpec, CronJobStatus, Job},
        core::v1::ObjectReference,
    },
    apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time},
};
use knarr_api::strategy::batch::schedule::Schedule;
use knarr_client::meta;

use super::schedule::{Due, Timetable};

const SCHEDULED_AT: &str = "batch.kubernetes.io/cronjob-scheduled-timestamp";
/// As Go's RFC1123Z, which the events of upstream use.
const IN_WORDS: &str = "%a, %d %b %Y %H:%M:%S %z";

#[derive(Debug, PartialEq)]
pub struct Note {
    pub is_warning: bool,
    pub reason: &'static str,
    pub message: String,
}

/// To be carried out in the order of the fields; the status is to be completed by [`note_made`].
pub struct Plan {
    pub notes: Vec<Note>,
    pub delete: Vec<Arc<Job>>,
    /// With the time that it was due.
    pub create: Option<(Box<Job>, Timestamp)>,
    pub status: CronJobStatus,
    pub look_again: Option<Duration>,
}

impl Plan {
    fn normal(&mut self, reason: &'static str, message: String) {
        self.notes.push(Note { is_warning: false, reason, message });
    }

    fn warn(&mut self, reason: &'static str, message: String) {
        self.notes.push(Note { is_warning: true, reason, message });
    }
}

/// `missing` are the uids of active Jobs that are gone.
pub fn plan(cron_job: &CronJob, jobs: &[Arc<Job>], missing: &[String], now: Timestamp) -> Plan {
    let status = cron_job.status.clone().unwrap_or_default();
    let mut plan = Plan { notes: Vec::new(), delete: Vec::new(), create: None, status, look_again: None };
    take_in(jobs, missing, &mut plan);
    if let Some(spec) = Some(&cron_job.spec).filter(|_| cron_job.metadata.deletion_timestamp.is_none()) {
        clear_away(spec, jobs, &mut plan);
        if spec.suspend != Some(true) {
            start(cron_job, spec, jobs, now, &mut plan);
        }
    }
    plan.status.active = plan.status.active.filter(|active| !active.is_empty());
    plan
}

/// How a Job ended, where it has.
fn end(job: &Job) -> Option<&str> {
    let conditions = job.status.iter().flat_map(|status| status.conditions.iter().flatten());
    let mut ended =
        conditions.filter(|one| matches!(one.type_.as_str(), "Complete" | "Failed") && one.status == "True");
    ended.next().map(|one| one.type_.as_str())
}

fn take_in(jobs: &[Arc<Job>], missing: &[String], plan: &mut Plan) {
    let mut active = plan.status.active.take().unwrap_or_default();
    for job in jobs {
        let name = meta::name(&job.metadata);
        let at = active.iter().position(|one| one.uid == job.metadata.uid);
        match (at, end(job)) {
            (None, None) => {
                let message = format!("Saw a job that the controller did not create or forgot: {name}");
                plan.warn("UnexpectedJob", message);
            }
            (Some(at), Some(how)) => {
                active.remove(at);
                plan.normal("SawCompletedJob", format!("Saw completed job: {name}, condition: {how}"));
            }
            _ => {}
        }
        if end(job) == Some("Complete") {
            let completed = job.status.as_ref().and_then(|status| status.completion_time.clone());
            plan.status.last_successful_time = plan.status.last_successful_time.take().max(completed);
        }
    }
    active.retain(|one| {
        let is_missing = missing.iter().any(|uid| one.uid.as_ref() == Some(uid));
        if is_missing {
            let name = one.name.clone().unwrap_or_default();
            plan.notes.push(Note {
                is_warning: false,
                reason: "MissingJob",
                message: format!("Active job went missing: {name}"),
            });
        }
        !is_missing
    });
    plan.status.active = Some(active);
}

/// The oldest of those that ended go, beyond the limits.
fn clear_away(spec: &CronJobSpec, jobs: &[Arc<Job>], plan: &mut Plan) {
    for (how, limit) in [("Complete", spec.successful_jobs_history_limit), ("Failed", spec.failed_jobs_history_limit)] {
        let Some(limit) = limit else { continue };
        let mut ended: Vec<_> = jobs.iter().filter(|job| end(job) == Some(how)).collect();
        let started = |job: &Job| job.status.as_ref().and_then(|status| status.start_time.clone());
        ended.sort_by(|a, b| (started(a), &a.metadata.name).cmp(&(started(b), &b.metadata.name)));
        ended.truncate(ended.len().saturating_sub(limit.max(0) as usize));
        plan.delete.extend(ended.into_iter().filter(|job| job.metadata.deletion_timestamp.is_none()).cloned());
    }
}

fn timetable(spec: &CronJobSpec) -> Result<Timetable, Note> {
    let wrong = |reason, message| Note { is_warning: true, reason, message };
    let zone = match spec.time_zone.as_deref() {
        None => TimeZone::UTC,
        Some(name) => knarr_api::time::zone(name)
            .ok_or_else(|| wrong("UnknownTimeZone", format!("invalid timeZone: {name:?}: unknown time zone {name}")))?,
    };
    let schedule = Schedule::parse(&spec.schedule).map_err(|error| {
        wrong("UnparseableSchedule", format!("unparseable schedule: {:?} : {error}", spec.schedule))
    })?;
    Ok(Timetable { schedule, zone })
}

fn start(cron_job: &CronJob, spec: &CronJobSpec, jobs: &[Arc<Job>], now: Timestamp, plan: &mut Plan) {
    let timetable = match timetable(spec) {
        Ok(timetable) => timetable,
        Err(note) => return plan.notes.push(note),
    };
    plan.look_again = timetable.until_next(now);
    let Due { at, too_many } = timetable.due(cron_job, now);
    if too_many {
        let advice = "too many missed start times. Set or decrease .spec.startingDeadlineSeconds or check clock skew";
        plan.warn("TooManyMissedTimes", advice.to_owned());
    }
    let Some(at) = at else { return };
    let deadline = spec.starting_deadline_seconds.map(SignedDuration::from_secs);
    if deadline.is_some_and(|deadline| now.duration_since(at) > deadline) {
        let when = at.to_zoned(timetable.zone).strftime(IN_WORDS).to_string();
        return plan.warn("MissSchedule", format!("Missed scheduled time to start a job: {when}"));
    }
    let job = job(cron_job, spec, at, &timetable.zone);
    let mut active = plan.status.active.take().unwrap_or_default();
    let is_made = plan.status.last_schedule_time.as_ref().is_some_and(|last| last.0 == at)
        || active.iter().any(|one| one.name == job.metadata.name);
    let policy = spec.concurrency_policy.as_deref();
    if !is_made && policy == Some("Forbid") && !active.is_empty() {
        let message = "Not starting job because prior execution is running and concurrency policy is Forbid";
        plan.normal("JobAlreadyActive", message.to_owned());
    } else if !is_made {
        if policy == Some("Replace") {
            let is_active = |job: &&Arc<Job>| active.iter().any(|one| one.uid == job.metadata.uid);
            plan.delete.extend(jobs.iter().filter(is_active).cloned());
            active.clear();
        }
        plan.create = Some((Box::new(job), at));
    }
    plan.status.active = Some(active);
}

fn job(cron_job: &CronJob, spec: &CronJobSpec, at: Timestamp, zone: &TimeZone) -> Job {
    let template = spec.job_template.metadata.clone().unwrap_or_default();
    let mut annotations = template.annotations.unwrap_or_default();
    let local = at.to_zoned(zone.clone()).strftime("%Y-%m-%dT%H:%M:%S%:z").to_string();
    annotations.insert(SCHEDULED_AT.to_owned(), local.replace("+00:00", "Z"));
    Job {
        metadata: ObjectMeta {
            name: Some(format!("{}-{}", meta::name(&cron_job.metadata), at.as_second() / 60)),
            namespace: cron_job.metadata.namespace.clone(),
            labels: template.labels,
            annotations: Some(annotations),
            owner_references: Some(vec![meta::controller_reference(cron_job)]),
            ..ObjectMeta::default()
        },
        spec: spec.job_template.spec.clone(),
        status: None,
    }
}

/// A Job was made for a time that was due.
pub fn note_made(status: &mut CronJobStatus, made: &Job, due: Timestamp) {
    let ended = end(made).is_some();
    let active = status.active.get_or_insert_default();
    if !ended && !active.iter().any(|one| one.uid == made.metadata.uid) {
        active.push(ObjectReference {
            api_version: Some("batch/v1".to_owned()),
            kind: Some("Job".to_owned()),
            name: made.metadata.name.clone(),
            namespace: made.metadata.namespace.clone(),
            uid: made.metadata.uid.clone(),
            resource_version: made.metadata.resource_version.clone(),
            field_path: None,
        });
    }
    status.active = status.active.take().filter(|active| !active.is_empty());
    status.last_schedule_time = Some(Time(due));
}
