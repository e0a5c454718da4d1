//! What the pods of this node take, measured when it matters.

use std::{collections::HashMap, sync::Arc};

use k8s_openapi::api::core::v1::Pod;
use knarr_cri::v1::{ContainerStats, FilesystemUsage, MemoryUsage, PodSandboxStats, UInt64Value};

use super::{
    rank::{Candidate, ContainerUse, Use},
    signal::Signal,
};
use crate::{
    disk::Footprint,
    pod::{context::Context, labels, storage},
};

/// Which files count: those that lie on the disk that is short.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Disks {
    /// Containers' own files.
    layers: bool,
    /// Logs and volumes.
    rest: bool,
}

impl Disks {
    /// `images_apart` where images, and with them containers' own files, have a file system of their own.
    pub fn of(signal: Signal, images_apart: bool) -> Self {
        match signal {
            Signal::NodefsAvailable | Signal::NodefsInodesFree => Self { layers: !images_apart, rest: true },
            Signal::ImagefsAvailable | Signal::ImagefsInodesFree => Self { layers: true, rest: !images_apart },
            _ => Self { layers: false, rest: false },
        }
    }
}

fn number(value: Option<&UInt64Value>) -> i64 {
    value.map_or(0, |value| i64::try_from(value.value).unwrap_or(i64::MAX))
}

fn working_set(usage: Option<&MemoryUsage>) -> i64 {
    number(usage.and_then(|usage| usage.working_set_bytes.as_ref()))
}

pub fn memory(stats: &PodSandboxStats) -> i64 {
    working_set(stats.linux.as_ref().and_then(|linux| linux.memory.as_ref()))
}

/// The pods that have something running, with what that takes. Walks folders.
pub fn candidates(ctx: &Context, pods: &[Arc<Pod>], stats: &[PodSandboxStats], disks: Disks) -> Vec<Candidate> {
    let by_uid: HashMap<&str, &PodSandboxStats> = stats
        .iter()
        .filter_map(|stats| Some((stats.attributes.as_ref()?.labels.get(labels::POD_UID)?.as_str(), stats)))
        .collect();
    let one = |pod: &Arc<Pod>| {
        let stats = by_uid.get(pod.metadata.uid.as_deref()?)?;
        Some(Candidate { pod: pod.clone(), takes: takes(ctx, pod, stats, disks) })
    };
    pods.iter().filter_map(one).collect()
}

fn takes(ctx: &Context, pod: &Pod, stats: &PodSandboxStats, disks: Disks) -> Use {
    let linux = stats.linux.as_ref();
    let mut takes = Use {
        memory_bytes: memory(stats),
        processes: number(linux.and_then(|linux| linux.process.as_ref()?.process_count.as_ref())),
        ..Use::default()
    };
    let mut count = |found: Footprint| {
        takes.disk_bytes += i64::try_from(found.bytes).unwrap_or(i64::MAX);
        takes.inodes += i64::try_from(found.inodes).unwrap_or(i64::MAX);
        found
    };
    let logs = ctx.log_folder(pod);
    let mut containers = Vec::new();
    for stats in linux.iter().flat_map(|linux| &linux.containers) {
        let name = container_name(stats);
        let mut disk = Footprint::default();
        if disks.layers {
            disk += count(footprint(stats.writable_layer.as_ref()));
        }
        if disks.rest {
            disk += count(Footprint::below(&logs.join(&name)));
        }
        let disk_bytes = i64::try_from(disk.bytes).unwrap_or(i64::MAX);
        containers.push(ContainerUse { name, memory_bytes: working_set(stats.memory.as_ref()), disk_bytes });
    }
    if disks.rest {
        let folder = ctx.pod_dir.join(pod.metadata.uid.as_deref().unwrap_or_default());
        for (_, path) in storage::on_disk(pod, &folder) {
            count(Footprint::below(&path));
        }
    }
    Use { containers, ..takes }
}

fn container_name(stats: &ContainerStats) -> String {
    let attributes = stats.attributes.as_ref();
    attributes.and_then(|attributes| attributes.labels.get(labels::CONTAINER_NAME)).cloned().unwrap_or_default()
}

fn footprint(usage: Option<&FilesystemUsage>) -> Footprint {
    let number = |value: Option<&UInt64Value>| value.map_or(0, |value| value.value);
    Footprint {
        bytes: number(usage.and_then(|usage| usage.used_bytes.as_ref())),
        inodes: number(usage.and_then(|usage| usage.inodes_used.as_ref())),
    }
}
