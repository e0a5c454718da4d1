//! What the CRI's statistics have no fields for, as metrics under the names that cAdvisor made known.

use std::path::PathBuf;

use knarr_cri::v1::{
    ContainerMetrics, ContainerState, Metric, MetricDescriptor, MetricType, PodSandboxMetrics, UInt64Value,
};
use knarr_os::cgroup::Usage;

use crate::runtime::{EmbeddedRuntime, now_ns};

struct Kind {
    name: &'static str,
    help: &'static str,
    kind: MetricType,
    of: fn(&Usage) -> Option<u64>,
}

const KINDS: [Kind; 3] = [
    Kind {
        name: "container_memory_cache",
        help: "Number of bytes of page cache memory.",
        kind: MetricType::Gauge,
        of: |usage| usage.cache_bytes,
    },
    Kind {
        name: "container_cpu_cfs_periods_total",
        help: "Number of elapsed enforcement period intervals.",
        kind: MetricType::Counter,
        of: |usage| usage.cpu_periods,
    },
    Kind {
        name: "container_cpu_cfs_throttled_periods_total",
        help: "Number of throttled period intervals.",
        kind: MetricType::Counter,
        of: |usage| usage.cpu_throttled_periods,
    },
];

pub(crate) fn descriptors() -> Vec<MetricDescriptor> {
    let descriptor = |Kind { name, help, .. }: &Kind| MetricDescriptor {
        name: (*name).to_owned(),
        help: (*help).to_owned(),
        label_keys: Vec::new(),
    };
    KINDS.iter().map(descriptor).collect()
}

/// An id, and the group whose use is told.
type Subject = (String, PathBuf);

impl EmbeddedRuntime {
    /// Of all sandboxes, with what runs in them.
    pub(crate) async fn metrics(&self) -> Vec<PodSandboxMetrics> {
        let subjects: Vec<(Subject, Vec<Subject>)> = {
            let state = self.state();
            let inside = |id: &str| {
                let running = state.containers.values().filter(|c| c.state() == ContainerState::ContainerRunning);
                let inside = running.filter(|c| c.meta.sandbox_id == id);
                inside.map(|c| (c.meta.id.clone(), c.meta.cgroup.clone())).collect()
            };
            let one = |meta: &crate::records::SandboxMeta| ((meta.id.clone(), meta.cgroup.clone()), inside(&meta.id));
            state.sandboxes.values().map(|sandbox| one(&sandbox.meta)).collect()
        };
        let cgroups = self.cgroups.clone();
        let read = move || {
            let one = |((pod_sandbox_id, cgroup), containers): (Subject, Vec<Subject>)| {
                let container = |(container_id, cgroup): Subject| ContainerMetrics {
                    container_id,
                    metrics: metrics(&cgroups.usage(&cgroup)),
                };
                let container_metrics = containers.into_iter().map(container).collect();
                PodSandboxMetrics { pod_sandbox_id, metrics: metrics(&cgroups.usage(&cgroup)), container_metrics }
            };
            subjects.into_iter().map(one).collect()
        };
        tokio::task::spawn_blocking(read).await.unwrap_or_default()
    }
}

/// What a group does not tell is left out.
fn metrics(usage: &Usage) -> Vec<Metric> {
    let timestamp = now_ns();
    let metric = |Kind { name, kind, of, .. }: &Kind| {
        let value = Some(UInt64Value { value: of(usage)? });
        Some(Metric { name: (*name).to_owned(), timestamp, metric_type: *kind as i32, label_values: Vec::new(), value })
    };
    KINDS.iter().filter_map(metric).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_metric_is_described_and_only_what_is_known_is_told() {
        let usage = Usage { cache_bytes: Some(5), cpu_throttled_periods: Some(2), ..Usage::default() };
        let found: Vec<(String, u64)> =
            metrics(&usage).into_iter().map(|metric| (metric.name, metric.value.unwrap().value)).collect();
        let expected = [("container_memory_cache", 5), ("container_cpu_cfs_throttled_periods_total", 2)];
        assert_eq!(found, expected.map(|(name, value)| (name.to_owned(), value)));
        let described = descriptors();
        assert!(found.iter().all(|(name, _)| described.iter().any(|descriptor| descriptor.name == *name)));
    }
}
