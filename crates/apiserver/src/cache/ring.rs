//! The recent events of one resource, from which watches are served and resumed.

use std::{collections::VecDeque, sync::Arc};

use super::event::CachedEvent;

/// A watcher that lies further back than this is cut off, and resumes or lists again.
pub const MAX_EVENTS: usize = 8_192;
/// Of objects and of what was made of them for watchers: frames and messages.
const MAX_BYTES: usize = 24 << 20;
/// So many events are weighed again with each that comes.
const WEIGHED_AGAIN: usize = 2;
/// So many events are kept however old they are, so that a quiet resource can be resumed for long.
const KEPT_EVENTS: usize = 256;

/// Events in order, each with a sequence number of its own: one transaction may change several objects at one
/// revision, and a reader must be able to stop between them.
///
/// An event grows after it has come, when watchers ask for its forms. So a few events are weighed again whenever one
/// comes, in turn, and all of them when the ring ages.
#[derive(Debug)]
pub struct Ring {
    events: VecDeque<Kept>,
    /// The sequence number of the first event kept.
    first: u64,
    /// Every event after this revision is kept.
    complete_after: u64,
    /// The sum over `events`.
    bytes: usize,
    /// The sequence number of the event that is weighed next.
    weighed: u64,
    /// The sequence number that was next when [`Ring::age`] last ran.
    aged: u64,
}

#[derive(Debug)]
struct Kept {
    event: Arc<CachedEvent>,
    /// As it was last weighed.
    bytes: usize,
}

impl Ring {
    pub fn new(complete_after: u64) -> Self {
        Self { events: VecDeque::new(), first: 0, complete_after, bytes: 0, weighed: 0, aged: 0 }
    }

    /// Forgets everything; readers that were in the middle find themselves cut off.
    pub fn reset(&mut self, complete_after: u64) {
        self.first = self.next() + 1;
        self.events.clear();
        self.bytes = 0;
        self.complete_after = complete_after;
    }

    pub fn push(&mut self, event: Arc<CachedEvent>) {
        let bytes = event.size_bytes();
        self.bytes += bytes;
        self.events.push_back(Kept { event, bytes });
        self.weigh(WEIGHED_AGAIN);
        self.fit();
    }

    fn fit(&mut self) {
        while self.events.len() > MAX_EVENTS || (self.bytes > MAX_BYTES && self.events.len() > KEPT_EVENTS) {
            self.pop();
        }
    }

    /// Weighs some events again, from where the last call stopped.
    fn weigh(&mut self, count: usize) {
        for _ in 0..count.min(self.events.len()) {
            let at = self.weighed.checked_sub(self.first).map_or(0, |at| at as usize);
            let at = if at < self.events.len() { at } else { 0 };
            let kept = &mut self.events[at];
            let bytes = kept.event.size_bytes();
            self.bytes = self.bytes - kept.bytes + bytes;
            kept.bytes = bytes;
            self.weighed = self.first + at as u64 + 1;
        }
    }

    /// Called from time to time: gives back the memory of events that are older than two calls.
    pub fn age(&mut self) {
        while self.events.len() > KEPT_EVENTS && self.first < self.aged {
            self.pop();
        }
        self.weigh(self.events.len());
        self.fit();
        self.aged = self.next();
        if self.events.capacity() > 4 * self.events.len().max(KEPT_EVENTS) {
            self.events.shrink_to(2 * self.events.len());
        }
    }

    fn pop(&mut self) {
        if let Some(Kept { event, bytes }) = self.events.pop_front() {
            self.first += 1;
            self.bytes -= bytes;
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
        Some(self.first + self.events.partition_point(|kept| kept.event.revision <= revision) as u64)
    }

    /// Up to `limit` events from a sequence number on; `None` where it is forgotten.
    pub fn read(&self, from: u64, limit: usize, into: &mut Vec<Arc<CachedEvent>>) -> Option<()> {
        let skip = from.checked_sub(self.first)? as usize;
        into.extend(self.events.iter().skip(skip).take(limit).map(|kept| kept.event.clone()));
        Some(())
    }

    pub fn complete_after(&self) -> u64 {
        self.complete_after
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use knarr_api::protobuf::Encoder;

    use super::*;
    use crate::{
        cache::Change,
        contract::{KeptForm, KeptMessage, Stored},
    };

    fn event(revision: u64, text_bytes: usize) -> Arc<CachedEvent> {
        let text = "x".repeat(text_bytes);
        let json =
            format!(r#"{{"apiVersion":"v1","kind":"ConfigMap","metadata":{{"name":"a"}},"data":{{"k":"{text}"}}}}"#);
        let object = Stored {
            key: "a".into(),
            json: json.into(),
            line: Bytes::new(),
            resource_version: revision,
            labels: Arc::default(),
            fields: Arc::default(),
            message: KeptMessage::default(),
            shown: KeptForm::default(),
        };
        Arc::new(CachedEvent::new(revision, Change::Modified, Arc::new(object), None))
    }

    /// What a watcher asks of an event, in each encoding.
    fn make_forms(event: &CachedEvent) {
        let encoder = Encoder::of("", "v1", "ConfigMap").unwrap();
        event.frame();
        event.message_frame(|_, object| Bytes::copy_from_slice(object.message(encoder).unwrap()));
    }

    #[test]
    fn what_is_made_of_an_event_counts_too() {
        let mut ring = Ring::new(0);
        let each = MAX_BYTES / 600;
        for revision in 1..=500 {
            ring.push(event(revision, each));
        }
        assert_eq!((ring.events.len(), ring.complete_after()), (500, 0));
        ring.events.iter().for_each(|kept| make_forms(&kept.event));
        ring.age();
        // Four times the bytes: what is above the limit goes, but for the events that are always kept.
        assert_eq!(ring.events.len(), KEPT_EVENTS);
        assert_eq!(ring.bytes, ring.events.iter().map(|kept| kept.event.size_bytes()).sum::<usize>());
    }

    #[test]
    fn events_are_weighed_again_as_others_come() {
        let mut ring = Ring::new(0);
        let each = MAX_BYTES / 3_000;
        for revision in 1..=5_000 {
            let event = event(revision, each);
            ring.push(event.clone());
            make_forms(&event);
        }
        // One of four parts of an event was there when it came.
        assert!(ring.events.len() < 1_200, "{}", ring.events.len());
        let really: usize = ring.events.iter().map(|kept| kept.event.size_bytes()).sum();
        assert!(really < 2 * MAX_BYTES, "{really}");
        assert_eq!(ring.bytes, ring.events.iter().map(|kept| kept.bytes).sum::<usize>());
        // Where events were let go, a reader is told.
        assert!(ring.read(0, 1, &mut Vec::new()).is_none());
        assert!(ring.after_revision(ring.complete_after()).is_some());
    }
}
