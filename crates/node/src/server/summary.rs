//! `/stats/summary`: what the node and its pods use, for people and tools.
//! (<https://kubernetes.io/docs/reference/instrumentation/node-metrics/>)

use std::{
    collections::{BTreeMap, HashMap},
    path::Path,
    sync::{Arc, PoisonError},
};

use http::{Response, StatusCode};
use jiff::Timestamp;
use knarr_cri::v1::{
    ContainerStats, CpuUsage, ImageFsInfoRequest, MemoryUsage, NetworkInterfaceUsage, PodSandboxStats,
};
use knarr_streaming::query::{flag, query as values};
use serde_json::{Value, json};

use super::{
    Body, Inner, Refusal,
    disks::Found,
    pages::json_page,
    stats::{label, number, read},
};
use crate::{
    pod::labels,
    register::{most_processes, processes},
    volume::{Measurable, Usage},
};

fn time(nanoseconds: i64) -> Value {
    let time = Timestamp::from_nanosecond(i128::from(nanoseconds)).unwrap_or_default();
    let whole = Timestamp::from_second(time.as_second()).unwrap_or_default();
    whole.to_string().into()
}

fn cpu_value(usage: &CpuUsage) -> Value {
    without_nulls(json!({
        "time": time(usage.timestamp),
        "usageNanoCores": number(usage.usage_nano_cores.as_ref()),
        "usageCoreNanoSeconds": number(usage.usage_core_nano_seconds.as_ref()),
    }))
}

fn memory_value(usage: &MemoryUsage) -> Value {
    without_nulls(json!({
        "time": time(usage.timestamp),
        "availableBytes": number(usage.available_bytes.as_ref()),
        "usageBytes": number(usage.usage_bytes.as_ref()),
        "workingSetBytes": number(usage.working_set_bytes.as_ref()),
        "rssBytes": number(usage.rss_bytes.as_ref()),
        "pageFaults": number(usage.page_faults.as_ref()),
        "majorPageFaults": number(usage.major_page_faults.as_ref()),
    }))
}

/// What was not measured is left out, as Go leaves it out.
fn without_nulls(mut value: Value) -> Value {
    if let Some(object) = value.as_object_mut() {
        object.retain(|_, value| !value.is_null());
    }
    value
}

pub async fn summary(server: &Arc<Inner>, query: &str) -> Result<Response<Body>, Refusal> {
    let readings = read(server).await?;
    let brief = flag(&values(query), "only_cpu_and_memory");
    let now_ns = i64::try_from(readings.now.as_nanosecond()).unwrap_or(0);
    let node = &readings.node;
    let node_rate = server.cpu_rate.lock().unwrap_or_else(PoisonError::into_inner).note(now_ns, node.cpu_ns);
    let cpu =
        without_nulls(json!({"time": time(now_ns), "usageNanoCores": node_rate, "usageCoreNanoSeconds": node.cpu_ns}));
    let mut about_node = json!({
        "nodeName": server.ctx.node_name,
        "startTime": time(node.started_at_s.saturating_mul(1_000_000_000)),
        "cpu": cpu,
        "memory": {
            "time": time(now_ns), "availableBytes": node.available_bytes, "usageBytes": node.memory_bytes,
            "workingSetBytes": node.working_set_bytes, "rssBytes": node.rss_bytes,
        },
    });
    let mut node_disk = Usage::default();
    let mut disks = HashMap::new();
    if !brief {
        disks = server.disks.of(&server.ctx, &server.manager.pods()).await;
        let path = server.ctx.pod_dir.clone();
        let read = knarr_os::aside(move || file_system(&path)).await.map_err(std::io::Error::other).flatten();
        node_disk = read.map_err(|error| {
            Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, format!("the file system cannot be read: {error}"))
        })?;
        let images = server.ctx.images.image_fs_info(ImageFsInfoRequest::default()).await?.image_filesystems;
        let mut image_fs = disk_value(&node_disk, now_ns);
        if let Some(used) = images.first().and_then(|images| number(images.used_bytes.as_ref())) {
            image_fs["usedBytes"] = used.into();
        }
        about_node["fs"] = disk_value(&node_disk, now_ns);
        about_node["runtime"] = json!({"imageFs": image_fs});
        about_node["rlimit"] = json!({"time": time(now_ns), "maxpid": most_processes(), "curproc": processes()});
        about_node["swap"] = json!({"time": time(now_ns), "swapUsageBytes": node.swap_bytes});
    }
    let none = Arc::default();
    let pods = readings.pods.iter().filter_map(|pod| {
        let mut summary = pod_summary(pod, &readings.made, brief)?;
        if !brief {
            let who = pod.attributes.as_ref()?;
            let found = disks.get(label(&who.labels, labels::POD_UID)).unwrap_or(&none);
            let written = pod.linux.iter().flat_map(|linux| &linux.containers).filter_map(|container| {
                let layer = container.writable_layer.as_ref()?;
                Some((number(layer.used_bytes.as_ref())?, number(layer.inodes_used.as_ref()).unwrap_or(0)))
            });
            add_disks(&mut summary, found, written, &node_disk, label(&who.labels, labels::POD_NAMESPACE), now_ns);
        }
        Some(summary)
    });
    let pods: Vec<Value> = pods.collect();
    Ok(json_page(&json!({"node": about_node, "pods": pods})))
}

