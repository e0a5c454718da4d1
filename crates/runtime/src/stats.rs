//! What sandboxes and containers use, read from their control groups.
//!
//! Control groups only count upwards. What needs two readings (a rate) or many (the size of a writable layer) is
//! remembered between calls, so that a call costs a handful of small files for each container.

use std::{collections::BTreeMap, fs, os::unix::fs::MetadataExt, path::Path, path::PathBuf};

use knarr_cri::v1::{
    ContainerAttributes, ContainerState, ContainerStats, CpuUsage, FilesystemIdentifier, FilesystemUsage,
    LinuxPodSandboxStats, MemoryUsage, NetworkInterfaceUsage, NetworkUsage, PodSandboxAttributes, PodSandboxStats,
    ProcessUsage, SwapUsage, UInt64Value,
};
use knarr_os::cgroup::{CpuRate, Usage};

use crate::runtime::{EmbeddedRuntime, now_ns};

/// How long the size of a writable layer is believed, since finding it out means looking at every file in it.
const DISK_BELIEVED_NS: i64 = 60_000_000_000;
/// A writable layer with more files than this has no known size.
const MAX_FILES: u64 = 100_000;

/// What earlier readings of a container found.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Sample {
    rate: CpuRate,
    /// When the writable layer was looked at, and its bytes and files.
    disk: Option<(i64, Option<(u64, u64)>)>,
}

/// One container to be read.
struct Subject {
    attributes: ContainerAttributes,
    cgroup: PathBuf,
    upper: PathBuf,
    pid: i32,
    sandbox: String,
    sample: Sample,
}

impl EmbeddedRuntime {
    pub(crate) async fn stats_of(&self, ids: Vec<String>) -> Vec<ContainerStats> {
        let read = self.read(self.subjects(ids.iter().map(String::as_str))).await;
        read.into_iter().map(|(_, stats)| stats).collect()
    }

    /// Of sandboxes with all that runs in them.
    pub(crate) async fn sandbox_stats_of(&self, ids: Vec<String>) -> Vec<PodSandboxStats> {
        let (sandboxes, containers): (Vec<_>, Vec<String>) = {
            let state = self.state();
            let sandboxes: Vec<_> = ids.iter().filter_map(|id| state.sandboxes.get(id)).cloned().collect();
            let running = state.containers.values().filter(|c| c.state() == ContainerState::ContainerRunning);
            let inside = running.filter(|c| ids.contains(&c.meta.sandbox_id));
            (sandboxes, inside.map(|c| c.meta.id.clone()).collect())
        };
        let mut by_sandbox: BTreeMap<String, (i32, Vec<ContainerStats>)> = BTreeMap::new();
        for (subject, stats) in self.read(self.subjects(containers.iter().map(String::as_str))).await {
            let (pid, all) = by_sandbox.entry(subject.sandbox).or_default();
            *pid = subject.pid;
            all.push(stats);
        }
        let cgroups = self.cgroups.clone();
        let read = move || {
            let stats = sandboxes.into_iter().map(|sandbox| {
                let (pid, containers) = by_sandbox.remove(&sandbox.meta.id).unwrap_or_default();
                let usage = cgroups.usage(&sandbox.meta.cgroup);
                let network = (pid > 0 && sandbox.has_own_network()).then(|| network(pid)).flatten();
                let (timestamp, rates) = (now_ns(), containers.iter().filter_map(nano_cores));
                let nano_cores = rates.reduce(|one, other| one + other);
                PodSandboxStats {
                    attributes: Some(PodSandboxAttributes {
                        id: sandbox.meta.id,
                        metadata: sandbox.config.metadata,
                        labels: sandbox.config.labels,
                        annotations: sandbox.config.annotations,
                    }),
                    linux: Some(LinuxPodSandboxStats {
                        cpu: Some(cpu(timestamp, &usage, nano_cores)),
                        memory: Some(memory(timestamp, &usage)),
                        network,
                        process: Some(ProcessUsage { timestamp, process_count: value(usage.processes) }),
                        containers,
                    }),
                    windows: None,
                }
            });
            stats.collect()
        };
        tokio::task::spawn_blocking(read).await.unwrap_or_default()
    }

    fn subjects<'a>(&self, ids: impl Iterator<Item = &'a str>) -> Vec<Subject> {
        let (state, samples) = (self.state(), self.samples());
        let found = ids.filter_map(|id| state.containers.get(id));
        let subject = |c: &crate::container::Container| Subject {
            attributes: ContainerAttributes {
                id: c.meta.id.clone(),
                metadata: c.config.metadata.clone(),
                labels: c.config.labels.clone(),
                annotations: c.config.annotations.clone(),
            },
            cgroup: c.meta.cgroup.clone(),
            upper: self.config.container_dir(&c.meta.id).join("upper"),
            pid: c.meta.pid,
            sandbox: c.meta.sandbox_id.clone(),
            sample: samples.get(&c.meta.id).copied().unwrap_or_default(),
        };
        found.map(subject).collect()
    }

    /// Reads the files on a thread where that holds up no one, and remembers what the next reading needs.
    async fn read(&self, subjects: Vec<Subject>) -> Vec<(Subject, ContainerStats)> {
        let cgroups = self.cgroups.clone();
        let read = move || {
            let one = |mut subject: Subject| {
                let usage = cgroups.usage(&subject.cgroup);
                let stats = container(&mut subject, &usage, now_ns());
                (subject, stats)
            };
            subjects.into_iter().map(one).collect::<Vec<_>>()
        };
        let read = tokio::task::spawn_blocking(read).await.unwrap_or_default();
        let (state, mut samples) = (self.state(), self.samples());
        for (subject, _) in &read {
            samples.insert(subject.attributes.id.clone(), subject.sample);
        }
        samples.retain(|id, _| state.containers.contains_key(id));
        read
    }
}

