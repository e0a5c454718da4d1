//! What the node and its pods use: readings of one moment, and `/metrics/resource` for the Metrics API.
//! (<https://kubernetes.io/docs/reference/instrumentation/node-metrics/>)

use std::{collections::BTreeMap, fmt::Write as _, sync::Arc};

use http::{Response, StatusCode};
use jiff::Timestamp;
use knarr_cri::v1::{ListContainersRequest, ListPodSandboxStatsRequest, PodSandboxStats, UInt64Value};

use super::{
    Body, Inner, Refusal,
    exposition::{self, Family},
    text,
};
use crate::{pod::labels, register::Load};

/// All readings of one moment.
pub(super) struct Readings {
    pub node: Load,
    pub now: Timestamp,
    pub pods: Vec<PodSandboxStats>,
    /// When each container was made, in nanoseconds since 1970.
    pub made: BTreeMap<String, i64>,
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
