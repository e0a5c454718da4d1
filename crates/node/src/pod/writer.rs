//! Writes a pod's status to the API: always the newest, one write at a time, until the API has it; and again where
//! somebody else has written something different since.

use std::{sync::Arc, time::Duration};

use k8s_openapi::api::core::v1::{Pod, PodStatus};
use kube::api::{Api, Patch, PatchParams};
use serde_json::{Value, json};
use tokio::{sync::watch, task::AbortHandle};
use tracing::Instrument;

use super::{conditions::RESIZE, context::Context};
use knarr_client::{errors, meta};

const RETRY_FIRST: Duration = Duration::from_millis(100);
const RETRY_LAST: Duration = Duration::from_secs(10);

/// One pod's writer. Dropping it ends it, whatever is not written yet.
pub struct Writer {
    uid: String,
    wishes: watch::Sender<Wishes>,
    written: watch::Receiver<u64>,
    task: AbortHandle,
}

#[derive(Clone, Default)]
struct Wishes {
    /// Grows with every status that differs from the one before.
    sequence: u64,
    wanted: Option<Arc<PodStatus>>,
    /// The object as the watch showed it last.
    seen: Option<Arc<Pod>>,
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Writer {
    /// `pod` is the object whose status is written: the pod itself, or the mirror of a static pod.
    pub fn new(ctx: Arc<Context>, pod: &Pod) -> Self {
        let (wishes, hears) = watch::channel(Wishes::default());
        let (done, written) = watch::channel(0);
        let target = Target {
            namespace: pod.metadata.namespace.clone().unwrap_or_default(),
            name: pod.metadata.name.clone().unwrap_or_default(),
            uid: pod.metadata.uid.clone().unwrap_or_default(),
        };
        let known = Known::of(pod);
        let uid = target.uid.clone();
        let task = tokio::spawn(run(ctx, target, known, hears, done).in_current_span());
        Self { uid, wishes, written, task: task.abort_handle() }
    }

    /// Of the object that is written to.
    pub fn uid(&self) -> &str {
        &self.uid
    }

    /// Replaces what is to be written; nothing happens where it is the same as last time and `pod`, the object as the
    /// watch shows it, is too.
    pub fn submit(&self, status: PodStatus, pod: &Arc<Pod>) {
        let version = meta::version(&pod.metadata);
        self.wishes.send_if_modified(|wishes| {
            let is_seen = wishes.seen.as_ref().is_some_and(|seen| meta::version(&seen.metadata) == version);
            let is_wanted = wishes.wanted.as_deref() == Some(&status);
            if !is_seen {
                wishes.seen = Some(pod.clone());
            }
            if !is_wanted {
                wishes.sequence += 1;
                wishes.wanted = Some(Arc::new(status));
            }
            !(is_seen && is_wanted)
        });
    }

    /// Waits until the newest status is written (or the pod is no longer there to be written to).
    pub async fn flushed(&mut self) {
        let wanted = self.wishes.borrow().sequence;
        // An error means that the task is gone, and with it the pod.
        let _ = self.written.wait_for(|written| *written >= wanted).await;
    }
}

struct Target {
    namespace: String,
    name: String,
    uid: String,
}

/// What the API has, as far as is known.
struct Known {
    version: u64,
    status: PodStatus,
}

impl Known {
    fn of(pod: &Pod) -> Self {
        Self { version: meta::version(&pod.metadata), status: pod.status.clone().unwrap_or_default() }
    }

