//! `/metrics/cadvisor`: what containers, pods and the node use, under the names and labels that dashboards and alerts
//! know from cAdvisor (<https://github.com/google/cadvisor/blob/master/docs/storage/prometheus.md>). It has what the
//! CRI tells of them: its statistics, and the metrics that a runtime has beside those.

use std::{collections::BTreeMap, sync::Arc};

use http::{Response, StatusCode};
use k8s_openapi::api::core::v1::Pod;
use knarr_cri::v1::{
    ContainerStats, ContainerStatusRequest, CpuUsage, LinuxContainerResources, ListContainersRequest,
    ListMetricDescriptorsRequest, ListPodSandboxMetricsRequest, MemoryUsage, Metric, MetricDescriptor, MetricType,
    NetworkUsage, PodSandboxStats, SwapUsage, UInt64Value,
};

use super::{
    Body, Inner, Refusal,
    exposition::{self, Families},
    pages::image_name,
    stats::{Readings, label, number, read, seconds},
    text,
};
use crate::pod::{labels, qos};

/// Whom a row is about. A container has all of it, a pod no container and no image, the node only the root's `id`.
#[derive(Clone, Default)]
struct Subject {
    container: String,
    /// The control group.
    id: String,
    image: String,
    /// The runtime's name of it.
    name: String,
    namespace: String,
    pod: String,
}

impl Subject {
    fn labels(&self, more: &[(&str, &str)]) -> String {
        let Self { container, id, image, name, namespace, pod } = self;
        let own = [
            ("container", container.as_str()),
            ("id", id),
            ("image", image),
            ("name", name),
            ("namespace", namespace),
            ("pod", pod),
        ];
        exposition::labels(&[&own, more].concat())
    }
}

/// What is known of a container beside what it uses.
#[derive(Default)]
struct Made {
    image: String,
    at_ns: i64,
    limits: Option<LinuxContainerResources>,
}

pub async fn metrics(server: &Arc<Inner>) -> Response<Body> {
    let collected = collect(server).await;
    if let Err(error) = &collected {
        tracing::warn!(%error, "what containers use cannot be read");
    }
    let failed = u8::from(collected.is_err());
    let mut families = collected.unwrap_or_default();
    let error = "1 if there was an error while getting container metrics, 0 otherwise";
    families.gauge("container_scrape_error", error).now("", failed);
    text(StatusCode::OK, families.page())
}

async fn collect(server: &Arc<Inner>) -> Result<Families, Refusal> {
    let readings = read(server).await?;
    let made = made(server).await?;
    let more = More::read(server).await?;
    let group = |pod: &Arc<Pod>| Some((pod.metadata.uid.clone()?, qos::cgroup_parent(pod)));
    let groups: BTreeMap<String, String> = server.manager.pods().iter().filter_map(group).collect();
    let mut families = Families::default();
    machine(&mut families, server);
    node(&mut families, &readings);
    let mut subjects = Vec::new();
    for stats in &readings.pods {
        let Some(who) = &stats.attributes else { continue };
        let subject = Subject {
            id: groups.get(label(&who.labels, labels::POD_UID)).cloned().unwrap_or_default(),
            namespace: label(&who.labels, labels::POD_NAMESPACE).to_owned(),
            pod: label(&who.labels, labels::POD_NAME).to_owned(),
            ..Subject::default()
        };
        pod(&mut families, &subject, stats);
        for stats in stats.linux.iter().flat_map(|linux| &linux.containers) {
            let Some(who) = &stats.attributes else { continue };
            let made = made.get(&who.id);
            let subject = Subject {
                container: label(&who.labels, labels::CONTAINER_NAME).to_owned(),
                id: format!("{}/{}", subject.id, who.id),
                image: made.map(|made| made.image.clone()).unwrap_or_default(),
                name: who.id.clone(),
                ..subject.clone()
            };
            container(&mut families, &subject, stats);
            if let Some(made) = made {
                spec(&mut families, &subject, made);
            }
            subjects.push((who.id.clone(), subject));
        }
        subjects.push((who.id.clone(), subject));
    }
    more.add_to(&mut families, &subjects);
    Ok(families)
}

/// Metrics that a runtime has of its own, by the sandbox or container they are about.
struct More {
    kinds: Vec<MetricDescriptor>,
    metrics: BTreeMap<String, Vec<Metric>>,
}

