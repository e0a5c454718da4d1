//! The Metrics API (`metrics.k8s.io`): what nodes and pods use now, for `kubectl top` and for autoscalers.
//! (<https://kubernetes.io/docs/tasks/debug/debug-cluster/resource-metrics-pipeline/>)
//!
//! Every few seconds all nodes are asked for their `/metrics/resource` page, through the API server as any client
//! would. Two readings of each container are kept, whose difference is the use of the processor; nothing is stored.
//! Whoever serves the API asks [`Metrics`] for objects. It never knows who that is.

mod objects;
mod page;
mod samples;
mod scrape;

use std::{
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
    time::Duration,
};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Node;
use knarr_client::{Clock, Informer, Informers, lean::Pod};
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use samples::Samples;

pub const GROUP: &str = "metrics.k8s.io";
pub const VERSION: &str = "v1beta1";

/// What the collector is given.
pub struct Config {
    /// May read nodes, pods and `nodes/proxy`.
    pub client: kube::Client,
    /// Shared with whoever else is in this process.
    pub informers: Informers,
    pub clock: Clock,
    /// How often each node is asked.
    pub period: Duration,
    pub cancel: CancellationToken,
}

/// The latest readings; empty until [`Metrics::run`] has asked the nodes.
#[derive(Default)]
pub struct Metrics {
    samples: Mutex<Samples>,
    /// What is there to have metrics; known once it runs.
    known: OnceLock<Known>,
}

struct Known {
    nodes: Informer<Node>,
    pods: Informer<Pod>,
    clock: Clock,
}

impl Metrics {
    /// Asks the nodes until it is cancelled.
    pub async fn run(self: Arc<Self>, config: Config) {
        let Config { client, informers, clock, period, cancel } = config;
        let known = self.known.get_or_init(|| Known { nodes: informers.of(), pods: informers.of(), clock });
        if !known.nodes.synced().await {
            return;
        }
        tokio::select! {
            () = scrape::run(&self, known, &client, period) => {}
            () = cancel.cancelled() => {}
        }
    }

    /// NodeMetrics of the nodes whose use is known; of one of them where a name is given.
    pub fn nodes(&self, name: &str) -> Vec<Value> {
        let Some(known) = self.known.get() else { return Vec::new() };
        let nodes = if name.is_empty() { known.nodes.list() } else { known.nodes.get("", name).into_iter().collect() };
        let (samples, now) = (self.samples(), known.now_ms());
        nodes.iter().filter_map(|node| objects::node(node, samples.node(&node.metadata, now)?)).collect()
    }

    /// PodMetrics of the pods whose use is known; an empty namespace or name means all.
    pub fn pods(&self, namespace: &str, name: &str) -> Vec<Value> {
        let Some(known) = self.known.get() else { return Vec::new() };
        let pods = match (namespace, name) {
            ("", _) => known.pods.list(),
            (_, "") => known.pods.in_namespace(namespace),
            _ => known.pods.get(namespace, name).into_iter().collect(),
        };
        let (samples, now) = (self.samples(), known.now_ms());
        let running = pods.iter().filter(|pod| {
            let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
            !matches!(phase, Some("Succeeded" | "Failed"))
        });
        running.filter_map(|pod| objects::pod(pod, samples.pod(pod, now)?)).collect()
    }

    fn samples(&self) -> MutexGuard<'_, Samples> {
        self.samples.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Known {
    fn now_ms(&self) -> i64 {
        let now: Timestamp = self.clock.now();
        now.as_millisecond()
    }
}
