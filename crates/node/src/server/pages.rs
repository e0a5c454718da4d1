//! Pages about the node itself.

use std::{collections::BTreeMap, path::Path, sync::Arc, time::Duration};

use http::{HeaderValue, Response, StatusCode, header};
use knarr_client::meta;
use knarr_cri::v1::{
    ContainerState, ImageSpec, ListContainersRequest, ListPodSandboxRequest, PodSandbox, PodSandboxState,
};
use serde_json::{Value, json};

use super::{
    Body, Inner, Refusal, auth,
    exposition::{self, Families},
    text,
};
use crate::{evict::Levels, logs::Limits, pod::labels};

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

/// The pods that have something running, as far as the runtime knows them (upstream: `/runningpods/`, for tests).
pub async fn running_pods(server: &Arc<Inner>) -> Result<Response<Body>, Refusal> {
    let runtime = &server.ctx.runtime;
    let sandboxes = runtime.list_pod_sandbox(ListPodSandboxRequest::default()).await?.items;
    let containers = runtime.list_containers(ListContainersRequest::default()).await?.containers;
    let running: Vec<_> =
        containers.iter().filter(|container| container.state == ContainerState::ContainerRunning as i32).collect();
    let items = sandboxes.iter().filter(|sandbox| is_ready(sandbox)).map(|sandbox| {
        let text = |key: &str| sandbox.labels.get(key).cloned().unwrap_or_default();
        let inside = running.iter().filter(|container| container.pod_sandbox_id == sandbox.id);
        let containers: Vec<Value> = inside
            .map(|container| {
                let image = container.image.as_ref().map(image_name);
                json!({"name": container.labels.get(labels::CONTAINER_NAME), "image": image, "resources": {}})
            })
            .collect();
        json!({
            "metadata": {
                "name": text(labels::POD_NAME), "namespace": text(labels::POD_NAMESPACE), "uid": text(labels::POD_UID),
            },
            "spec": {"containers": containers},
            "status": {},
        })
    });
    let items: Vec<Value> = items.collect();
    Ok(json_page(&json!({"kind": "PodList", "apiVersion": "v1", "metadata": {}, "items": items})))
}

/// The image as the pod names it.
pub(super) fn image_name(image: &ImageSpec) -> &str {
    let named = [&image.user_specified_image, &image.image].into_iter().find(|name| !name.is_empty());
    named.map_or("", String::as_str)
}

fn is_ready(sandbox: &PodSandbox) -> bool {
    sandbox.state == PodSandboxState::SandboxReady as i32
}

/// What the node goes by, in the terms of a KubeletConfiguration.
pub fn configz(server: &Arc<Inner>) -> Response<Body> {
    let ctx = &server.ctx;
    let Limits { max_bytes, max_files } = Limits::default();
    let seconds = |time: Duration| format!("{}s", time.as_secs());
    let levels = |levels: &Levels| -> BTreeMap<_, _> {
        levels.iter().map(|(signal, level)| (signal.name(), level.to_string())).collect()
    };
    let grace_periods: BTreeMap<_, _> =
        ctx.eviction.soft_grace.iter().map(|(signal, grace)| (signal.name(), seconds(*grace))).collect();
    json_page(&json!({"kubeletconfig": {
        "kind": "KubeletConfiguration",
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "enableServer": true,
        "authentication": {
            "x509": {},
            "webhook": {"enabled": true, "cacheTTL": seconds(auth::TOKEN_BELIEVED)},
            "anonymous": {"enabled": false},
        },
        "authorization": {"mode": "Webhook", "webhook": {
            "cacheAuthorizedTTL": seconds(auth::ALLOWED_BELIEVED),
            "cacheUnauthorizedTTL": seconds(auth::DENIED_BELIEVED),
        }},
        "clusterDomain": ctx.cluster_domain,
        "clusterDNS": ctx.cluster_dns,
        "systemReserved": ctx.budget.system.shown(),
        "kubeReserved": ctx.budget.kube.shown(),
        "enforceNodeAllocatable": ["pods"],
        "evictionHard": levels(&ctx.eviction.hard),
        "evictionSoft": levels(&ctx.eviction.soft),
        "evictionSoftGracePeriod": grace_periods,
        "evictionMinimumReclaim": levels(&ctx.eviction.minimum_reclaim),
        "evictionPressureTransitionPeriod": seconds(ctx.eviction.transition),
        "evictionMaxPodGracePeriod": ctx.eviction.max_pod_grace.as_secs(),
        "imageGCHighThresholdPercent": ctx.image_gc.high_percent,
        "imageGCLowThresholdPercent": ctx.image_gc.low_percent,
        "imageMinimumGCAge": seconds(ctx.image_gc.min_age),
        "imageMaximumGCAge": seconds(ctx.image_gc.max_age),
        "maxPods": ctx.max_pods,
        "podPidsLimit": ctx.pod_pids.unwrap_or(-1),
        "resolvConf": ctx.resolv_conf.as_deref().unwrap_or(Path::new("/etc/resolv.conf")),
        "allowedUnsafeSysctls": ctx.unsafe_sysctls,
        "containerLogMaxSize": format!("{}Mi", max_bytes >> 20),
        "containerLogMaxFiles": max_files,
        "podLogsDir": ctx.log_dir,
        "cgroupDriver": "cgroupfs",
    }}))
}

