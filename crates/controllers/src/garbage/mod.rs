//! Deletes what nobody owns any more: objects whose owners are all gone, and, for foreground and orphan deletion,
//! works off the finalizers that hold the owner.
//! (<https://kubernetes.io/docs/concepts/architecture/garbage-collection/#owners-dependents>)
//!
//! A graph of all objects is kept from watches of every resource the server knows, metadata only. The graph says
//! where to look; before anything is deleted the server itself is asked whether the owners are really gone.

mod act;
mod graph;
mod monitor;
#[cfg(test)]
mod tests;

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock},
    time::Duration,
};

use knarr_client::{WorkQueue, worker};
use tokio::sync::Notify;

use crate::{
    Context, Error,
    common::{definitions, discovery::Served},
};
use graph::{Graph, Work};

pub const NAME: &str = "generic-garbage-collector";
const WORKERS: usize = 20;
/// How often the server is asked for resources that are new, beside whenever a CustomResourceDefinition changes.
const DISCOVERY_PERIOD: Duration = Duration::from_secs(30);
/// Definitions come by the dozen, and each changes some times before it is established: so long they are waited for
/// together.
const SETTLE: Duration = Duration::from_millis(100);

struct Collector {
    context: Context,
    graph: Mutex<Graph>,
    queue: WorkQueue<Work>,
    /// By API version and kind, as owner references name them.
    served: RwLock<HashMap<(String, String), Arc<Served>>>,
}

pub async fn run(context: Context) {
    let queue = WorkQueue::new(context.cancel.clone());
    let collector =
        Arc::new(Collector { graph: Mutex::default(), queue: queue.clone(), served: RwLock::default(), context });
    let mut monitors = monitor::Monitors::default();
    // Nothing is judged before the first picture is complete.
    while !monitors.refresh(&collector).await {
        tokio::select! {
            () = tokio::time::sleep(Duration::from_millis(200)) => {}
            () = collector.context.cancel.cancelled() => return,
        }
    }
    let changed = Arc::new(Notify::new());
    let ring = changed.clone();
    definitions::on_change(&collector.context, move || ring.notify_one());
    let refreshing = {
        let collector = collector.clone();
        async move {
            let mut well = true;
            loop {
                let patience = if well { DISCOVERY_PERIOD } else { SETTLE };
                tokio::select! {
                    () = tokio::time::sleep(patience) => {}
                    () = changed.notified() => tokio::time::sleep(SETTLE).await,
                }
                well = monitors.refresh(&collector).await;
            }
        }
    };
    let cancel = collector.context.cancel.clone();
    let working = worker::run(NAME, queue, WORKERS, move |work| {
        let collector = collector.clone();
        async move { collector.work(work).await }
    });
    tokio::select! {
        () = working => {}
        () = refreshing => {}
        () = cancel.cancelled() => {}
    }
}

impl Collector {
    fn graph(&self) -> MutexGuard<'_, Graph> {
        self.graph.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn served(&self, api_version: &str, kind: &str) -> Option<Arc<Served>> {
        let served = self.served.read().unwrap_or_else(PoisonError::into_inner);
        served.get(&(api_version.to_owned(), kind.to_owned())).cloned()
    }

    fn enqueue(&self, works: Vec<Work>) {
        works.into_iter().for_each(|work| self.queue.add(work));
    }

    async fn work(&self, work: Work) -> Result<knarr_client::Outcome, Error> {
        match &work {
            Work::Judge(uid) => self.judge(uid).await,
            Work::Orphan(uid) => self.orphan(uid).await,
        }
    }
}
