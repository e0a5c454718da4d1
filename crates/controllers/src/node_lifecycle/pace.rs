//! Tells nodes when it is their turn, which [`Zones`] decides.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use k8s_openapi::api::core::v1::Node;
use knarr_client::{Change, ObjectKey, WorkQueue, meta};
use tokio::{
    sync::Notify,
    time::{Instant, sleep_until},
};

use super::{plan::Evict, zones::Zones};

pub(super) struct Pace {
    zones: Mutex<Zones>,
    changed: Notify,
}

impl Pace {
    pub(super) fn new(local: Option<String>, nodes: &[Arc<Node>]) -> Self {
        let zones = Zones::new(local, nodes.iter().map(Arc::as_ref), Instant::now());
        Self { zones: Mutex::new(zones), changed: Notify::new() }
    }

    /// True where every silent node has to be looked at, because from now on nobody is to be evicted.
    pub(super) fn saw(&self, change: &Change<Node>) -> bool {
        let name = meta::name(&change.latest().metadata);
        let is_cut_off = self.zones().saw(name, change.new.as_deref(), Instant::now());
        self.changed.notify_one();
        if is_cut_off {
            tracing::info!("no node is ready; pods stay where they are until one is");
        }
        is_cut_off
    }

    pub(super) fn verdict(&self, node: &str) -> Evict {
        self.zones().verdict(node)
    }

    pub(super) fn healed(&self) -> Option<Instant> {
        self.zones().healed()
    }

    /// Puts nodes into the queue when their turn has come, and never ends.
    pub(super) async fn keep(&self, queue: &WorkQueue<ObjectKey>) {
        loop {
            let turns = self.zones().turns(Instant::now());
            for name in &turns.now {
                tracing::info!(node = name, "its pods are taken away");
                queue.add(ObjectKey::new("", name));
            }
            let next = async {
                match turns.next {
                    Some(at) => sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                () = self.changed.notified() => {}
                () = next => {}
            }
        }
    }

    fn zones(&self) -> MutexGuard<'_, Zones> {
        self.zones.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
