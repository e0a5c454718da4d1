//! What containers use: the same always, so that sums are known.

use knarr_cri::v1::*;

use super::State;

impl State {
    pub(super) fn memory(&self) -> MemoryUsage {
        let used = UInt64Value { value: self.memory_used };
        MemoryUsage { usage_bytes: Some(used), ..MemoryUsage::default() }
    }

    /// Every running container has used a second and a half, and holds four megabytes, unless a test says how much; its
    /// pod heard a hundred bytes and said two hundred.
    pub(super) fn stats(&self) -> Vec<PodSandboxStats> {
        let cpu = |ns| CpuUsage { timestamp: 7_000_000_000, usage_core_nano_seconds: ns, usage_nano_cores: None };
        let used = || Some(cpu(Some(UInt64Value { value: 1_500_000_000 })));
        let memory = |bytes: u64| {
            let held = Some(UInt64Value { value: bytes });
            Some(MemoryUsage { timestamp: 7_000_000_000, working_set_bytes: held, ..MemoryUsage::default() })
        };
        let held = |status: &ContainerStatus| self.memory_of.get(&super::name_of(status)).copied().unwrap_or(4 << 20);
        let stats_of = |sandbox: &PodSandboxStatus| {
            let inside = self.containers.values().filter(|(status, _, owner)| {
                *owner == sandbox.id && status.state == ContainerState::ContainerRunning as i32
            });
            let inside: Vec<_> = inside.collect();
            let together = inside.iter().map(|(status, _, _)| held(status)).sum::<u64>().max(4 << 20);
            let containers = inside.into_iter().map(|(status, config, _)| ContainerStats {
                attributes: Some(ContainerAttributes {
                    id: status.id.clone(),
                    labels: config.labels.clone(),
                    ..ContainerAttributes::default()
                }),
                cpu: used(),
                memory: memory(held(status)),
                ..ContainerStats::default()
            });
            PodSandboxStats {
                attributes: Some(PodSandboxAttributes {
                    id: sandbox.id.clone(),
                    labels: sandbox.labels.clone(),
                    ..PodSandboxAttributes::default()
                }),
                linux: Some(LinuxPodSandboxStats {
                    cpu: used(),
                    memory: memory(together),
                    network: Some(NetworkUsage {
                        timestamp: 7_000_000_000,
                        default_interface: None,
                        interfaces: vec![NetworkInterfaceUsage {
                            name: "eth0".to_owned(),
                            rx_bytes: Some(UInt64Value { value: 100 }),
                            tx_bytes: Some(UInt64Value { value: 200 }),
                            ..NetworkInterfaceUsage::default()
                        }],
                    }),
                    containers: containers.collect(),
                    ..LinuxPodSandboxStats::default()
                }),
                windows: None,
            }
        };
        self.sandboxes.values().map(stats_of).collect()
    }

    /// Every container has eleven bytes of cache, and says once more what it holds.
    pub(super) fn metrics(&self) -> Vec<PodSandboxMetrics> {
        let metric = |(name, value): (&str, u64)| Metric {
            name: name.to_owned(),
            timestamp: 7_000_000_000,
            metric_type: MetricType::Gauge as i32,
            label_values: vec!["file".to_owned()],
            value: Some(UInt64Value { value }),
        };
        let metrics = || [("container_memory_cache", 11), ("container_memory_rss", 12)].map(metric).to_vec();
        let of_sandbox = |id: &String| {
            let inside = self.containers.iter().filter(|(_, (_, _, owner))| owner == id);
            let one = |(id, _): (&String, _)| ContainerMetrics { container_id: id.clone(), metrics: metrics() };
            let container_metrics = inside.map(one).collect();
            PodSandboxMetrics { pod_sandbox_id: id.clone(), metrics: Vec::new(), container_metrics }
        };
        self.sandboxes.keys().map(of_sandbox).collect()
    }
}
