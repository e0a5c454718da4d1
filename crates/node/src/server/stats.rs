//! What the node and its pods use: `/metrics/resource` for the Metrics API, and `/stats/summary` for people and tools.
//! (<https://kubernetes.io/docs/reference/instrumentation/node-metrics/>)

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    path::{Path, PathBuf},
    sync::{Arc, PoisonError},
};

use http::{Response, StatusCode};
use jiff::Timestamp;
use knarr_cri::v1::{
    ContainerStats, CpuUsage, ImageFsInfoRequest, ListContainersRequest, ListPodSandboxStatsRequest, MemoryUsage,
    NetworkInterfaceUsage, PodSandboxStats, UInt64Value,
};
use knarr_streaming::query::{flag, query as values};
use serde_json::{Value, json};

use super::{
    Body, Inner, Refusal,
    exposition::{self, Family},
    pages::json_page,
    text,
};
use crate::{
    pod::labels,
    register::{Load, most_processes, processes},
};

/// All readings of one moment.
pub(super) struct Readings {
    pub node: Load,
    pub now: Timestamp,
    pub pods: Vec<PodSandboxStats>,
    /// When each container was made, in nanoseconds since 1970.
    made: BTreeMap<String, i64>,
}

pub(super) async fn read(server: &Inner) -> Result<Readings, Refusal> {
    let runtime = &server.ctx.runtime;
    let pods = runtime.list_pod_sandbox_stats(ListPodSandboxStatsRequest::default()).await?.stats;
    let containers = runtime.list_containers(ListContainersRequest::default()).await?.containers;
    let unreadable = |error| Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, format!("/proc cannot be read: {error}"));
    Ok(Readings {
        node: Load::read().map_err(unreadable)?,
        now: server.ctx.now(),
        pods,
        made: containers.into_iter().map(|container| (container.id, container.created_at)).collect(),
    })
}

pub(super) fn label<'a>(all: &'a BTreeMap<String, String>, key: &str) -> &'a str {
    all.get(key).map_or("", String::as_str)
}

pub(super) fn seconds(nanoseconds: Option<&UInt64Value>) -> Option<f64> {
    nanoseconds.map(|value| value.value as f64 / 1e9)
}

pub(super) fn number(value: Option<&UInt64Value>) -> Option<u64> {
    value.map(|value| value.value)
}

/// A page that says itself whether it is complete, as upstream's does, so that a scrape never fails.
pub async fn resource_metrics(server: &Arc<Inner>) -> Response<Body> {
    let read = read(server).await;
    let failed = u8::from(read.is_err());
    let mut page = read.map(|readings| families(&readings)).unwrap_or_default();
    _ = write!(
        page,
        "# HELP resource_scrape_error [STABLE] 1 if there was an error while getting container metrics, 0 otherwise\n\
         # TYPE resource_scrape_error gauge\nresource_scrape_error {failed}\n"
    );
    text(StatusCode::OK, page)
}