fn container(subject: &mut Subject, usage: &Usage, timestamp: i64) -> ContainerStats {
    let sample = &mut subject.sample;
    let nano_cores = usage.cpu_ns.and_then(|total| sample.rate.note(timestamp, total));
    let believed = sample.disk.filter(|(at, _)| timestamp - at < DISK_BELIEVED_NS);
    let (disk_at, disk) = *sample.disk.insert(believed.unwrap_or_else(|| (timestamp, disk_usage(&subject.upper))));
    ContainerStats {
        attributes: Some(subject.attributes.clone()),
        cpu: Some(cpu(timestamp, usage, nano_cores)),
        memory: Some(memory(timestamp, usage)),
        writable_layer: Some(FilesystemUsage {
            timestamp: disk_at,
            fs_id: Some(FilesystemIdentifier { mountpoint: subject.upper.display().to_string() }),
            used_bytes: value(disk.map(|(bytes, _)| bytes)),
            inodes_used: value(disk.map(|(_, files)| files)),
        }),
        swap: usage.swap_bytes.map(|used| SwapUsage {
            timestamp,
            swap_available_bytes: None,
            swap_usage_bytes: value(Some(used)),
        }),
    }
}

fn nano_cores(stats: &ContainerStats) -> Option<u64> {
    stats.cpu.as_ref()?.usage_nano_cores.as_ref().map(|rate| rate.value)
}

fn value(value: Option<u64>) -> Option<UInt64Value> {
    value.map(|value| UInt64Value { value })
}

fn cpu(timestamp: i64, usage: &Usage, nano_cores: Option<u64>) -> CpuUsage {
    CpuUsage { timestamp, usage_core_nano_seconds: value(usage.cpu_ns), usage_nano_cores: value(nano_cores) }
}

fn memory(timestamp: i64, usage: &Usage) -> MemoryUsage {
    let limits = usage.memory_limit_bytes.zip(usage.working_set_bytes);
    MemoryUsage {
        timestamp,
        working_set_bytes: value(usage.working_set_bytes),
        available_bytes: value(limits.map(|(limit, used)| limit.saturating_sub(used))),
        usage_bytes: value(usage.memory_bytes),
        rss_bytes: value(usage.rss_bytes),
        page_faults: value(usage.page_faults),
        major_page_faults: value(usage.major_page_faults),
    }
}

/// The counters of the network namespace that a process is in.
fn network(pid: i32) -> Option<NetworkUsage> {
    let interfaces = interfaces(&fs::read_to_string(format!("/proc/{pid}/net/dev")).ok()?);
    let default_interface = interfaces.iter().find(|i| i.name == "eth0").or(interfaces.first()).cloned();
    Some(NetworkUsage { timestamp: now_ns(), default_interface, interfaces })
}

/// The rows of `/proc/PID/net/dev` without the loopback's (proc_pid_net(5)).
fn interfaces(table: &str) -> Vec<NetworkInterfaceUsage> {
    let row = |line: &str| {
        let (name, counters) = line.split_once(':')?;
        let counters: Vec<u64> = counters.split_whitespace().map_while(|word| word.parse().ok()).collect();
        let at = |index: usize| value(counters.get(index).copied());
        let name = name.trim().to_owned();
        let (rx_bytes, rx_errors, tx_bytes, tx_errors) = (at(0), at(2), at(8), at(10));
        Some(NetworkInterfaceUsage { name, rx_bytes, rx_errors, tx_bytes, tx_errors })
    };
    table.lines().skip(2).filter_map(row).filter(|interface| interface.name != "lo").collect()
}

/// Bytes on disk and files below a directory; `None` where there are too many to count.
fn disk_usage(path: &Path) -> Option<(u64, u64)> {
    let (mut bytes, mut files, mut left) = (0, 1, vec![path.to_owned()]);
    while let Some(directory) = left.pop() {
        // What is removed meanwhile uses nothing.
        for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
            let Ok(metadata) = entry.metadata() else { continue };
            bytes += metadata.blocks() * 512;
            files += 1;
            if files > MAX_FILES {
                return None;
            }
            if metadata.is_dir() {
                left.push(entry.path());
            }
        }
    }
    Some((bytes, files))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interfaces_are_read_from_the_kernels_table() {
        let table = "Inter-|   Receive                      |  Transmit\n face |bytes packets errs drop fifo frame compressed multicast|bytes packets errs\n    lo: 1 2 3 4 5 6 7 8 9 10 11\n  eth0: 100 2 3 4 5 6 7 8 900 10 11 12 13 14 15 16\n";
        let found = interfaces(table);
        assert_eq!(found.len(), 1);
        let eth0 = &found[0];
        assert_eq!(
            (eth0.name.as_str(), &eth0.rx_bytes, &eth0.tx_bytes),
            ("eth0", &value(Some(100)), &value(Some(900)))
        );
        assert_eq!((&eth0.rx_errors, &eth0.tx_errors), (&value(Some(3)), &value(Some(11))));
    }
}