/// What claims' volumes hold, once for each pod that has them.
async fn add_volumes(server: &Arc<Inner>, families: &mut Families) {
    let pods = server.manager.pods();
    let disks = server.disks.of(&server.ctx, &pods).await;
    for pod in &pods {
        let found = disks.get(meta::uid(&pod.metadata));
        for (volume, usage) in found.iter().flat_map(|found| &found.volumes) {
            let Some(claim) = &volume.claim else { continue };
            let namespace = meta::namespace(&pod.metadata);
            let labels = exposition::labels(&[("namespace", namespace), ("persistentvolumeclaim", claim)]);
            for (name, help, value) in [
                ("capacity_bytes", "Size of the volume in bytes", usage.capacity),
                ("available_bytes", "Bytes of the volume that are free for use", usage.available),
                ("used_bytes", "Bytes of the volume that are used", usage.used),
                ("inodes", "How many inodes the volume can have", usage.inodes),
                ("inodes_free", "Inodes of the volume that are free", usage.inodes_free),
                ("inodes_used", "Inodes of the volume that are used", usage.inodes_used),
            ] {
                if let Some(value) = value {
                    let family =
                        families.family(format!("kubelet_volume_stats_{name}"), "gauge", format!("[ALPHA] {help}"));
                    family.now(&labels, value);
                }
            }
        }
    }
}

pub async fn metrics(server: &Arc<Inner>) -> Result<Response<Body>, Refusal> {
    let containers = server.ctx.runtime.list_containers(ListContainersRequest::default()).await?.containers;
    let sandboxes = server.ctx.runtime.list_pod_sandbox(ListPodSandboxRequest::default()).await?.items;
    let mut families = Families::default();
    let name = exposition::labels(&[("node", &server.ctx.node_name)]);
    families.gauge("kubelet_node_name", "[ALPHA] The node's name. The count is always 1.").now(&name, 1);
    let ready = sandboxes.iter().filter(|sandbox| is_ready(sandbox)).count();
    let help = "[ALPHA] Number of pods that have a running pod sandbox";
    families.gauge("kubelet_running_pods", help).now("", ready);
    for (state, name) in [
        (ContainerState::ContainerCreated, "created"),
        (ContainerState::ContainerRunning, "running"),
        (ContainerState::ContainerExited, "exited"),
        (ContainerState::ContainerUnknown, "unknown"),
    ] {
        let count = containers.iter().filter(|container| container.state == state as i32).count();
        let labels = exposition::labels(&[("container_state", name)]);
        families
            .gauge("kubelet_running_containers", "[ALPHA] Number of containers currently running")
            .now(&labels, count);
    }
    add_volumes(server, &mut families).await;
    Ok(text(StatusCode::OK, families.page()))
}