fn file_system(path: &Path) -> std::io::Result<Usage> {
    Usage::of_file_system(path.ancestors().find(|path| path.exists()).unwrap_or(Path::new("/")))
}

fn disk_value(usage: &Usage, now_ns: i64) -> Value {
    without_nulls(json!({
        "time": time(now_ns), "availableBytes": usage.available, "capacityBytes": usage.capacity,
        "usedBytes": usage.used, "inodesFree": usage.inodes_free, "inodes": usage.inodes,
        "inodesUsed": usage.inodes_used,
    }))
}

/// The pod's volumes, the logs of its containers, and what it takes of the node's own disk: that, the logs, and what
/// containers have `written`, in bytes and files.
fn add_disks(
    summary: &mut Value,
    found: &Found,
    written: impl Iterator<Item = (u64, u64)>,
    node: &Usage,
    namespace: &str,
    now_ns: i64,
) {
    let volume = |(volume, usage): &(Measurable, Usage)| {
        let mut value = disk_value(usage, now_ns);
        value["name"] = json!(volume.volume);
        if let Some(claim) = &volume.claim {
            value["pvcRef"] = json!({"name": claim, "namespace": namespace});
        }
        value
    };
    summary["volume"] = found.volumes.iter().map(volume).collect();
    for container in summary["containers"].as_array_mut().into_iter().flatten() {
        if let Some(usage) = container["name"].as_str().and_then(|name| found.logs.get(name)) {
            container["logs"] = disk_value(usage, now_ns);
        }
    }
    let own = found.volumes.iter().filter(|(volume, _)| volume.is_ephemeral).map(|(_, usage)| usage);
    let taken = own.chain(found.logs.values());
    let taken = taken.map(|usage| (usage.used.unwrap_or(0), usage.inodes_used.unwrap_or(0)));
    let (bytes, files) = taken.chain(written).fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1));
    let share = Usage { used: Some(bytes), inodes_used: Some(files), ..*node };
    summary["ephemeral-storage"] = disk_value(&share, now_ns);
}

fn pod_summary(pod: &PodSandboxStats, made: &BTreeMap<String, i64>, brief: bool) -> Option<Value> {
    let (who, linux) = (pod.attributes.as_ref()?, pod.linux.as_ref()?);
    let made_at = |container: &ContainerStats| made.get(&container.attributes.as_ref()?.id).copied();
    let mut out = json!({
        "podRef": {
            "name": label(&who.labels, labels::POD_NAME),
            "namespace": label(&who.labels, labels::POD_NAMESPACE),
            "uid": label(&who.labels, labels::POD_UID),
        },
        "startTime": linux.containers.iter().filter_map(made_at).min().map(time),
        "containers": linux.containers.iter().map(|c| container_summary(c, made_at(c), brief)).collect::<Vec<_>>(),
        "cpu": linux.cpu.as_ref().map(cpu_value),
        "memory": linux.memory.as_ref().map(memory_value),
    });
    if !brief {
        if let Some(network) = &linux.network {
            let mut all = network.default_interface.as_ref().map(interface).unwrap_or_default();
            all["time"] = time(network.timestamp);
            all["interfaces"] = network.interfaces.iter().map(interface).collect();
            out["network"] = all;
        }
        let processes = linux.process.as_ref().and_then(|process| number(process.process_count.as_ref()));
        out["process_stats"] = processes.map_or(Value::Null, |count| json!({"process_count": count}));
    }
    Some(without_nulls(out))
}

fn interface(usage: &NetworkInterfaceUsage) -> Value {
    without_nulls(json!({
        "name": usage.name,
        "rxBytes": number(usage.rx_bytes.as_ref()),
        "rxErrors": number(usage.rx_errors.as_ref()),
        "txBytes": number(usage.tx_bytes.as_ref()),
        "txErrors": number(usage.tx_errors.as_ref()),
    }))
}

fn container_summary(stats: &ContainerStats, made_at: Option<i64>, brief: bool) -> Value {
    let mut out = json!({
        "name": stats.attributes.as_ref().map(|who| label(&who.labels, labels::CONTAINER_NAME)),
        "startTime": made_at.map(time),
        "cpu": stats.cpu.as_ref().map(cpu_value),
        "memory": stats.memory.as_ref().map(memory_value),
    });
    if let Some(layer) = stats.writable_layer.as_ref().filter(|_| !brief) {
        out["rootfs"] = without_nulls(json!({
            "time": time(layer.timestamp),
            "usedBytes": number(layer.used_bytes.as_ref()),
            "inodesUsed": number(layer.inodes_used.as_ref()),
        }));
    }
    if let Some(swap) = stats.swap.as_ref().filter(|_| !brief) {
        out["swap"] = without_nulls(json!({
            "time": time(swap.timestamp), "swapUsageBytes": number(swap.swap_usage_bytes.as_ref()),
        }));
    }
    without_nulls(out)
}
