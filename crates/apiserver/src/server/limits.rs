//! How many requests are worked on at once. What comes above waits for a moment, and then hears 429.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use knarr_api::status::ApiError;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Upstream's defaults of `--max-requests-inflight` and `--max-mutating-requests-inflight`.
const READING: usize = 400;
const WRITING: usize = 200;
/// How many may wait for their turn, and for how long.
const WAITING: usize = 2_000;
const WAIT: Duration = Duration::from_secs(15);

pub struct Limits {
    reading: Arc<Semaphore>,
    writing: Arc<Semaphore>,
    waiting: AtomicUsize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            reading: Arc::new(Semaphore::new(READING)),
            writing: Arc::new(Semaphore::new(WRITING)),
            waiting: AtomicUsize::new(0),
        }
    }
}

impl Limits {
    /// A place to work, held until it is dropped.
    pub async fn enter(&self, mutating: bool) -> Result<OwnedSemaphorePermit, ApiError> {
        let places = if mutating { &self.writing } else { &self.reading };
        if let Ok(permit) = places.clone().try_acquire_owned() {
            return Ok(permit);
        }
        let busy = || ApiError::too_many_requests("Too many requests, please try again later.", 1);
        let _turn = Turn::take(&self.waiting).ok_or_else(busy)?;
        match tokio::time::timeout(WAIT, places.clone().acquire_owned()).await {
            Ok(Ok(permit)) => Ok(permit),
            _ => Err(busy()),
        }
    }
}

/// A place in the queue, given back also when the client goes away.
struct Turn<'a>(&'a AtomicUsize);

impl<'a> Turn<'a> {
    fn take(waiting: &'a AtomicUsize) -> Option<Self> {
        let turn = Turn(waiting);
        let before = waiting.fetch_add(1, Ordering::AcqRel);
        (before < WAITING).then_some(turn)
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}
