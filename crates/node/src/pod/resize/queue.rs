//! Resizes that wait for room, and who gets it first: pods of higher priority, then those of better quality of service,
//! then those that have waited longest, as upstream has it. Whoever frees room wakes all that wait.

use std::{
    cmp::Reverse,
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use tokio::sync::Notify;

use crate::pod::{
    admit::{Admitted, Offer},
    qos::{QosClass, class},
};

/// Those that wait, by UID. No more than the node has pods.
#[derive(Default)]
pub struct Queue(Mutex<HashMap<String, Waiting>>);

struct Waiting {
    /// As it is wished for.
    pod: Arc<Pod>,
    since: Timestamp,
    wake: Arc<Notify>,
}

type Rank = (Reverse<i32>, u8, Timestamp);

fn rank(pod: &Pod, since: Timestamp) -> Rank {
    let priority = pod.spec.as_ref().and_then(|spec| spec.priority).unwrap_or_default();
    let quality = match class(pod) {
        QosClass::Guaranteed => 0,
        QosClass::Burstable => 1,
        QosClass::BestEffort => 2,
    };
    (Reverse(priority), quality, since)
}

impl Queue {
    fn waiting(&self) -> MutexGuard<'_, HashMap<String, Waiting>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives room to those before this pod that fit by now, and has them look.
    pub fn serve_before(&self, uid: &str, pod: &Pod, now: Timestamp, admitted: &mut Admitted, offer: &Offer<'_>) {
        let waiting = self.waiting();
        let own = rank(pod, waiting.get(uid).map_or(now, |known| known.since));
        let ranked = waiting.iter().map(|(uid, other)| (rank(&other.pod, other.since), uid, other));
        let mut before: Vec<_> = ranked.filter(|(rank, other, _)| *rank < own && *other != uid).collect();
        before.sort_by(|one, other| (&one.0, one.1).cmp(&(&other.0, other.1)));
        for (_, _, other) in before {
            if admitted.resize(&other.pod, offer).is_ok() {
                other.wake.notify_one();
            }
        }
    }

    /// Notes that a pod waits from now on, unless it has waited before.
    pub fn join(&self, uid: &str, pod: &Arc<Pod>, now: Timestamp, wake: &Arc<Notify>) {
        let mut waiting = self.waiting();
        let since = waiting.get(uid).map_or(now, |known| known.since);
        waiting.insert(uid.to_owned(), Waiting { pod: pod.clone(), since, wake: wake.clone() });
    }

    pub fn leave(&self, uid: &str) {
        self.waiting().remove(uid);
    }

    /// There may be room now.
    pub fn wake(&self) {
        self.waiting().values().for_each(|waiting| waiting.wake.notify_one());
    }
}
