//! Pages about the node itself.

use std::{fmt::Write as _, sync::Arc};

use http::{HeaderValue, Response, StatusCode, header};
use knarr_cri::v1::{ContainerState, ListContainersRequest, ListPodSandboxRequest};
use serde_json::{Value, json};

use super::{Body, Inner, Refusal, text};

pub(super) fn json_page(value: &Value) -> Response<Body> {
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
