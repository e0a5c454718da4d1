//! The recent events of one resource, from which watches are served and resumed.

use std::{collections::VecDeque, sync::Arc};

use super::event::CachedEvent;

/// A watcher that lies further back than this is cut off, and resumes or lists again.
pub const MAX_EVENTS: usize = 8_192;
const MAX_BYTES: usize = 24 << 20;
/// So many events are kept however old they are, so that a quiet resource can be resumed for long.
const KEPT_EVENTS: usize = 256;

/// Events in order, each with a sequence number of its own: one transaction may change several objects at one
/// revision, and a reader must be able to stop between them.
#[derive(Debug)]
pub struct Ring {
    events: VecDeque<Arc<CachedEvent>>,
    /// The sequence number of the first event kept.
    first: u64,
    /// Every event after this revision is kept.
    complete_after: u64,
    bytes: usize,
    /// The sequence number that was next when [`Ring::age`] last ran.
    aged: u64,
}

impl Ring {
    pub fn new(complete_after: u64) -> Self {
        Self { events: VecDeque::new(), first: 0, complete_after, bytes: 0, aged: 0 }
    }

    /// Forgets everything; readers that were in the middle find themselves cut off.
    pub fn reset(&mut self, complete_after: u64) {
        self.first = self.next() + 1;
        self.events.clear();
        self.bytes = 0;
        self.complete_after = complete_after;
    }

    pub fn push(&mut self, event: Arc<CachedEvent>) {
        self.bytes += event.size_bytes();
        self.events.push_back(event);
        while self.events.len() > MAX_EVENTS || (self.bytes > MAX_BYTES && self.events.len() > KEPT_EVENTS) {
            self.pop();
        }
    }

    /// Called from time to time: gives back the memory of events that are older than two calls.
    pub fn age(&mut self) {
        while self.events.len() > KEPT_EVENTS && self.first < self.aged {
            self.pop();
        }
        self.aged = self.next();
        if self.events.capacity() > 4 * self.events.len().max(KEPT_EVENTS) {
            self.events.shrink_to(2 * self.events.len());
        }
    }

    fn pop(&mut self) {
        if let Some(event) = self.events.pop_front() {
            self.first += 1;
            self.bytes -= event.size_bytes();
            self.complete_after = event.revision;
        }
    }

    /// The sequence number that the next event will have.
    pub fn next(&self) -> u64 {
        self.first + self.events.len() as u64
    }

    /// Where a reader starts that has seen everything up to a revision; `None` where that is forgotten.
    pub fn after_revision(&self, revision: u64) -> Option<u64> {
        if revision < self.complete_after {
            return None;
        }
        Some(self.first + self.events.partition_point(|event| event.revision <= revision) as u64)
    }

    /// Up to `limit` events from a sequence number on; `None` where it is forgotten.
    pub fn read(&self, from: u64, limit: usize, into: &mut Vec<Arc<CachedEvent>>) -> Option<()> {
        let skip = from.checked_sub(self.first)? as usize;
        into.extend(self.events.iter().skip(skip).take(limit).cloned());
        Some(())
    }

    pub fn complete_after(&self) -> u64 {
        self.complete_after
    }
}
