//! Hands committed events to watchers. A watcher that falls behind its bound is cut off, never waited for.

use std::sync::{
    Arc, Mutex, PoisonError,
    atomic::{AtomicBool, Ordering},
};

use bytes::Bytes;
use tokio::sync::mpsc;

use crate::{Event, Revision, WatchBatch};

/// How many groups of commits a watcher may leave unread.
pub const WATCHER_BOUND: usize = 4096;

#[derive(Debug)]
struct Watcher {
    prefix: Bytes,
    batches: mpsc::Sender<WatchBatch>,
    slow: Arc<AtomicBool>,
}

/// The live half of a watch: everything after `registered_at`.
#[derive(Debug)]
pub struct Live {
    pub registered_at: Revision,
    pub batches: mpsc::Receiver<WatchBatch>,
    slow: Arc<AtomicBool>,
}

impl Live {
    /// True where the stream ended because its reader was too slow.
    pub fn was_cut_off(&self) -> bool {
        self.slow.load(Ordering::Acquire)
    }
}

#[derive(Debug, Default)]
struct State {
    published: Revision,
    watchers: Vec<Watcher>,
}

#[derive(Debug, Default)]
pub struct Hub(Mutex<State>);

impl Hub {
    pub fn new(published: Revision) -> Self {
        Self(Mutex::new(State { published, watchers: Vec::new() }))
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn register(&self, prefix: Bytes) -> Live {
        let (sender, batches) = mpsc::channel(WATCHER_BOUND);
        let slow = Arc::new(AtomicBool::new(false));
        let mut state = self.state();
        state.watchers.push(Watcher { prefix, batches: sender, slow: slow.clone() });
        Live { registered_at: state.published, batches, slow }
    }

    /// Ends all watches, because nothing will be published any more.
    pub fn close(&self) {
        self.state().watchers.clear();
    }

    /// Tells every watcher what happened up to `revision`.
    pub fn publish(&self, revision: Revision, events: &[Event]) {
        let mut state = self.state();
        state.published = revision;
        state.watchers.retain(|watcher| {
            let mine: Vec<Event> =
                events.iter().filter(|event| event.kv.key.starts_with(&watcher.prefix)).cloned().collect();
            if mine.is_empty() {
                return !watcher.batches.is_closed();
            }
            match watcher.batches.try_send(WatchBatch { revision, events: mine }) {
                Ok(()) => true,
                Err(mpsc::error::TrySendError::Closed(_)) => false,
                Err(mpsc::error::TrySendError::Full(_)) => {
                    watcher.slow.store(true, Ordering::Release);
                    false
                }
            }
        });
    }
}
