//! Questions about pods, as upstream's `podutil` and `controller_utils` answer them.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::{
    api::core::v1::{self, PodCondition, PodTemplateSpec},
    apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference},
};
use knarr_client::lean::Pod;

pub fn phase(pod: &Pod) -> &str {
    pod.status.as_ref().and_then(|status| status.phase.as_deref()).unwrap_or("Pending")
}

/// The pod has ended for good.
pub fn is_terminal(pod: &Pod) -> bool {
    matches!(phase(pod), "Succeeded" | "Failed")
}

pub fn is_terminating(pod: &Pod) -> bool {
    pod.metadata.deletion_timestamp.is_some()
}

pub fn is_active(pod: &Pod) -> bool {
    !is_terminal(pod) && !is_terminating(pod)
}

pub fn node_name(pod: &Pod) -> &str {
    pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref()).unwrap_or_default()
}

pub fn condition<'a>(pod: &'a Pod, kind: &str) -> Option<&'a PodCondition> {
    pod.status.as_ref()?.conditions.iter().flatten().find(|condition| condition.type_ == kind)
}

pub fn is_ready(pod: &Pod) -> bool {
    condition(pod, "Ready").is_some_and(|ready| ready.status == "True")
}

/// Since when the pod has been ready without a break.
pub fn ready_since(pod: &Pod) -> Option<Timestamp> {
    let ready = condition(pod, "Ready").filter(|ready| ready.status == "True")?;
    ready.last_transition_time.as_ref().map(|time| time.0)
}

/// Ready for at least `min_ready_seconds`.
pub fn is_available(pod: &Pod, min_ready_seconds: i32, now: Timestamp) -> bool {
    is_ready(pod)
        && (min_ready_seconds == 0
            || ready_since(pod).is_some_and(|since| {
                now.duration_since(since) >= SignedDuration::from_secs(i64::from(min_ready_seconds))
            }))
}

/// How long until a pod that has been ready `since` will have been so for long enough.
pub fn available_in(since: Timestamp, min_ready_seconds: i32, now: Timestamp) -> Duration {
    let left = SignedDuration::from_secs(i64::from(min_ready_seconds)) - now.duration_since(since);
    // Times are written in whole seconds.
    Duration::try_from(left).unwrap_or_default() + Duration::from_millis(50)
}

/// A new pod as a template says, owned by its controller. The server makes up the end of its name.
pub fn from_template(template: &PodTemplateSpec, name_prefix: &str, namespace: &str, owner: OwnerReference) -> v1::Pod {
    let meta = template.metadata.clone().unwrap_or_default();
    v1::Pod {
        metadata: ObjectMeta {
            generate_name: Some(format!("{name_prefix}-")),
            namespace: Some(namespace.to_owned()),
            labels: meta.labels,
            annotations: meta.annotations,
            finalizers: meta.finalizers,
            owner_references: Some(vec![owner]),
            ..Default::default()
        },
        spec: template.spec.clone(),
        status: None,
    }
}

/// A pod that was made, as it comes back from the server.
#[cfg(test)]
pub fn seen(made: &v1::Pod) -> Pod {
    serde_json::from_value(serde_json::to_value(made).unwrap()).unwrap()
}
