//! Node-pressure eviction: before memory, disk or process numbers run out, the node says so ([`Pressure`]), takes in no
//! more that would make it worse, gives back what nobody needs, and at last ends pods, one at a time, in the order that
//! they were promised. [`plan`] says what to do, [`rank`] with whom; here it is done.
//! (<https://kubernetes.io/docs/concepts/scheduling-eviction/node-pressure-eviction/>)

mod meter;
mod plan;
mod rank;
mod signal;
mod threshold;
mod usage;

#[cfg(test)]
mod tests;

use std::{sync::Arc, time::Duration};

use jiff::SignedDuration;
use knarr_cri::v1::{ListPodSandboxRequest, ListPodSandboxStatsRequest, PodSandboxFilter, PodSandboxState};
use tokio::time::{Instant, sleep};

pub use meter::{Host, Meter};
use plan::{Plan, Seen};
pub use rank::is_critical;
use rank::{Candidate, message, rank};
pub use signal::{Observation, Observations, Pressure, Pressures, Signal};
pub use threshold::{
    Eviction, Levels, Threshold, ThresholdError, default_hard, parse_grace_periods, parse_reclaims, parse_thresholds,
};

use crate::{
    gc::Collector,
    pod::{context::Context, labels, manager::Manager, status::EVICTED, wish},
};

const PERIOD: Duration = Duration::from_secs(10);
/// How long an evicted pod is waited for before the next one is.
const CLEANED_WITHIN: Duration = Duration::from_secs(30);
const CLEANED_LOOK: Duration = Duration::from_secs(1);

pub struct Evictor {
    pub ctx: Arc<Context>,
    pub manager: Manager,
    pub collector: Arc<Collector>,
    pub meter: Arc<dyn Meter>,
}

impl Evictor {
    pub async fn run(&self) {
        let thresholds = self.ctx.eviction.thresholds();
        let mut seen = Seen::default();
        loop {
            match self.turn(&thresholds, &mut seen).await {
                Some(uid) => self.cleaned(&uid).await,
                None => sleep(PERIOD).await,
            }
        }
    }

    /// Looks, tells the node's conditions, and does what helps; the pod that it ended, if it came to that.
    async fn turn(&self, thresholds: &[Threshold], seen: &mut Seen) -> Option<String> {
        let observed = self.observe().await?;
        let Plan { pressures, starved } =
            seen.look(thresholds, &observed, self.ctx.eviction.transition, self.ctx.now());
        self.ctx.pressures.send_if_modified(|known| {
            let news = *known != pressures;
            *known = pressures;
            news
        });
        let first = *starved.first()?;
        let resource = first.signal.resource();
        tracing::warn!(signal = first.signal.name(), "the node is short of {resource}");
        self.ctx.node_warning("EvictionThresholdMet", format!("Attempting to reclaim {resource}"));
        if self.reclaim(first.signal, thresholds).await {
            return None;
        }
        let mut candidates = self.candidates(first.signal).await;
        rank(first.signal, &mut candidates);
        let Some(candidate) = candidates.into_iter().find(|candidate| !is_critical(&candidate.pod)) else {
            tracing::error!("the node is short of {resource}, and there is no pod that it could end");
            return None;
        };
        let (message, annotations) = message(&starved, &observed, &candidate);
        let uid = candidate.pod.metadata.uid.clone()?;
        let grace = self.grace(&first);
        self.manager.evict(&uid, wish::Eviction { reason: EVICTED, message, annotations, grace });
        Some(uid)
    }

    /// Nothing that cannot be read is pressure; the next look comes.
    async fn observe(&self) -> Option<Observations> {
        let images = self.collector.image_folder().await;
        let (meter, node) = (self.meter.clone(), self.ctx.pod_dir.clone());
        let read = tokio::task::spawn_blocking(move || meter.observe(&node, images.as_deref())).await;
        let mut observed = match read.map_err(std::io::Error::other).and_then(|read| read) {
            Ok(observed) => observed,
            Err(error) => {
                tracing::warn!(%error, "what is left of memory and disks cannot be read; will retry");
                return None;
            }
        };
        // Otherwise it runs out with the machine's, which is looked at anyway.
        if self.ctx.budget.keeps_memory() {
            let capacity = self.ctx.budget.pods.memory_bytes;
            let stats = self.ctx.runtime.list_pod_sandbox_stats(ListPodSandboxStatsRequest::default()).await;
            let used: i64 = stats.map_or(0, |answer| answer.stats.iter().map(usage::memory).sum());
            let available = (capacity - used).max(0);
            observed.insert(Signal::AllocatableMemoryAvailable, Observation { available, capacity });
        }
        Some(observed)
    }

    /// Gives back what no running pod needs; true where that was enough.
    async fn reclaim(&self, signal: Signal, thresholds: &[Threshold]) -> bool {
        let images_apart = self.collector.images_are_apart(&self.ctx.pod_dir).await;
        let helps = match signal {
            Signal::ImagefsAvailable | Signal::ImagefsInodesFree => true,
            Signal::NodefsAvailable | Signal::NodefsInodesFree => !images_apart,
            _ => false,
        };
        if !helps {
            return false;
        }
        self.collector.delete_dead_containers().await;
        self.collector.delete_unused_images().await;
        self.observe().await.is_some_and(|observed| plan::is_relieved(thresholds, &observed))
    }

    async fn candidates(&self, signal: Signal) -> Vec<Candidate> {
        let stats = match self.ctx.runtime.list_pod_sandbox_stats(ListPodSandboxStatsRequest::default()).await {
            Ok(answer) => answer.stats,
            Err(error) => {
                tracing::warn!(%error, "what pods use cannot be read; will retry");
                return Vec::new();
            }
        };
        let apart = self.collector.images_are_apart(&self.ctx.pod_dir).await;
        let disks = usage::Disks::of(signal, apart);
        let (ctx, pods) = (self.ctx.clone(), self.manager.pods());
        let measure = move || usage::candidates(&ctx, &pods, &stats, disks);
        tokio::task::spawn_blocking(measure).await.unwrap_or_default()
    }

    /// What the pod has to end in: a second where it cannot wait.
    fn grace(&self, threshold: &Threshold) -> SignedDuration {
        let most = SignedDuration::try_from(self.ctx.eviction.max_pod_grace).unwrap_or(SignedDuration::MAX);
        let least = SignedDuration::from_secs(1);
        if threshold.is_hard() { least } else { most.max(least) }
    }

    /// Waits until nothing of the pod runs any more, so that what it gives back is seen before another is ended.
    async fn cleaned(&self, uid: &str) {
        let by = Instant::now() + CLEANED_WITHIN;
        while Instant::now() < by {
            sleep(CLEANED_LOOK).await;
            let label_selector = [(labels::POD_UID.to_owned(), uid.to_owned())].into();
            let filter = Some(PodSandboxFilter { label_selector, ..PodSandboxFilter::default() });
            let Ok(answer) = self.ctx.runtime.list_pod_sandbox(ListPodSandboxRequest { filter }).await else {
                continue;
            };
            if !answer.items.iter().any(|sandbox| sandbox.state == PodSandboxState::SandboxReady as i32) {
                return;
            }
        }
        tracing::warn!(uid, "an evicted pod takes long to end");
    }
}
