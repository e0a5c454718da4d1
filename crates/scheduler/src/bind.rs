//! What is written: bindings, and why a pod has no node.

use std::sync::Arc;

use http::Request;
use jiff::Timestamp;
use k8s_openapi::{api::core::v1::PodCondition, apimachinery::pkg::apis::meta::v1::Time};
use knarr_client::{call, lean::Pod};
use serde_json::json;

use crate::pod::PodInfo;

const POD_SCHEDULED: &str = "PodScheduled";

/// Binds exactly this pod (its uid goes along) to the node.
pub async fn bind(client: &kube::Client, pod: &PodInfo, node_name: &str) -> Result<(), kube::Error> {
    let body = json!({
        "apiVersion": "v1",
        "kind": "Binding",
        "metadata": {"namespace": pod.namespace, "name": pod.name, "uid": &*pod.uid},
        "target": {"apiVersion": "v1", "kind": "Node", "name": node_name},
    });
    let path = format!("/api/v1/namespaces/{}/pods/{}/binding", pod.namespace, pod.name);
    let request =
        Request::post(path).header(http::header::CONTENT_TYPE, "application/json").body(body.to_string().into_bytes());
    client.request_text(request.map_err(kube::Error::HttpError)?).await.map(drop)
}

/// What becomes of `status.nominatedNodeName`.
pub enum Promise<'a> {
    Of(&'a str),
    Stands,
    Void,
}

/// Writes the condition and, where room is being made on a node, its name; nothing where all says so already. Answers
/// with the pod as it is then.
pub async fn explain(
    client: &kube::Client,
    pod: &Arc<Pod>,
    message: &str,
    promise: Promise<'_>,
    now: Timestamp,
) -> Result<Arc<Pod>, kube::Error> {
    let status = pod.status.as_ref();
    let mut conditions = status.iter().flat_map(|status| status.conditions.iter().flatten());
    let known = conditions.find(|condition| condition.type_ == POD_SCHEDULED && condition.status == "False");
    let new = PodCondition {
        type_: POD_SCHEDULED.to_owned(),
        status: "False".to_owned(),
        reason: Some("Unschedulable".to_owned()),
        message: Some(message.to_owned()),
        last_transition_time: known.and_then(|known| known.last_transition_time.clone()).or(Some(Time(now))),
        observed_generation: pod.metadata.generation,
        last_probe_time: None,
    };
    let is_same = known.is_some_and(|known| (&known.reason, &known.message) == (&new.reason, &new.message));
    let promised = status.and_then(|status| status.nominated_node_name.as_deref());
    let nominated = match promise {
        Promise::Of(node) => Some(node),
        Promise::Stands => promised,
        Promise::Void => None,
    };
    if is_same && promised == nominated {
        return Ok(pod.clone());
    }
    let mut patch = json!({"metadata": {"uid": pod.metadata.uid}, "status": {"conditions": [new]}});
    if promised != nominated {
        patch["status"]["nominatedNodeName"] = nominated.into();
    }
    call::strategic_status(client, &**pod, patch).await.map(Arc::new)
}

/// Says of a pod that it goes to make room, so that its controller does not take that for a failure of its own.
pub async fn mark_preempted(client: &kube::Client, pod: &Pod, now: Timestamp) -> Result<(), kube::Error> {
    let condition = PodCondition {
        type_: "DisruptionTarget".to_owned(),
        status: "True".to_owned(),
        reason: Some("PreemptionByScheduler".to_owned()),
        message: Some("default-scheduler: preempting to accommodate a higher priority pod".to_owned()),
        last_transition_time: Some(Time(now)),
        observed_generation: pod.metadata.generation,
        last_probe_time: None,
    };
    let patch = json!({"metadata": {"uid": pod.metadata.uid}, "status": {"conditions": [condition]}});
    call::strategic_status(client, pod, patch).await.map(drop)
}
