//! Takes back the condition DisruptionTarget from pods that were to be evicted and were not: whoever set it died, or was
//! refused.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::{api::core::v1::PodCondition, apimachinery::pkg::apis::meta::v1::Time};
use knarr_client::{Informer, ObjectKey, Outcome, WorkQueue, call, errors, lean::Pod, worker};

use super::NAME;
use crate::{Context, Error, common::pods};

const CONDITION: &str = "DisruptionTarget";
/// How long a disruption may take to show.
const PATIENCE: SignedDuration = SignedDuration::from_mins(2);

pub async fn run(context: Context, pods: Informer<Pod>) {
    let queue = WorkQueue::new(context.cancel.clone());
    pods.feed(&queue, |change| since(change.latest()).map(|_| ObjectKey::of(&**change.latest())));
    worker::run(NAME, queue, 1, move |key: ObjectKey| {
        let (context, pods) = (context.clone(), pods.clone());
        async move {
            let Some(pod) = pods.get(&key.namespace, &key.name) else { return Ok(Outcome::Done) };
            let now = context.clock.now();
            let Some(since) = since(&pod) else { return Ok(Outcome::Done) };
            match Duration::try_from(PATIENCE - now.duration_since(since)) {
                Ok(left) if !left.is_zero() => Ok(Outcome::After(left)),
                _ => take_back(&context, &pod, now).await,
            }
        }
    })
    .await;
}

/// Since when the pod has been said to be disrupted, where it has not gone since.
fn since(pod: &Pod) -> Option<Timestamp> {
    let condition = pods::condition(pod, CONDITION).filter(|condition| condition.status == "True")?;
    pods::is_active(pod).then(|| condition.last_transition_time.as_ref().map_or(Timestamp::UNIX_EPOCH, |time| time.0))
}

async fn take_back(context: &Context, pod: &Pod, now: Timestamp) -> Result<Outcome, Error> {
    let mut conditions = pod.status.as_ref().and_then(|status| status.conditions.clone()).unwrap_or_default();
    for condition in conditions.iter_mut().filter(|condition| condition.type_ == CONDITION) {
        *condition = PodCondition {
            type_: CONDITION.to_owned(),
            status: "False".to_owned(),
            last_transition_time: Some(Time(now)),
            ..PodCondition::default()
        };
    }
    let version = &pod.metadata.resource_version;
    let patch = serde_json::json!({"metadata": {"uid": pod.metadata.uid, "resourceVersion": version},
        "status": {"conditions": conditions}});
    let patched = errors::optional(call::merge_subresource(&context.client, pod, "status", patch).await);
    patched.map(|_| Outcome::Done).map_err(Error::api("taking back a pod's condition"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_pods_that_stay() {
        for (change, expected) in [
            (json!({}), true),
            (json!({"metadata": {"deletionTimestamp": "2024-01-01T00:00:01Z"}}), false),
            (json!({"status": {"phase": "Failed"}}), false),
            (json!({"status": {"conditions": [{"type": CONDITION, "status": "False"}]}}), false),
            (json!({"status": {"conditions": null}}), false),
        ] {
            let mut pod = json!({"metadata": {}, "status": {"phase": "Running", "conditions": [
                {"type": CONDITION, "status": "True", "lastTransitionTime": "2024-01-01T00:00:00Z"}]}});
            json_patch::merge(&mut pod, &change);
            assert_eq!(since(&serde_json::from_value(pod).unwrap()).is_some(), expected, "{change}");
        }
    }
}
