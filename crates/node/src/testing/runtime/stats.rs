//! What containers use: the same always, so that sums are known.

use knarr_cri::v1::*;

use super::State;

impl State {
    pub(super) fn memory(&self) -> MemoryUsage {
        let used = UInt64Value { value: self.memory_used };
        MemoryUsage { usage_bytes: Some(used), ..MemoryUsage::default() }
    }

    /// Every running container has used a second and a half, and holds four megabytes.
    pub(super) fn stats(&self) -> Vec<PodSandboxStats> {
        let cpu = |ns| CpuUsage { timestamp: 7_000_000_000, usage_core_nano_seconds: ns, usage_nano_cores: None };
        let used = || Some(cpu(Some(UInt64Value { value: 1_500_000_000 })));
        let held = Some(UInt64Value { value: 4 << 20 });
        let memory = MemoryUsage { timestamp: 7_000_000_000, working_set_bytes: held, ..MemoryUsage::default() };
        let stats_of = |sandbox: &PodSandboxStatus| {
            let inside = self.containers.values().filter(|(status, _, owner)| {
                *owner == sandbox.id && status.state == ContainerState::ContainerRunning as i32
            });
            let containers = inside.map(|(status, config, _)| ContainerStats {
                attributes: Some(ContainerAttributes {
                    id: status.id.clone(),
                    labels: config.labels.clone(),
                    ..ContainerAttributes::default()
                }),
                cpu: used(),
                memory: Some(memory),
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
                    memory: Some(memory),
                    containers: containers.collect(),
                    ..LinuxPodSandboxStats::default()
                }),
                windows: None,
            }
        };
        self.sandboxes.values().map(stats_of).collect()
    }
}