impl More {
    async fn read(server: &Inner) -> Result<Self, Refusal> {
        let runtime = &server.ctx.runtime;
        let kinds = runtime.list_metric_descriptors(ListMetricDescriptorsRequest::default()).await?.descriptors;
        let pods = runtime.list_pod_sandbox_metrics(ListPodSandboxMetricsRequest::default()).await?.pod_metrics;
        let mut metrics = BTreeMap::new();
        for pod in pods {
            metrics.insert(pod.pod_sandbox_id, pod.metrics);
            metrics.extend(pod.container_metrics.into_iter().map(|of| (of.container_id, of.metrics)));
        }
        Ok(Self { kinds, metrics })
    }

    /// What the statistics say already is not said twice.
    fn add_to(&self, families: &mut Families, subjects: &[(String, Subject)]) {
        for kind in self.kinds.iter().filter(|kind| !families.has(&kind.name)).collect::<Vec<_>>() {
            for (id, subject) in subjects {
                for metric in self.metrics.get(id).into_iter().flatten().filter(|metric| metric.name == kind.name) {
                    let sort = if metric.metric_type == MetricType::Counter as i32 { "counter" } else { "gauge" };
                    let keys = kind.label_keys.iter().map(String::as_str);
                    let labels: Vec<_> = keys.zip(metric.label_values.iter().map(String::as_str)).collect();
                    let value = number(metric.value.as_ref());
                    let family = families.family(kind.name.clone(), sort, kind.help.clone());
                    family.row(&subject.labels(&labels), value, metric.timestamp);
                }
            }
        }
    }
}

fn machine(families: &mut Families, server: &Inner) {
    // As the Node says.
    let node = server.ctx.node.list().into_iter().next();
    let cores = node.and_then(|node| node.status.as_ref()?.capacity.as_ref()?.get("cpu")?.0.parse::<u64>().ok());
    if let Some(cores) = cores {
        families.gauge("machine_cpu_cores", "Number of logical CPU cores.").now("", cores);
    }
    let help = "Amount of memory installed on the machine.";
    families.gauge("machine_memory_bytes", help).now("", server.ctx.memory_capacity);
}

/// The node is the root of all control groups.
fn node(families: &mut Families, readings: &Readings) {
    let Readings { node, now, .. } = readings;
    let timestamp = i64::try_from(now.as_nanosecond()).unwrap_or(0);
    let root = Subject { id: "/".to_owned(), ..Subject::default() };
    cpu(families, &root, &CpuUsage { timestamp, usage_core_nano_seconds: value(node.cpu_ns), usage_nano_cores: None });
    let usage = MemoryUsage {
        timestamp,
        working_set_bytes: value(node.working_set_bytes),
        usage_bytes: value(node.memory_bytes),
        rss_bytes: value(node.rss_bytes),
        ..MemoryUsage::default()
    };
    memory(families, &root, &usage);
    swap(
        families,
        &root,
        &SwapUsage { timestamp, swap_usage_bytes: value(node.swap_bytes), swap_available_bytes: None },
    );
}

fn pod(families: &mut Families, subject: &Subject, stats: &PodSandboxStats) {
    let (Some(who), Some(linux)) = (&stats.attributes, &stats.linux) else { return };
    if let Some(usage) = &linux.cpu {
        cpu(families, subject, usage);
    }
    if let Some(usage) = &linux.memory {
        memory(families, subject, usage);
    }
    if let Some(usage) = &linux.process {
        let help = "Number of processes running inside the container.";
        let count = number(usage.process_count.as_ref());
        families.gauge("container_processes", help).row(&subject.labels(&[]), count, usage.timestamp);
    }
    if let Some(usage) = &linux.network {
        // The sandbox is what has the network, as upstream's pause container.
        let id = format!("{}/{}", subject.id, who.id);
        network(families, &Subject { id, name: who.id.clone(), ..subject.clone() }, usage);
    }
}

fn container(families: &mut Families, subject: &Subject, stats: &ContainerStats) {
    if let Some(usage) = &stats.cpu {
        cpu(families, subject, usage);
        let seen = usage.timestamp / 1_000_000_000;
        let help = "Last time a container was seen by the exporter";
        families.gauge("container_last_seen", help).row(&subject.labels(&[]), Some(seen), usage.timestamp);
    }
    if let Some(usage) = &stats.memory {
        memory(families, subject, usage);
    }
    if let Some(usage) = &stats.swap {
        swap(families, subject, usage);
    }
    if let Some(usage) = &stats.writable_layer {
        let labels = subject.labels(&[("device", "")]);
        let used = number(usage.used_bytes.as_ref());
        let help = "Number of bytes that are consumed by the container on this filesystem.";
        families.gauge("container_fs_usage_bytes", help).row(&labels, used, usage.timestamp);
    }
}

