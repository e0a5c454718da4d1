//! A reader of one resource's ring. It holds a position and no queue: a watcher that is too slow finds its
//! position forgotten, and costs nobody anything until then.

use std::sync::Arc;

use super::{
    event::CachedEvent,
    resource::{Expired, ResourceCache},
    topics::Subscription,
};
use crate::contract::Stored;

/// How many events one read takes, so that a long backlog does not hold the lock.
const READ_LIMIT: usize = 512;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// From the state of now on, which comes with [`Watcher::take_snapshot`] where it is asked for.
    Now { snapshot: bool },
    /// Every event after a revision.
    After(u64),
}

pub struct Watcher {
    cache: Arc<ResourceCache>,
    next: u64,
    snapshot: Vec<Arc<Stored>>,
    changed_at: u64,
    changed: Subscription,
}

impl Watcher {
    pub(super) fn new(
        cache: Arc<ResourceCache>,
        next: u64,
        snapshot: Vec<Arc<Stored>>,
        changed_at: u64,
        changed: Subscription,
    ) -> Self {
        Self { cache, next, snapshot, changed_at, changed }
    }

    /// The objects that were there at the start, in key order.
    pub fn take_snapshot(&mut self) -> Vec<Arc<Stored>> {
        std::mem::take(&mut self.snapshot)
    }

    /// The revision of the newest change that the snapshot holds.
    pub fn changed_at(&self) -> u64 {
        self.changed_at
    }

    /// The events that are there already, without waiting.
    pub fn poll_now(&mut self, into: &mut Vec<Arc<CachedEvent>>) -> Result<(), Expired> {
        self.changed.mark_unchanged();
        let had = into.len();
        self.cache.read_events(self.next, READ_LIMIT, into)?;
        let took = into.len() - had;
        self.next += took as u64;
        if took == READ_LIMIT {
            self.changed.mark_changed();
        }
        Ok(())
    }

    /// Moves on past the events that are there already, for those who only want to know that there were some.
    /// Whoever fell behind is woken all the same.
    pub fn skip(&mut self) -> bool {
        let mut events = Vec::new();
        let mut any = false;
        while self.poll_now(&mut events).is_ok_and(|()| !events.is_empty()) {
            any = true;
            events.clear();
        }
        any
    }

    /// Waits for a change; `false` once the server stops. Safe to cancel.
    pub async fn wait(&mut self) -> bool {
        self.changed.changed().await
    }
}
