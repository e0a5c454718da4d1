//! What a controller has done that its cache may not show yet. Until the cache has caught up (or five minutes have
//! passed) the controller must not count again, or it would make or delete too many.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use knarr_client::lean::Pod;
use knarr_client::{Informer, meta};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// After this the cache is believed again, whatever it shows (upstream's ExpectationsTimeout).
const TIMEOUT: Duration = Duration::from_secs(5 * 60);

/// Keyed by the controller object's uid.
#[derive(Default)]
pub struct Expectations {
    pending: Mutex<HashMap<String, Pending>>,
}

struct Pending {
    creations: usize,
    /// Uids of pods whose deletion was asked for.
    deletions: HashSet<String>,
    since: Instant,
}

impl Expectations {
    pub fn expect_creations(&self, owner_uid: &str, count: usize) {
        self.expect(owner_uid, count, HashSet::new());
    }

    pub fn expect_deletions(&self, owner_uid: &str, uids: impl IntoIterator<Item = String>) {
        self.expect(owner_uid, 0, uids.into_iter().collect());
    }

    /// One creation was seen, or will never be.
    pub fn creation_observed(&self, owner_uid: &str) {
        self.creations_observed(owner_uid, 1);
    }

    pub fn creations_observed(&self, owner_uid: &str, count: usize) {
        if let Some(pending) = self.pending().get_mut(owner_uid) {
            pending.creations = pending.creations.saturating_sub(count);
        }
    }

    /// A pod's deletion was seen (that it started is enough), or will never be.
    pub fn deletion_observed(&self, owner_uid: &str, uid: &str) {
        if let Some(pending) = self.pending().get_mut(owner_uid) {
            pending.deletions.remove(uid);
        }
    }

    pub fn satisfied(&self, owner_uid: &str) -> bool {
        self.pending_for(owner_uid).is_none()
    }

    /// How long the cache is not to be believed yet; `None` where it can be. Whoever waits looks again after that time:
    /// a pod that came and went while the watch was broken is seen by nobody, and nothing else may ever happen.
    pub fn pending_for(&self, owner_uid: &str) -> Option<Duration> {
        let pending = self.pending();
        let pending = pending.get(owner_uid).filter(|p| p.creations > 0 || !p.deletions.is_empty())?;
        TIMEOUT.checked_sub(pending.since.elapsed()).filter(|left| !left.is_zero())
    }

    pub fn forget(&self, owner_uid: &str) {
        self.pending().remove(owner_uid);
    }

    /// Takes down what the watch of pods shows of the pods of one kind of owner. To be registered before whatever wakes
    /// the controller for the same change.
    pub fn watch(self: &Arc<Self>, pods: &Informer<Pod>, kind: &'static str, until: &CancellationToken) {
        let expectations = self.clone();
        pods.on_change_until(until, move |change| {
            let pod = change.latest();
            let Some(owner) = meta::controller_of(&pod.metadata).filter(|owner| owner.kind == kind) else { return };
            if change.is_addition() {
                expectations.creation_observed(&owner.uid);
            }
            if change.is_deletion() || super::pods::is_terminating(pod) {
                expectations.deletion_observed(&owner.uid, meta::uid(&pod.metadata));
            }
        });
    }

    pub fn expect(&self, owner_uid: &str, creations: usize, deletions: HashSet<String>) {
        self.pending().insert(owner_uid.to_owned(), Pending { creations, deletions, since: Instant::now() });
    }

    fn pending(&self) -> MutexGuard<'_, HashMap<String, Pending>> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn holds_until_all_was_seen_or_time_is_up() {
        let expectations = Expectations::default();
        assert!(expectations.satisfied("u"));
        expectations.expect_creations("u", 2);
        expectations.creation_observed("u");
        assert!(!expectations.satisfied("u"));
        expectations.creation_observed("u");
        assert!(expectations.satisfied("u"));
        expectations.creation_observed("u");
        assert!(expectations.satisfied("u"), "a creation by somebody else does not count below zero");
        expectations.expect_deletions("u", ["a".to_owned(), "b".to_owned()]);
        expectations.deletion_observed("u", "a");
        expectations.deletion_observed("u", "a");
        assert!(!expectations.satisfied("u"));
        tokio::time::advance(TIMEOUT / 5).await;
        assert_eq!(expectations.pending_for("u"), Some(TIMEOUT / 5 * 4));
        tokio::time::advance(TIMEOUT / 5 * 4).await;
        assert!(expectations.satisfied("u"));
    }
}
