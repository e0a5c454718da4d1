//! A limit of failures for each index of a Job. Pure.
//! (<https://kubernetes.io/docs/concepts/workloads/controllers/job/#backoff-limit-per-index>)
//!
//! How often an index has failed is written on its pods: each carries the count of those before it. So the last pod of
//! an index that failed is held, by its finalizer, until its successor carries the count on.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use jiff::Timestamp;
use k8s_openapi::api::batch::v1::{Job, JobSpec};
use knarr_client::{lean::Pod, meta};

use super::{
    indexes::Indexes,
    making::{finished_at, left_of_pause},
    plan::{FINALIZER, has_failed, index_of},
    policy::{self, Meaning},
};
use crate::common::pods;

pub const FAILURES: &str = "batch.kubernetes.io/job-index-failure-count";
pub const IGNORED_FAILURES: &str = "batch.kubernetes.io/job-index-ignored-failure-count";

pub fn is_per_index(spec: &JobSpec) -> bool {
    spec.backoff_limit_per_index.is_some()
}

/// Of one index.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Failures {
    pub counted: i32,
    /// Those that the failure policy passes over; they lengthen the pause all the same.
    pub ignored: i32,
}

fn before(pod: &Pod) -> Failures {
    let number = |key| meta::annotation(&pod.metadata, key).and_then(|text| text.parse().ok()).unwrap_or(0);
    Failures { counted: number(FAILURES), ignored: number(IGNORED_FAILURES) }
}

/// The last failed pod of each index that is to be tried again, with the failures it makes.
#[derive(Default)]
pub struct Held {
    pods: BTreeMap<i32, (Arc<Pod>, Failures)>,
}

impl Held {
    /// Also adds to `failed` the indexes that have failed for good.
    pub fn of(job: &Job, owned: &[Arc<Pod>], completed: &Indexes, failed: &mut Indexes) -> Self {
        let spec = job.spec.clone().unwrap_or_default();
        let limit = spec.backoff_limit_per_index.unwrap_or(i32::MAX);
        let mut last: BTreeMap<i32, &Arc<Pod>> = BTreeMap::new();
        for pod in owned.iter().filter(|pod| meta::has_finalizer(&pod.metadata, FINALIZER)) {
            let Some(index) = index_of(pod).filter(|_| has_failed(&spec, pod)) else { continue };
            last.entry(index).and_modify(|known| *known = latest(known, pod)).or_insert(pod);
        }
        let has_successor = |index: i32| owned.iter().any(|pod| pods::is_active(pod) && index_of(pod) == Some(index));
        let mut held = Self::default();
        for (index, pod) in last {
            if completed.contains(&index) || failed.contains(&index) || has_successor(index) {
                continue;
            }
            let (mut failures, meaning) = (before(pod), policy::meaning(job, pod));
            match meaning {
                Meaning::Ignored => failures.ignored += 1,
                _ => failures.counted += 1,
            }
            if meaning == Meaning::FailsIndex || failures.counted > limit {
                failed.insert(index);
            } else if !matches!(meaning, Meaning::FailsJob(_)) {
                held.pods.insert(index, (pod.clone(), failures));
            }
        }
        held
    }

    pub fn contains(&self, uid: &str) -> bool {
        self.pods.values().any(|(pod, _)| meta::uid(&pod.metadata) == uid)
    }

    pub fn is_empty(&self) -> bool {
        self.pods.is_empty()
    }

    pub fn len(&self) -> usize {
        self.pods.len()
    }

    pub fn failures(&self, index: i32) -> Failures {
        self.pods.get(&index).map_or(Failures::default(), |(_, failures)| *failures)
    }

    /// Leaves those indexes whose pause is over; answers when the next one's is.
    pub fn keep_due(&self, indexes: &mut Vec<i32>, now: Timestamp) -> Option<Duration> {
        let left = |index: &i32| {
            let (pod, failures) = self.pods.get(index)?;
            left_of_pause((failures.counted + failures.ignored).max(1) as u32, finished_at(pod, now), now)
        };
        let next = indexes.iter().filter_map(left).min();
        indexes.retain(|index| left(index).is_none());
        next
    }
}

/// Of two failed pods of one index the one that knows of more failures.
fn latest<'a>(a: &'a Arc<Pod>, b: &'a Arc<Pod>) -> &'a Arc<Pod> {
    let created = |pod: &Pod| pod.metadata.creation_timestamp.clone();
    if (before(b), created(b)) > (before(a), created(a)) { b } else { a }
}
