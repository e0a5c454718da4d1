//! A pod's volumes: set up before its containers, and brought up to date for as long as they run.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use tracing::Instrument;

use super::{references::Snapshot, worker::Worker};
use crate::volume::Here;

/// The wait of a pod that cannot start without a volume.
const START_RETRY: SignedDuration = SignedDuration::from_secs(2);
/// The wait of one that runs with what the volume held before; what it refers to wakes it when that comes.
const REFRESH_RETRY: SignedDuration = SignedDuration::from_secs(60);

/// What was told of volumes last.
#[derive(Default)]
pub(super) struct Told {
    failures: Vec<String>,
    at: Option<Timestamp>,
}

impl Told {
    /// Whether these failures are worth an event: they are others than before, or it was long ago.
    fn is_news(&mut self, failures: &[String], now: Timestamp, every: SignedDuration) -> bool {
        let due = self.at.is_none_or(|at| now.duration_since(at) >= every);
        let news = due || self.failures != failures;
        if news {
            (self.failures, self.at) = (failures.to_vec(), Some(now));
        }
        news
    }
}

impl Worker {
    /// Sets volumes up, and notes when to do so again. True where containers may be made.
    pub(super) async fn prepare_volumes(&mut self, snapshot: &Snapshot, now: Timestamp) -> bool {
        let ips = self.pod_ips();
        let facts = super::downward::Facts {
            pod: &self.pod,
            containers: &self.containers,
            pod_ips: &ips,
            host_ips: &self.ctx.node_ips,
            allocatable: self.ctx.budget.allocatable,
        };
        let node = self.ctx.node.get("", &self.ctx.node_name);
        let none = BTreeMap::new();
        let labels = node.as_ref().and_then(|node| node.metadata.labels.as_ref()).unwrap_or(&none);
        let here = Here { name: &self.ctx.node_name, labels };
        let step = tracing::debug_span!(target: knarr_cri::POD_START, "volumes");
        let bring = self.volumes.set_up(&self.ctx.client, &self.pod, facts, snapshot, here, now);
        let done = bring.instrument(step).await;
        self.volumes_due = done.renew_at;
        if done.failures.is_empty() {
            self.volumes_told = Told::default();
            return done.complete;
        }
        let retry = if done.complete { REFRESH_RETRY } else { START_RETRY };
        let failures: Vec<String> = done.failures.iter().map(ToString::to_string).collect();
        if self.volumes_told.is_news(&failures, now, retry) {
            for (failure, text) in done.failures.iter().zip(failures) {
                self.ctx.warning(&self.pod, failure.reason(), text);
            }
        }
        self.volumes_due = Some(self.volumes_due.map_or(now + retry, |due| due.min(now + retry)));
        done.complete
    }
}
