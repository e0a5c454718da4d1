//! Pages about the node itself.

use std::{fmt::Write as _, sync::Arc};

use http::{HeaderValue, Response, StatusCode, header};
use knarr_cri::v1::{ContainerState, ListContainerStatsRequest, ListContainersRequest, ListPodSandboxRequest};
use serde_json::{Value, json};

use super::{Body, Inner, Refusal, text};
use crate::pod::labels;

fn json_page(value: &Value) -> Response<Body> {
    let mut response = text(StatusCode::OK, value.to_string());
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// The pods of this node, as their workers know them.
pub fn pods(server: &Arc<Inner>) -> Response<Body> {
    let items: Vec<Value> = server.manager.pods().iter().map(|pod| json!(**pod)).collect();
    json_page(&json!({"kind": "PodList", "apiVersion": "v1", "metadata": {}, "items": items}))
}

pub async fn metrics(server: &Arc<Inner>) -> Result<Response<Body>, Refusal> {
    let containers = server.ctx.runtime.list_containers(ListContainersRequest::default()).await?.containers;
    let sandboxes = server.ctx.runtime.list_pod_sandbox(ListPodSandboxRequest::default()).await?.items;
    let mut out = String::new();
    _ = writeln!(
        out,
        "# HELP kubelet_node_name [ALPHA] The node's name. The count is always 1.\n# TYPE kubelet_node_name gauge"
    );
    _ = writeln!(out, "kubelet_node_name{{node=\"{}\"}} 1", server.ctx.node_name);
    _ = writeln!(
        out,
        "# HELP kubelet_running_pods [ALPHA] Number of pods that have a running pod sandbox\n# TYPE kubelet_running_pods gauge"
    );
    let ready = sandboxes.iter().filter(|sandbox| sandbox.state == 0).count();
    _ = writeln!(out, "kubelet_running_pods {ready}");
    _ = writeln!(
        out,
        "# HELP kubelet_running_containers [ALPHA] Number of containers currently running\n# TYPE kubelet_running_containers gauge"
    );
    for (state, name) in [
        (ContainerState::ContainerCreated, "created"),
        (ContainerState::ContainerRunning, "running"),
        (ContainerState::ContainerExited, "exited"),
        (ContainerState::ContainerUnknown, "unknown"),
    ] {
        let count = containers.iter().filter(|container| container.state == state as i32).count();
        _ = writeln!(out, "kubelet_running_containers{{container_state=\"{name}\"}} {count}");
    }
    Ok(text(StatusCode::OK, out))
}

/// The part of the Summary API that tools read: cpu and memory of each container.
pub async fn stats(server: &Arc<Inner>) -> Result<Response<Body>, Refusal> {
    let stats = server.ctx.runtime.list_container_stats(ListContainerStatsRequest::default()).await?.stats;
    let time = |nanoseconds: i64| {
        jiff::Timestamp::from_nanosecond(i128::from(nanoseconds)).map(|time| time.to_string()).unwrap_or_default()
    };
    let mut pods: std::collections::BTreeMap<String, (Value, Vec<Value>)> = std::collections::BTreeMap::new();
    for container in stats {
        let Some(attributes) = container.attributes else { continue };
        let label = |key: &str| attributes.labels.get(key).cloned().unwrap_or_default();
        let uid = label(labels::POD_UID);
        let reference = json!({"name": label(labels::POD_NAME), "namespace": label(labels::POD_NAMESPACE), "uid": uid});
        let cpu = container.cpu.map(|cpu| {
            json!({
                "time": time(cpu.timestamp),
                "usageNanoCores": cpu.usage_nano_cores.map(|value| value.value),
                "usageCoreNanoSeconds": cpu.usage_core_nano_seconds.map(|value| value.value),
            })
        });
        let memory = container.memory.map(|memory| {
            json!({
                "time": time(memory.timestamp),
                "workingSetBytes": memory.working_set_bytes.map(|value| value.value),
                "usageBytes": memory.usage_bytes.map(|value| value.value),
                "rssBytes": memory.rss_bytes.map(|value| value.value),
            })
        });
        let entry = json!({"name": label(labels::CONTAINER_NAME), "cpu": cpu, "memory": memory});
        pods.entry(uid).or_insert_with(|| (reference, Vec::new())).1.push(entry);
    }
    let pods: Vec<Value> = pods
        .into_values()
        .map(|(reference, containers)| json!({"podRef": reference, "containers": containers}))
        .collect();
    Ok(json_page(&json!({"node": {"nodeName": server.ctx.node_name}, "pods": pods})))
}
