//! What a worker is asked for from outside, and how it is woken for it.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use jiff::SignedDuration;
use k8s_openapi::api::core::v1::Pod;
use tokio::sync::Notify;

use super::status::EVICTED;

/// What the API (or the manifest folder) wants of a pod; shared with the manager.
pub struct Wish {
    pub pod: Arc<Pod>,
    /// The object is no longer there, so nobody waits for a graceful end to be reported.
    pub gone: bool,
    /// The node has to get rid of it.
    pub eviction: Option<Eviction>,
}

/// An order to end a pod for good.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Eviction {
    /// Why, in the pod's status.
    pub reason: &'static str,
    pub message: String,
    /// Of the event about it.
    pub annotations: BTreeMap<String, String>,
    /// What its containers have to end in, unless they have less anyway.
    pub grace: SignedDuration,
}

impl Eviction {
    /// One that cannot wait.
    pub fn at_once(message: String) -> Self {
        Self { reason: EVICTED, message, annotations: BTreeMap::new(), grace: SignedDuration::from_secs(1) }
    }
}

/// The manager's end of a worker.
#[derive(Clone)]
pub struct Handle {
    pub wish: Arc<Mutex<Wish>>,
    pub wake: Arc<Notify>,
}

impl Handle {
    pub fn new(pod: Arc<Pod>, gone: bool) -> Self {
        Self { wish: Arc::new(Mutex::new(Wish { pod, gone, eviction: None })), wake: Arc::new(Notify::new()) }
    }

    pub fn set(&self, change: impl FnOnce(&mut Wish)) {
        change(&mut self.wish.lock().unwrap_or_else(PoisonError::into_inner));
        self.wake.notify_one();
    }
}