fn families(readings: &Readings) -> String {
    let Readings { node, now, pods, made } = readings;
    let mut all = [
        Family::new(
            "container_cpu_usage_seconds_total",
            "counter",
            "[STABLE] Cumulative cpu time consumed by the container in core-seconds",
        ),
        Family::new(
            "container_memory_working_set_bytes",
            "gauge",
            "[STABLE] Current working set of the container in bytes",
        ),
        Family::new(
            "container_start_time_seconds",
            "gauge",
            "[STABLE] Start time of the container since unix epoch in seconds",
        ),
        Family::new(
            "container_swap_usage_bytes",
            "gauge",
            "[ALPHA] Current amount of the container swap usage in bytes. Reported only on non-windows systems",
        ),
        Family::new(
            "node_cpu_usage_seconds_total",
            "counter",
            "[STABLE] Cumulative cpu time consumed by the node in core-seconds",
        ),
        Family::new("node_memory_working_set_bytes", "gauge", "[STABLE] Current working set of the node in bytes"),
        Family::new(
            "node_swap_usage_bytes",
            "gauge",
            "[ALPHA] Current swap usage of the node in bytes. Reported only on non-windows systems",
        ),
        Family::new(
            "pod_cpu_usage_seconds_total",
            "counter",
            "[STABLE] Cumulative cpu time consumed by the pod in core-seconds",
        ),
        Family::new("pod_memory_working_set_bytes", "gauge", "[STABLE] Current working set of the pod in bytes"),
    ];
    let [cpu, memory, start, swap, node_cpu, node_memory, node_swap, pod_cpu, pod_memory] = &mut all;
    let now_ns = i64::try_from(now.as_nanosecond()).unwrap_or(0);
    node_cpu.row("", Some(node.cpu_ns as f64 / 1e9), now_ns);
    node_memory.row("", Some(node.working_set_bytes), now_ns);
    node_swap.row("", Some(node.swap_bytes), now_ns);
    for pod in pods {
        let (Some(who), Some(linux)) = (&pod.attributes, &pod.linux) else { continue };
        let (name, namespace) = (label(&who.labels, labels::POD_NAME), label(&who.labels, labels::POD_NAMESPACE));
        let labels = format!("{{namespace=\"{namespace}\",pod=\"{name}\"}}");
        if let Some(usage) = &linux.cpu {
            pod_cpu.row(&labels, seconds(usage.usage_core_nano_seconds.as_ref()), usage.timestamp);
        }
        if let Some(usage) = &linux.memory {
            pod_memory.row(&labels, number(usage.working_set_bytes.as_ref()), usage.timestamp);
        }
        for container in &linux.containers {
            let Some(who) = &container.attributes else { continue };
            let own = label(&who.labels, self::labels::CONTAINER_NAME);
            let labels = format!("{{container=\"{own}\",namespace=\"{namespace}\",pod=\"{name}\"}}");
            if let Some(usage) = &container.cpu {
                cpu.row(&labels, seconds(usage.usage_core_nano_seconds.as_ref()), usage.timestamp);
                start.row(&labels, made.get(&who.id).map(|made| *made as f64 / 1e9), usage.timestamp);
            }
            if let Some(usage) = &container.memory {
                memory.row(&labels, number(usage.working_set_bytes.as_ref()), usage.timestamp);
            }
            if let Some(usage) = &container.swap {
                swap.row(&labels, number(usage.swap_usage_bytes.as_ref()), usage.timestamp);
            }
        }
    }
    exposition::page(&all)
}

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

/// The Summary API (`/stats/summary`). Volumes and the size of logs are not in it.
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
    if !brief {
        let path = server.ctx.pod_dir.clone();
        let left = move || (file_system(&path, now_ns), path);
        let (fs, path): (Value, PathBuf) = tokio::task::spawn_blocking(left).await.map_err(|error| {
            Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, format!("the file system cannot be read: {error}"))
        })?;
        let images = server.ctx.images.image_fs_info(ImageFsInfoRequest::default()).await?.image_filesystems;
        let mut image_fs = file_system(&path, now_ns);
        if let Some(used) = images.first().and_then(|images| number(images.used_bytes.as_ref())) {
            image_fs["usedBytes"] = used.into();
        }
        about_node["fs"] = fs;
        about_node["runtime"] = json!({"imageFs": image_fs});
        about_node["rlimit"] = json!({"time": time(now_ns), "maxpid": most_processes(), "curproc": processes()});
        about_node["swap"] = json!({"time": time(now_ns), "swapUsageBytes": node.swap_bytes});
    }
    let pods: Vec<Value> = readings.pods.iter().filter_map(|pod| pod_summary(pod, &readings.made, brief)).collect();
    Ok(json_page(&json!({"node": about_node, "pods": pods})))
}

fn file_system(path: &Path, now_ns: i64) -> Value {
    let existing = path.ancestors().find(|path| path.exists()).unwrap_or(Path::new("/"));
    let Ok(stat) = rustix::fs::statvfs(existing) else { return json!({"time": time(now_ns)}) };
    let size = |blocks: u64| blocks * stat.f_frsize;
    json!({
        "time": time(now_ns), "availableBytes": size(stat.f_bavail), "capacityBytes": size(stat.f_blocks),
        "usedBytes": size(stat.f_blocks - stat.f_bfree), "inodesFree": stat.f_ffree, "inodes": stat.f_files,
        "inodesUsed": stat.f_files - stat.f_ffree,
    })
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
