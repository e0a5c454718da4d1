//! Deletes Jobs that ended `ttlSecondsAfterFinished` ago, and their pods with them.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::batch::v1::Job;
use knarr_client::{ObjectKey, Outcome, WorkQueue, call, worker};
use kube::api::DeleteParams;

use crate::{Context, Error};

pub const NAME: &str = "ttl-after-finished-controller";

pub async fn run(context: Context) {
    let queue = WorkQueue::new(context.cancel.clone());
    let jobs = context.informers.of::<Job>();
    if !jobs.synced().await {
        return;
    }
    jobs.feed(&queue, |change| {
        let job = change.new.as_ref()?;
        due(job).map(|_| ObjectKey::of(&**job))
    });
    worker::run(NAME, queue, 2, move |key| {
        let (context, jobs) = (context.clone(), jobs.clone());
        async move {
            let Some(job) = jobs.get(&key.namespace, &key.name) else { return Ok(Outcome::Done) };
            let Some(due) = due(&job) else { return Ok(Outcome::Done) };
            match Duration::try_from(due.duration_since(context.clock.now())) {
                Ok(left) if !left.is_zero() => Ok(Outcome::After(left)),
                _ => {
                    let deleted = call::delete(&context.client, &*job, DeleteParams::foreground()).await;
                    deleted.map(|_| Outcome::Done).map_err(Error::api("deleting a Job that ended long ago"))
                }
            }
        }
    })
    .await;
}

/// When the Job is to go; `None` where it has not ended, or stays.
fn due(job: &Job) -> Option<Timestamp> {
    let seconds = job.spec.as_ref()?.ttl_seconds_after_finished?;
    if job.metadata.deletion_timestamp.is_some() {
        return None;
    }
    let conditions = job.status.as_ref()?.conditions.as_ref()?;
    let ended = conditions.iter().find(|c| matches!(c.type_.as_str(), "Complete" | "Failed") && c.status == "True")?;
    let at = ended.last_transition_time.as_ref()?.0;
    Some(at.saturating_add(SignedDuration::from_secs(i64::from(seconds))).unwrap_or(Timestamp::MAX))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn only_jobs_that_ended_and_say_how_long() {
        let ended = json!([{"type": "Failed", "status": "True", "lastTransitionTime": "2024-01-01T00:00:00Z"}]);
        for (ttl, conditions, expected) in [
            (json!(60), ended.clone(), Some("2024-01-01T00:01:00Z")),
            (json!(0), ended.clone(), Some("2024-01-01T00:00:00Z")),
            (Value::Null, ended, None),
            (json!(60), json!([{"type": "Suspended", "status": "True"}]), None),
            (json!(60), Value::Null, None),
        ] {
            let job = json!({"metadata": {}, "spec": {"ttlSecondsAfterFinished": ttl, "template": {}}, "status": {"conditions": conditions}});
            let job: Job = serde_json::from_value(job).unwrap();
            assert_eq!(due(&job).map(|at| at.to_string()).as_deref(), expected);
        }
    }
}