fn cpu(families: &mut Families, subject: &Subject, usage: &CpuUsage) {
    let used = seconds(usage.usage_core_nano_seconds.as_ref());
    let help = "Cumulative cpu time consumed in seconds.";
    let labels = subject.labels(&[("cpu", "total")]);
    families.counter("container_cpu_usage_seconds_total", help).row(&labels, used, usage.timestamp);
}

fn memory(families: &mut Families, subject: &Subject, usage: &MemoryUsage) {
    let labels = subject.labels(&[]);
    for (name, help, bytes) in [
        (
            "container_memory_usage_bytes",
            "Current memory usage in bytes, including all memory regardless of when it was accessed",
            &usage.usage_bytes,
        ),
        ("container_memory_working_set_bytes", "Current working set in bytes.", &usage.working_set_bytes),
        ("container_memory_rss", "Size of RSS in bytes.", &usage.rss_bytes),
    ] {
        families.gauge(name, help).row(&labels, number(bytes.as_ref()), usage.timestamp);
    }
    for (kind, count) in [("pgfault", &usage.page_faults), ("pgmajfault", &usage.major_page_faults)] {
        let labels = subject.labels(&[("failure_type", kind), ("scope", "container")]);
        let help = "Cumulative count of memory allocation failures.";
        let count = number(count.as_ref());
        families.counter("container_memory_failures_total", help).row(&labels, count, usage.timestamp);
    }
}

fn swap(families: &mut Families, subject: &Subject, usage: &SwapUsage) {
    let used = number(usage.swap_usage_bytes.as_ref());
    let labels = subject.labels(&[]);
    families.gauge("container_memory_swap", "Container swap usage in bytes.").row(&labels, used, usage.timestamp);
}

fn network(families: &mut Families, subject: &Subject, usage: &NetworkUsage) {
    for interface in &usage.interfaces {
        let labels = subject.labels(&[("interface", &interface.name)]);
        for (name, help, count) in [
            ("container_network_receive_bytes_total", "Cumulative count of bytes received", &interface.rx_bytes),
            (
                "container_network_receive_errors_total",
                "Cumulative count of errors encountered while receiving",
                &interface.rx_errors,
            ),
            ("container_network_transmit_bytes_total", "Cumulative count of bytes transmitted", &interface.tx_bytes),
            (
                "container_network_transmit_errors_total",
                "Cumulative count of errors encountered while transmitting",
                &interface.tx_errors,
            ),
        ] {
            families.counter(name, help).row(&labels, number(count.as_ref()), usage.timestamp);
        }
    }
}

/// When a container was made, and its limits: one that is not set is left out for processors, and zero for memory.
fn spec(families: &mut Families, subject: &Subject, made: &Made) {
    let labels = subject.labels(&[]);
    let help = "Start time of the container since unix epoch in seconds.";
    families.gauge("container_start_time_seconds", help).now(&labels, made.at_ns / 1_000_000_000);
    let Some(limits) = &made.limits else { return };
    for (name, help, limit) in [
        ("container_spec_cpu_period", "CPU period of the container.", limits.cpu_period),
        ("container_spec_cpu_quota", "CPU quota of the container.", limits.cpu_quota),
        ("container_spec_cpu_shares", "CPU share of the container.", limits.cpu_shares),
    ] {
        if limit > 0 {
            families.gauge(name, help).now(&labels, limit);
        }
    }
    let help = "Memory limit for the container.";
    families.gauge("container_spec_memory_limit_bytes", help).now(&labels, limits.memory_limit_in_bytes.max(0));
}

fn value(value: u64) -> Option<UInt64Value> {
    Some(UInt64Value { value })
}

/// Images, ages and limits, by container.
async fn made(server: &Inner) -> Result<BTreeMap<String, Made>, Refusal> {
    let runtime = &server.ctx.runtime;
    let mut all = BTreeMap::new();
    for container in runtime.list_containers(ListContainersRequest::default()).await?.containers {
        let request = ContainerStatusRequest { container_id: container.id.clone(), verbose: false };
        // One that went meanwhile has no limits any more.
        let status = runtime.container_status(request).await.ok().and_then(|answer| answer.status);
        let limits = status.and_then(|status| status.resources).and_then(|resources| resources.linux);
        let image = container.image.as_ref().map_or("", image_name).to_owned();
        all.insert(container.id, Made { image, at_ns: container.created_at, limits });
    }
    Ok(all)
}