    /// The watch may be behind one's own last write.
    fn learn(&mut self, pod: &Pod) {
        if meta::version(&pod.metadata) > self.version {
            *self = Self::of(pod);
        }
    }
}

async fn run(
    ctx: Arc<Context>,
    target: Target,
    mut known: Known,
    mut wishes: watch::Receiver<Wishes>,
    done: watch::Sender<u64>,
) {
    let api: Api<Pod> = Api::namespaced(ctx.client.clone(), &target.namespace);
    let mut retry = RETRY_FIRST;
    let mut again = false;
    loop {
        if !again && wishes.changed().await.is_err() {
            return;
        }
        let Wishes { sequence, wanted, seen } = wishes.borrow_and_update().clone();
        let Some(wanted) = wanted else { continue };
        seen.iter().for_each(|seen| known.learn(seen));
        let Some(patch) = difference(&target.uid, &known.status, &wanted) else {
            again = false;
            done.send_replace(sequence);
            continue;
        };
        let permit = ctx.writes.acquire().await;
        let step = tracing::debug_span!(target: knarr_cri::POD_START, "status");
        let (params, patch) = (PatchParams::default(), Patch::Strategic(patch));
        let answer = api.patch_status(&target.name, &params, &patch).instrument(step).await;
        drop(permit);
        again = false;
        match answer {
            Ok(pod) => known = Known::of(&pod),
            // Deleted, or replaced by a namesake: nobody is interested any more.
            Err(error) if errors::is_not_found(&error) || errors::is_conflict(&error) => {}
            Err(error) if errors::is_invalid(&error) => {
                tracing::error!(pod = target.name, namespace = target.namespace, error = %errors::message(&error),
                    "the API refuses this status; the next one is tried instead");
            }
            Err(error) => {
                tracing::debug!(pod = target.name, namespace = target.namespace, %error, "status not written; will retry");
                tokio::time::sleep(retry).await;
                retry = (retry * 2).min(RETRY_LAST);
                again = true;
                continue;
            }
        }
        retry = RETRY_FIRST;
        done.send_replace(sequence);
    }
}

/// A strategic merge patch from one status to the other; `None` where there is no difference. Conditions merge
/// by type, so that those of others are left alone; the other lists are replaced.
fn difference(uid: &str, known: &PodStatus, wanted: &PodStatus) -> Option<Value> {
    let value = |status: &PodStatus| serde_json::to_value(status).unwrap_or_default();
    let (known, wanted) = (value(known), value(wanted));
    let (known, wanted) = (known.as_object()?, wanted.as_object()?);
    let mut patch = serde_json::Map::new();
    for (field, value) in wanted {
        if known.get(field) == Some(value) {
            continue;
        }
        let mut value = value.clone();
        match (field.as_str(), value.as_array_mut()) {
            ("conditions", Some(list)) => {
                let old = known.get("conditions").and_then(Value::as_array);
                let gone = RESIZE.iter().filter(|kind| has(old, kind) && !has(Some(list), kind));
                let gone: Vec<Value> = gone.map(|kind| json!({"$patch": "delete", "type": kind})).collect();
                list.retain(|condition| !old.is_some_and(|old| old.contains(condition)));
                list.iter_mut().for_each(|condition| take_back(condition, old));
                list.extend(gone);
                if list.is_empty() {
                    continue;
                }
            }
            // These merge by address, and an address that went away has to go.
            ("podIPs" | "hostIPs", Some(list)) if known.contains_key(field) => list.push(json!({"$patch": "replace"})),
            _ => {}
        }
        patch.insert(field.clone(), value);
    }
    // Of the fields a node writes these are the ones that may go away again.
    for field in ["reason", "message", "ephemeralContainerStatuses"] {
        if known.contains_key(field) && !wanted.contains_key(field) {
            patch.insert(field.to_owned(), Value::Null);
        }
    }
    (!patch.is_empty()).then(|| json!({"metadata": {"uid": uid}, "status": patch}))
}

fn has(conditions: Option<&Vec<Value>>, kind: &str) -> bool {
    conditions.into_iter().flatten().any(|condition| condition["type"] == kind)
}

/// What a condition said before and says no more, such as why it did not hold, has to be taken back by name: a merge
/// keeps what it is not told of.
fn take_back(condition: &mut Value, old: Option<&Vec<Value>>) {
    let before = old.into_iter().flatten().find(|before| before["type"] == condition["type"]);
    let (Some(before), Some(fields)) = (before.and_then(Value::as_object), condition.as_object_mut()) else { return };
    for field in before.keys() {
        fields.entry(field).or_insert(Value::Null);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(value: Value) -> PodStatus {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn only_differences_are_sent() {
        for (known, wanted, expected) in [
            (json!({"phase": "Running"}), json!({"phase": "Running"}), Value::Null),
            (
                json!({"phase": "Pending", "podIP": "1"}),
                json!({"phase": "Running", "podIP": "1"}),
                json!({"phase": "Running"}),
            ),
            (
                json!({"conditions": [{"type": "A", "status": "True"}, {"type": "Ready", "status": "False"}]}),
                json!({"conditions": [{"type": "A", "status": "True"}, {"type": "Ready", "status": "True"}]}),
                json!({"conditions": [{"type": "Ready", "status": "True"}]}),
            ),
            (
                json!({"conditions": [{"type": "mine", "status": "True"}, {"type": "Ready", "status": "True"}]}),
                json!({"conditions": [{"type": "Ready", "status": "True"}]}),
                Value::Null,
            ),
            (
                json!({"conditions": [{"type": "Ready", "status": "False", "reason": "R", "message": "why not"}]}),
                json!({"conditions": [{"type": "Ready", "status": "True"}]}),
                json!({"conditions": [{"type": "Ready", "status": "True", "reason": null, "message": null}]}),
            ),
            (
                json!({"conditions": [{"type": "mine", "status": "True"}, {"type": "PodResizePending", "status": "True"}]}),
                json!({"conditions": [{"type": "PodResizeInProgress", "status": "True"}]}),
                json!({"conditions": [{"type": "PodResizeInProgress", "status": "True"}, {"$patch": "delete", "type": "PodResizePending"}]}),
            ),
            (json!({"reason": "Evicted"}), json!({}), json!({"reason": null})),
            (
                json!({"podIPs": [{"ip": "a"}]}),
                json!({"podIPs": [{"ip": "b"}]}),
                json!({"podIPs": [{"ip": "b"}, {"$patch": "replace"}]}),
            ),
        ] {
            let patch = difference("u", &status(known), &status(wanted));
            let expected = (!expected.is_null()).then(|| json!({"metadata": {"uid": "u"}, "status": expected}));
            assert_eq!(patch, expected);
        }
    }
}
