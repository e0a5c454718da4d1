//! What a Job's pods amount to, and what to do next. Pure.

use std::{sync::Arc, time::Duration};

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::{
    api::{
        batch::v1::{Job, JobCondition, JobSpec, JobStatus},
        core::v1,
    },
    apimachinery::pkg::apis::meta::v1::Time,
};
use knarr_client::{lean::Pod, meta};

use super::{
    count::Count,
    indexes::Indexes,
    making::{new_pod, pause},
    per_index::{Held, is_per_index},
    success,
};
use crate::common::{pods, rank, unless_zero};

pub const FINALIZER: &str = "batch.kubernetes.io/job-tracking";
pub const INDEX: &str = "batch.kubernetes.io/job-completion-index";
/// Pods made in one go, at most.
const BURST: usize = 500;

/// To be carried out in the order of the fields.
#[derive(Default)]
pub struct Plan {
    pub status: Option<Box<JobStatus>>,
    /// The pods in `free` are in the status that is (to be) written.
    pub uncounted_written: bool,
    /// Their finalizers go: they are counted.
    pub free: Vec<Arc<Pod>>,
    /// The Job has failed: these end, and count as failed.
    pub delete: Vec<Arc<Pod>>,
    /// Too many, or the Job is suspended: these end and count as nothing.
    pub free_and_delete: Vec<Arc<Pod>>,
    pub create: Vec<Arc<v1::Pod>>,
    /// (is a warning, reason, message)
    pub events: Vec<(bool, &'static str, String)>,
    pub look_again: Option<Duration>,
}

/// How a Job ends.
struct End {
    failed: bool,
    reason: String,
    message: String,
}

pub fn plan(job: &Job, owned: &[Arc<Pod>], now: Timestamp) -> Plan {
    let mut plan = Plan { uncounted_written: true, ..Plan::default() };
    let before = job.status.clone().unwrap_or_default();
    let has_finalizer = |pod: &&Arc<Pod>| meta::has_finalizer(&pod.metadata, FINALIZER);
    if condition(&before, "Complete").is_some() || condition(&before, "Failed").is_some() {
        plan.free = owned.iter().filter(has_finalizer).cloned().collect();
        return plan;
    }
    if job.metadata.deletion_timestamp.is_some() {
        plan.free = owned.iter().filter(has_finalizer).cloned().collect();
        return plan;
    }
    let spec = job.spec.clone().unwrap_or_default();
    let decided = ending(&before);
    let mut count = Count::begin(&spec, before.clone(), owned);
    let suspended = spec.suspend == Some(true);
    if !suspended && count.status.start_time.is_none() {
        count.status.start_time = Some(Time(now));
    }
    if is_per_index(&spec) && decided.is_none() {
        count.held = Held::of(job, owned, &count.completed, &mut count.failed_indexes);
    }
    count.take_in(job, owned);
    let active: Vec<_> = owned.iter().filter(|pod| pods::is_active(pod)).cloned().collect();
    let terminating = owned.iter().filter(|pod| pods::is_terminating(pod) && !pods::is_terminal(pod)).count() as i32;
    let end = decided.or_else(|| verdict(&spec, &count, owned, &active, now));
    plan.free = std::mem::take(&mut count.free);
    let left;
    match &end {
        Some(end) => {
            if end.failed {
                plan.delete = active.clone();
            } else {
                plan.free_and_delete = active.clone();
            }
            left = 0;
        }
        None if suspended => {
            plan.free_and_delete = active.clone();
            left = 0;
            note(&mut count.status, "Suspended", "True", "JobSuspended", "Job suspended", now, &mut plan.events);
            count.status.start_time = None;
        }
        None => {
            if condition(&before, "Suspended").is_some() {
                note(&mut count.status, "Suspended", "False", "JobResumed", "Job resumed", now, &mut plan.events);
                count.status.start_time = Some(Time(now));
            }
            left = size(job, &spec, &count, owned, &active, terminating, now, &mut plan);
        }
    }
    let ready = active.iter().filter(|pod| pods::is_ready(pod)).count() as i32;
    count.status.active = unless_zero(left as i32);
    count.status.ready = Some(if left == 0 { 0 } else { ready });
    count.status.terminating = Some(terminating + plan.delete.len() as i32 + plan.free_and_delete.len() as i32);
    let nothing_held = count.held.is_empty();
    let mut status = count.finish(&spec);
    if let Some(end) = end {
        let nothing_runs =
            active.is_empty() && terminating == 0 && nothing_held && status.uncounted_terminated_pods.is_none();
        write_end(&mut status, end, nothing_runs, now, &mut plan.events);
    } else if let (Some(deadline), Some(start)) = (spec.active_deadline_seconds, &status.start_time) {
        let over = SignedDuration::from_secs(deadline) - now.duration_since(start.0);
        let over = Duration::try_from(over).unwrap_or_default() + Duration::from_millis(100);
        plan.look_again = Some(plan.look_again.map_or(over, |other| other.min(over)));
    }
    if status != before {
        plan.status = Some(Box::new(status));
    }
    plan
}

pub fn completions(spec: &JobSpec) -> i32 {
    spec.completions.unwrap_or(i32::MAX)
}

pub fn is_indexed(spec: &JobSpec) -> bool {
    spec.completion_mode.as_deref() == Some("Indexed")
}

pub fn index_of(pod: &Pod) -> Option<i32> {
    meta::annotation(&pod.metadata, INDEX)?.parse().ok().filter(|index| *index >= 0)
}

/// A pod that is being deleted counts as failed at once, unless the Job waits for it to really end.
pub fn has_failed(spec: &JobSpec, pod: &Pod) -> bool {
    let waits = spec.pod_replacement_policy.as_deref() == Some("Failed") || spec.pod_failure_policy.is_some();
    pods::phase(pod) == "Failed" || (pods::is_terminating(pod) && !waits && pods::phase(pod) != "Succeeded")
}

/// The Job's end was decided before, and is being carried out.
fn ending(status: &JobStatus) -> Option<End> {
    let found = |kind: &str, failed: bool| {
        let condition = condition(status, kind)?;
        let text = |text: &Option<String>| text.clone().unwrap_or_default();
        Some(End { failed, reason: text(&condition.reason), message: text(&condition.message) })
    };
    found("FailureTarget", true).or_else(|| found("SuccessCriteriaMet", false))
}

fn verdict(spec: &JobSpec, count: &Count<'_>, owned: &[Arc<Pod>], active: &[Arc<Pod>], now: Timestamp) -> Option<End> {
    let end = |failed: bool, reason: &str, message: &str| {
        Some(End { failed, reason: reason.into(), message: message.into() })
    };
    if let Some(why) = &count.fails_job {
        return end(true, "PodFailurePolicy", why);
    }
    let limit = spec.backoff_limit.unwrap_or(6);
    if count.all_failed() > limit || restarts_exceed(spec, owned, limit) {
        return end(true, "BackoffLimitExceeded", "Job has reached the specified backoff limit");
    }
    let ran = count.status.start_time.as_ref().map(|start| now.duration_since(start.0));
    let deadline = spec.active_deadline_seconds.map(SignedDuration::from_secs);
    if spec.suspend != Some(true)
        && let (Some(ran), Some(deadline)) = (ran, deadline)
        && ran >= deadline
    {
        return end(true, "DeadlineExceeded", "Job was active longer than specified deadline");
    }
    if let Some((reason, message)) = failed_indexes(spec, count) {
        return end(true, reason, message);
    }
    if let Some(rule) = success::met(spec, &count.completed) {
        return end(false, "SuccessPolicy", &format!("Matched rules at index {rule}"));
    }
    let done = match spec.completions {
        Some(completions) => count.all_succeeded() >= completions,
        // A work queue: one success says that the queue is empty; the others may finish what they took.
        None => count.all_succeeded() > 0 && active.is_empty(),
    };
    if done { end(false, "CompletionsReached", "Reached expected number of succeeded pods") } else { None }
}

fn failed_indexes(spec: &JobSpec, count: &Count<'_>) -> Option<(&'static str, &'static str)> {
    let failed = count.failed_indexes.len();
    if spec.max_failed_indexes.is_some_and(|most| failed > most.max(0) as usize) {
        let message = "Job has exceeded the specified maximal number of failed indexes";
        return Some(("MaxFailedIndexesExceeded", message));
    }
    let all = completions(spec).max(0) as usize;
    (failed > 0 && failed + count.completed.len() >= all).then_some(("FailedIndexes", "Job has failed indexes"))
}

/// With `restartPolicy: OnFailure` pods do not fail, their containers restart.
fn restarts_exceed(spec: &JobSpec, owned: &[Arc<Pod>], limit: i32) -> bool {
    let template = spec.template.spec.as_ref();
    if template.and_then(|spec| spec.restart_policy.as_deref()) != Some("OnFailure") {
        return false;
    }
    let restarts: i32 =
        owned.iter().filter(|pod| matches!(pods::phase(pod), "Running" | "Pending")).map(|pod| restarts(pod)).sum();
    if limit == 0 { restarts > 0 } else { restarts >= limit }
}

fn restarts(pod: &Pod) -> i32 {
    let status = pod.status.as_ref();
    let statuses = status.iter().flat_map(|status| {
        status.init_container_statuses.iter().flatten().chain(status.container_statuses.iter().flatten())
    });
    statuses.map(|status| status.restart_count).sum()
}

/// Too few or too many pods; answers how many there will be.
#[allow(clippy::too_many_arguments)]
fn size(
    job: &Job,
    spec: &JobSpec,
    count: &Count<'_>,
    owned: &[Arc<Pod>],
    active: &[Arc<Pod>],
    terminating: i32,
    now: Timestamp,
    plan: &mut Plan,
) -> usize {
    let parallelism = spec.parallelism.unwrap_or(1).max(0);
    let wanted = match spec.completions {
        Some(completions) => {
            let left = completions - count.all_succeeded() - count.failed_indexes.len() as i32;
            left.clamp(0, parallelism) as usize
        }
        None if count.all_succeeded() > 0 => active.len(),
        None => parallelism as usize,
    };
    if active.len() > wanted {
        let mut excess = active.to_vec();
        rank::sort_by_deletion(&mut excess, &[], now);
        excess.truncate(active.len() - wanted);
        plan.free_and_delete = excess;
        return wanted;
    }
    let waits_for_ends = spec.pod_replacement_policy.as_deref() == Some("Failed") || spec.pod_failure_policy.is_some();
    let taken = active.len() + if waits_for_ends { terminating as usize } else { 0 };
    let missing = wanted.saturating_sub(taken).min(BURST);
    if missing == 0 {
        return active.len();
    }
    if !is_per_index(spec)
        && let Some(wait) = pause(count.all_failed(), owned, now)
    {
        plan.look_again = Some(wait);
        return active.len();
    }
    plan.create = if is_indexed(spec) {
        let busy: Indexes = active.iter().filter_map(|pod| index_of(pod)).collect();
        let is_done = |index: &i32| count.completed.contains(index) || count.failed_indexes.contains(index);
        let mut free: Vec<i32> =
            (0..completions(spec)).filter(|index| !busy.contains(index) && !is_done(index)).collect();
        if is_per_index(spec) {
            plan.look_again = count.held.keep_due(&mut free, now);
        }
        let failures = |index| is_per_index(spec).then(|| count.held.failures(index));
        free.into_iter().take(missing).map(|index| new_pod(job, spec, Some(index), failures(index))).collect()
    } else {
        (0..missing).map(|_| new_pod(job, spec, None, None)).collect()
    };
    active.len() + plan.create.len()
}

/// First what will be, then, when nothing runs any more, what is.
fn write_end(
    status: &mut JobStatus,
    end: End,
    nothing_runs: bool,
    now: Timestamp,
    events: &mut Vec<(bool, &'static str, String)>,
) {
    let End { failed, reason, message } = end;
    let (target, last) = if failed { ("FailureTarget", "Failed") } else { ("SuccessCriteriaMet", "Complete") };
    let mut quiet = Vec::new();
    note(status, target, "True", &reason, &message, now, &mut quiet);
    if !nothing_runs {
        return;
    }
    note(status, last, "True", &reason, &message, now, &mut quiet);
    if failed {
        let known = ["PodFailurePolicy", "DeadlineExceeded", "MaxFailedIndexesExceeded", "FailedIndexes"];
        let reason = known.into_iter().find(|known| reason == **known).unwrap_or("BackoffLimitExceeded");
        events.push((true, reason, message));
    } else {
        status.completion_time = Some(Time(now));
        events.push((false, "Completed", "Job completed".to_owned()));
    }
}

pub fn condition<'a>(status: &'a JobStatus, kind: &str) -> Option<&'a JobCondition> {
    status.conditions.iter().flatten().find(|condition| condition.type_ == kind && condition.status == "True")
}

fn note(
    status: &mut JobStatus,
    kind: &str,
    truth: &str,
    reason: &str,
    message: &str,
    now: Timestamp,
    events: &mut Vec<(bool, &'static str, String)>,
) {
    let conditions = status.conditions.get_or_insert_default();
    if conditions.iter().any(|condition| condition.type_ == kind && condition.status == truth) {
        return;
    }
    let new = JobCondition {
        type_: kind.to_owned(),
        status: truth.to_owned(),
        reason: Some(reason.to_owned()),
        message: Some(message.to_owned()),
        last_probe_time: Some(Time(now)),
        last_transition_time: Some(Time(now)),
    };
    match conditions.iter_mut().find(|condition| condition.type_ == kind) {
        Some(known) => *known = new,
        None => conditions.push(new),
    }
    events.push((false, if truth == "True" { "Suspended" } else { "Resumed" }, message.to_owned()));
}
