//! New pods of a Job: when the next may be made, and what it looks like. Pure.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::{
    batch::v1::{Job, JobSpec},
    core::v1::{self, EnvVar, EnvVarSource, ObjectFieldSelector},
};
use knarr_client::{lean::Pod, meta};

use super::{
    per_index::{FAILURES, Failures, IGNORED_FAILURES},
    plan::{FINALIZER, INDEX},
};
use crate::common::pods;

/// After a failure the next pod waits, doubling up to the second.
const BACKOFF: (SignedDuration, SignedDuration) = (SignedDuration::from_secs(10), SignedDuration::from_secs(600));

/// How long until the next pod may be made, after failures since the last success.
pub fn pause(all_failed: i32, owned: &[Arc<Pod>], now: Timestamp) -> Option<Duration> {
    let ended = |pod: &&Arc<Pod>| pods::is_terminal(pod) || pods::is_terminating(pod);
    let mut ends: Vec<_> =
        owned.iter().filter(ended).map(|pod| (finished_at(pod, now), pods::phase(pod) == "Succeeded")).collect();
    ends.sort();
    let failures = ends.iter().rev().take_while(|(_, succeeded)| !succeeded).count() as u32;
    // Pods that were deleted after they had failed still count for the pause.
    let failures =
        failures.max(if ends.iter().any(|(_, succeeded)| *succeeded) { 0 } else { all_failed.max(0) as u32 });
    let last = ends.iter().rev().find(|(_, succeeded)| !succeeded).map(|(at, _)| *at)?;
    if failures == 0 { None } else { left_of_pause(failures, last, now) }
}

/// What is left of the pause after so many failures, the last of them at that time.
pub fn left_of_pause(failures: u32, last: Timestamp, now: Timestamp) -> Option<Duration> {
    let pause = BACKOFF.0.checked_mul(1i32.checked_shl(failures - 1).filter(|_| failures < 8).unwrap_or(i32::MAX));
    let pause = pause.unwrap_or(BACKOFF.1).min(BACKOFF.1);
    let left = pause - now.duration_since(last);
    Duration::try_from(left).ok().filter(|left| !left.is_zero())
}

/// When the last of its containers ended; else the best guess there is.
pub fn finished_at(pod: &Pod, now: Timestamp) -> Timestamp {
    let statuses = pod.status.iter().flat_map(|status| status.container_statuses.iter().flatten());
    let ends =
        statuses.filter_map(|status| status.state.as_ref()?.terminated.as_ref()?.finished_at.as_ref().map(|at| at.0));
    let deleted = pod.metadata.deletion_timestamp.as_ref().map(|at| at.0);
    let changed = pods::condition(pod, "Ready").and_then(|ready| ready.last_transition_time.as_ref().map(|at| at.0));
    ends.max().or(changed).or(deleted).unwrap_or(now).min(now)
}

/// `failures` are those that the index has behind it, where each index has a limit of its own.
pub fn new_pod(job: &Job, spec: &JobSpec, index: Option<i32>, failures: Option<Failures>) -> Arc<v1::Pod> {
    let name = meta::name(&job.metadata);
    let prefix = index.map_or_else(|| name.to_owned(), |index| format!("{name}-{index}"));
    let namespace = meta::namespace(&job.metadata);
    let mut pod = pods::from_template(&spec.template, &prefix, namespace, meta::controller_reference(job));
    pod.metadata.finalizers.get_or_insert_default().push(FINALIZER.to_owned());
    if let Some(index) = index {
        for map in [&mut pod.metadata.annotations, &mut pod.metadata.labels] {
            map.get_or_insert_with(BTreeMap::new).insert(INDEX.to_owned(), index.to_string());
        }
        if let Some(spec) = &mut pod.spec {
            spec.hostname.get_or_insert(prefix);
            let containers = spec.containers.iter_mut().chain(spec.init_containers.iter_mut().flatten());
            containers.for_each(|container| tell_index(container.env.get_or_insert_default()));
        }
    }
    if let Some(Failures { counted, ignored }) = failures {
        let annotations = pod.metadata.annotations.get_or_insert_default();
        annotations.insert(FAILURES.to_owned(), counted.to_string());
        if ignored > 0 {
            annotations.insert(IGNORED_FAILURES.to_owned(), ignored.to_string());
        }
    }
    Arc::new(pod)
}

fn tell_index(env: &mut Vec<EnvVar>) {
    const NAME: &str = "JOB_COMPLETION_INDEX";
    if env.iter().any(|variable| variable.name == NAME) {
        return;
    }
    let field = ObjectFieldSelector { field_path: format!("metadata.labels['{INDEX}']"), api_version: None };
    let source = EnvVarSource { field_ref: Some(field), ..Default::default() };
    env.push(EnvVar { name: NAME.to_owned(), value_from: Some(source), value: None });
}
