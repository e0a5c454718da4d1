//! What a worker is asked for from outside, and how it is woken for it.

use std::sync::{Arc, Mutex, PoisonError};

use k8s_openapi::api::core::v1::Pod;
use tokio::sync::Notify;

/// What the API (or the manifest folder) wants of a pod; shared with the manager.
pub struct Wish {
    pub pod: Arc<Pod>,
    /// The object is no longer there, so nobody waits for a graceful end to be reported.
    pub gone: bool,
}

/// The manager's end of a worker.
#[derive(Clone)]
pub struct Handle {
    pub wish: Arc<Mutex<Wish>>,
    pub wake: Arc<Notify>,
}

impl Handle {
    pub fn new(pod: Arc<Pod>, gone: bool) -> Self {
        Self { wish: Arc::new(Mutex::new(Wish { pod, gone })), wake: Arc::new(Notify::new()) }
    }

    pub fn set(&self, change: impl FnOnce(&mut Wish)) {
        change(&mut self.wish.lock().unwrap_or_else(PoisonError::into_inner));
        self.wake.notify_one();
    }
}
