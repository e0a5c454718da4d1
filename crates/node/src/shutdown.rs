//! Graceful node shutdown: before the machine goes down its pods end, those that the cluster cannot do without after all
//! others, and whoever looks at the API knows why.
//! (<https://kubernetes.io/docs/concepts/cluster-administration/node-shutdown/#graceful-node-shutdown>)

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use jiff::SignedDuration;
use k8s_openapi::api::core::v1::Pod;
use knarr_client::Informer;
use knarr_cri::v1::{ListPodSandboxRequest, PodSandboxState};
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use crate::pod::{context::Context, labels, manager::Manager, status::TERMINATED, wish::Eviction};

const MESSAGE: &str = "Pod was terminated in response to imminent node shutdown.";
/// What the node is told to be meanwhile.
pub const NOT_READY: &str = "node is shutting down";

/// Between two looks at what still runs.
const LOOK: Duration = Duration::from_millis(100);
/// For what follows the end of the last container: its sandbox is taken down, and the API is told.
const TOLD_WITHIN: Duration = Duration::from_secs(5);
/// The least priority of what the cluster cannot do without.
const CRITICAL: i32 = 2_000_000_000;

/// How long a node's pods may take to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Periods {
    /// All of them together.
    pub all: Duration,
    /// The part of it that is kept for critical pods.
    pub critical: Duration,
}

#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the grace period of critical pods ({critical:?}) is a part of that of all pods ({all:?}), and cannot be longer"
)]
pub struct PeriodsError {
    all: Duration,
    critical: Duration,
}

impl Periods {
    pub fn new(all: Duration, critical: Duration) -> Result<Self, PeriodsError> {
        if critical > all { Err(PeriodsError { all, critical }) } else { Ok(Self { all, critical }) }
    }

    /// Who goes first, and what they have to end in; then the others.
    fn turns(self, pods: &[Arc<Pod>]) -> [(Duration, BTreeSet<String>); 2] {
        let is_critical =
            |pod: &Arc<Pod>| pod.spec.as_ref().and_then(|spec| spec.priority).unwrap_or_default() >= CRITICAL;
        let of = |critical: bool| {
            let chosen = pods.iter().filter(|pod| is_critical(pod) == critical);
            chosen.filter_map(|pod| pod.metadata.uid.clone()).collect()
        };
        [(self.all.saturating_sub(self.critical), of(false)), (self.critical, of(true))]
    }
}

/// Ends a node's pods once it is told that the machine goes down.
pub struct Shutdown {
    pub ctx: Arc<Context>,
    pub manager: Manager,
    /// The API's pods of this node.
    pub pods: Informer<Pod>,
    pub periods: Periods,
    pub told: CancellationToken,
}

impl Shutdown {
    /// Returns when nothing of them runs any more, or their time is over.
    pub async fn run(&self) {
        self.told.cancelled().await;
        tracing::info!(periods = ?self.periods, "the machine goes down: pods end");
        self.ctx.shutting_down.send_replace(true);
        self.ctx.node_normal("Shutdown", "Shutdown manager detected shutdown event");
        let pods = self.manager.pods();
        for (period, uids) in self.periods.turns(&pods) {
            self.end(&uids, period).await;
        }
        let by = Instant::now() + TOLD_WITHIN;
        while Instant::now() < by && !self.all_told(&pods).await {
            sleep(LOOK).await;
        }
    }

    /// Has these pods end, and waits for that as long as they have.
    async fn end(&self, uids: &BTreeSet<String>, period: Duration) {
        let by = Instant::now() + period;
        let mut left = uids.clone();
        while !left.is_empty() {
            let rest = by.saturating_duration_since(Instant::now());
            for uid in &left {
                let grace = SignedDuration::try_from(rest).unwrap_or(SignedDuration::MAX);
                let eviction =
                    Eviction { reason: TERMINATED, message: MESSAGE.to_owned(), annotations: BTreeMap::new(), grace };
                self.manager.evict(uid, eviction);
            }
            if rest.is_zero() {
                tracing::warn!(pods = left.len(), "not all pods ended in time");
                return;
            }
            sleep(LOOK).await;
            left = self.running().await.intersection(uids).cloned().collect();
        }
    }

    /// Whose sandboxes are there; unknown is nobody's, since the time for asking is short anyway.
    async fn running(&self) -> BTreeSet<String> {
        let answer = self.ctx.runtime.list_pod_sandbox(ListPodSandboxRequest::default()).await;
        let sandboxes = answer.map(|answer| answer.items).unwrap_or_default().into_iter();
        let ready = sandboxes.filter(|sandbox| sandbox.state == PodSandboxState::SandboxReady as i32);
        ready.filter_map(|sandbox| sandbox.labels.get(labels::POD_UID).cloned()).collect()
    }

    /// Nothing runs, and the API shows the end of every pod that it has.
    async fn all_told(&self, pods: &[Arc<Pod>]) -> bool {
        let shows_the_end = |pod: &Arc<Pod>| {
            let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
            matches!(phase, Some("Succeeded" | "Failed"))
        };
        let ended = |pod: &Arc<Pod>| {
            let known = self.pods.list().into_iter().find(|known| known.metadata.uid == pod.metadata.uid);
            known.is_none_or(|known| shows_the_end(&known))
        };
        pods.iter().all(ended) && self.running().await.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::serde_json::{from_value, json};

    use super::*;

    #[test]
    fn critical_pods_go_last_and_have_time_of_their_own() {
        let pod = |uid: &str, priority: Option<i32>| -> Arc<Pod> {
            let spec = json!({"priority": priority, "containers": []});
            Arc::new(from_value(json!({"metadata": {"uid": uid}, "spec": spec})).unwrap())
        };
        let pods = [pod("a", None), pod("dns", Some(2_000_000_000)), pod("b", Some(1_999_999_999))];
        let periods = Periods::new(Duration::from_secs(30), Duration::from_secs(10)).unwrap();
        let set = |uids: &[&str]| uids.iter().map(|uid| (*uid).to_owned()).collect::<BTreeSet<_>>();
        let expected = [(Duration::from_secs(20), set(&["a", "b"])), (Duration::from_secs(10), set(&["dns"]))];
        assert_eq!(periods.turns(&pods), expected);
        assert!(Periods::new(Duration::from_secs(5), Duration::from_secs(6)).is_err());
    }
}
