//! The counting of pods that have ended: each once, whatever is lost on the way. Pure.

use std::{collections::BTreeSet, sync::Arc};

use k8s_openapi::api::batch::v1::{Job, JobSpec, JobStatus, UncountedTerminatedPods};
use knarr_client::{lean::Pod, meta};

use super::{
    indexes::{self, Indexes},
    per_index::{Held, is_per_index},
    plan::{FINALIZER, completions, has_failed, index_of, is_indexed},
    policy::{self, Meaning},
};
use crate::common::{pods, unless_zero};

/// Uids that the status holds at once, at most; the rest wait their turn.
const MAX_UNCOUNTED: usize = 500;

pub(super) struct Count<'a> {
    pub(super) status: JobStatus,
    pub(super) spec: &'a JobSpec,
    /// In the status but not in a number yet.
    pub(super) succeeded: BTreeSet<String>,
    pub(super) failed: BTreeSet<String>,
    pub(super) completed: Indexes,
    /// Where each index has a limit of its own: those that are beyond it.
    pub(super) failed_indexes: Indexes,
    /// Failed pods that are counted only when their successor is there.
    pub(super) held: Held,
    /// Their finalizers go once the status is written.
    pub(super) free: Vec<Arc<Pod>>,
    pub(super) fails_job: Option<String>,
}

impl<'a> Count<'a> {
    /// Turns uids whose pods have lost their finalizer (or are gone) into numbers.
    pub(super) fn begin(spec: &'a JobSpec, mut status: JobStatus, owned: &[Arc<Pod>]) -> Self {
        let held: BTreeSet<&str> = owned
            .iter()
            .filter(|pod| meta::has_finalizer(&pod.metadata, FINALIZER))
            .map(|pod| meta::uid(&pod.metadata))
            .collect();
        let uncounted = status.uncounted_terminated_pods.take().unwrap_or_default();
        let settle = |uids: Option<Vec<String>>, number: &mut Option<i32>| {
            let (waiting, done): (BTreeSet<_>, BTreeSet<_>) =
                uids.into_iter().flatten().partition(|uid| held.contains(uid.as_str()));
            *number = unless_zero(number.unwrap_or(0) + done.len() as i32);
            waiting
        };
        let completed = indexes::parse(status.completed_indexes.as_deref().unwrap_or_default(), completions(spec));
        let failed_indexes = status.failed_indexes.as_deref().unwrap_or_default();
        let failed_indexes = indexes::parse(failed_indexes, completions(spec));
        let succeeded = settle(uncounted.succeeded, &mut status.succeeded);
        let failed = settle(uncounted.failed, &mut status.failed);
        let (held, free) = (Held::default(), Vec::new());
        Self { status, spec, succeeded, failed, completed, failed_indexes, held, free, fails_job: None }
    }

    pub(super) fn take_in(&mut self, job: &Job, owned: &[Arc<Pod>]) {
        let is_indexed = is_indexed(self.spec);
        for pod in owned.iter().filter(|pod| meta::has_finalizer(&pod.metadata, FINALIZER)) {
            let uid = meta::uid(&pod.metadata);
            let succeeded = pods::phase(pod) == "Succeeded";
            if (!succeeded && !has_failed(self.spec, pod)) || self.held.contains(uid) {
                continue;
            }
            if self.succeeded.contains(uid) || self.failed.contains(uid) {
                self.free.push(pod.clone());
                continue;
            }
            if self.succeeded.len() + self.failed.len() >= MAX_UNCOUNTED {
                break;
            }
            if succeeded && is_indexed {
                // An index counts once however many pods succeed with it, so the index itself is the record.
                if let Some(index) = index_of(pod).filter(|index| *index < completions(self.spec)) {
                    self.completed.insert(index);
                }
            } else if succeeded {
                self.succeeded.insert(uid.to_owned());
            } else {
                match policy::meaning(job, pod) {
                    Meaning::Ignored => {}
                    meaning => {
                        self.failed.insert(uid.to_owned());
                        if let Meaning::FailsJob(why) = meaning {
                            self.fails_job.get_or_insert(why);
                        }
                    }
                }
            }
            self.free.push(pod.clone());
        }
    }

    pub(super) fn all_succeeded(&self) -> i32 {
        match is_indexed(self.spec) {
            true => self.completed.len() as i32,
            false => self.status.succeeded.unwrap_or(0) + self.succeeded.len() as i32,
        }
    }

    pub(super) fn all_failed(&self) -> i32 {
        self.status.failed.unwrap_or(0) + (self.failed.len() + self.held.len()) as i32
    }

    pub(super) fn finish(self, spec: &JobSpec) -> JobStatus {
        let mut status = self.status;
        if is_indexed(spec) {
            status.succeeded = unless_zero(self.completed.len() as i32);
            status.completed_indexes = Some(indexes::format(&self.completed)).filter(|text| !text.is_empty());
        }
        if is_per_index(spec) {
            status.failed_indexes = Some(indexes::format(&self.failed_indexes));
        }
        let list = |uids: BTreeSet<String>| Some(uids.into_iter().collect::<Vec<_>>()).filter(|uids| !uids.is_empty());
        let uncounted = UncountedTerminatedPods { succeeded: list(self.succeeded), failed: list(self.failed) };
        let is_empty = uncounted.succeeded.is_none() && uncounted.failed.is_none();
        status.uncounted_terminated_pods = (!is_empty).then_some(uncounted);
        status
    }
}
