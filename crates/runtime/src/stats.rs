//! What containers use, read from their control groups.

use std::{fs, os::unix::fs::MetadataExt, path::Path};

use knarr_cri::v1::{
    ContainerAttributes, ContainerStats, CpuUsage, FilesystemIdentifier, FilesystemUsage, MemoryUsage, SwapUsage,
    UInt64Value,
};

use crate::runtime::{EmbeddedRuntime, now_ns};

impl EmbeddedRuntime {
    /// Reads the files of many containers on a thread where that holds up no one.
    pub(crate) async fn stats_of(&self, ids: Vec<String>) -> Vec<ContainerStats> {
        let wanted: Vec<_> = {
            let state = self.state();
            let found = ids.iter().filter_map(|id| state.containers.get(id));
            found
                .map(|c| (attributes(c), c.meta.cgroup.clone(), self.config.container_dir(&c.meta.id).join("upper")))
                .collect()
        };
        let cgroups = self.cgroups.clone();
        let read = move || {
            let one = |(attributes, cgroup, upper): (ContainerAttributes, std::path::PathBuf, std::path::PathBuf)| {
                stats(attributes, cgroups.usage(&cgroup), &upper)
            };
            wanted.into_iter().map(one).collect()
        };
        tokio::task::spawn_blocking(read).await.unwrap_or_default()
    }
}

fn attributes(container: &crate::container::Container) -> ContainerAttributes {
    ContainerAttributes {
        id: container.meta.id.clone(),
        metadata: container.config.metadata.clone(),
        labels: container.config.labels.clone(),
        annotations: container.config.annotations.clone(),
    }
}

fn stats(attributes: ContainerAttributes, usage: knarr_os::cgroup::Usage, upper: &Path) -> ContainerStats {
    let timestamp = now_ns();
    let value = |v: Option<u64>| v.map(|value| UInt64Value { value });
    let available =
        usage.memory_limit_bytes.zip(usage.working_set_bytes).map(|(limit, used)| limit.saturating_sub(used));
    let (bytes, inodes) = disk_usage(upper);
    ContainerStats {
        attributes: Some(attributes),
        cpu: Some(CpuUsage { timestamp, usage_core_nano_seconds: value(usage.cpu_ns), usage_nano_cores: None }),
        memory: Some(MemoryUsage {
            timestamp,
            working_set_bytes: value(usage.working_set_bytes),
            available_bytes: value(available),
            usage_bytes: value(usage.memory_bytes),
            rss_bytes: value(usage.rss_bytes),
            page_faults: value(usage.page_faults),
            major_page_faults: value(usage.major_page_faults),
        }),
        writable_layer: Some(FilesystemUsage {
            timestamp,
            fs_id: Some(FilesystemIdentifier { mountpoint: upper.display().to_string() }),
            used_bytes: value(Some(bytes)),
            inodes_used: value(Some(inodes)),
        }),
        swap: usage.swap_bytes.map(|used| SwapUsage {
            timestamp,
            swap_available_bytes: None,
            swap_usage_bytes: value(Some(used)),
        }),
    }
}

/// Bytes on disk and files below a directory.
fn disk_usage(path: &Path) -> (u64, u64) {
    let Ok(entries) = fs::read_dir(path) else { return (0, 0) };
    entries.flatten().fold((0, 1), |(bytes, files), entry| {
        let Ok(metadata) = entry.metadata() else { return (bytes, files) };
        let own = metadata.blocks() * 512;
        let (below, count) = if metadata.is_dir() { disk_usage(&entry.path()) } else { (0, 1) };
        (bytes + own + below, files + count)
    })
}
