//! Does many things at once, but not before one has gone well: a quota or an admission rule that refuses one pod
//! refuses all, and a thousand refused requests help nobody.

use std::sync::Arc;

use k8s_openapi::api::core::v1::Pod;
use knarr_client::{
    call::{self, Kind},
    errors, meta,
};
use kube::api::DeleteParams;
use tokio::task::JoinSet;

use crate::Context;

/// Makes pods for an owner, with its events. Answers how many there are now that were not before, and the first error;
/// that nothing can be made any more in a namespace that goes is none.
pub async fn create_pods<O>(context: &Context, owner: &Arc<O>, pods: Vec<Arc<Pod>>) -> (usize, Option<kube::Error>)
where
    O: Kind + Send + Sync + 'static,
{
    let (context, owner, count) = (context.clone(), owner.clone(), pods.len());
    let (created, error) = slow_start(count, move |at| {
        let (context, owner, pod) = (context.clone(), owner.clone(), pods[at].clone());
        async move { create_pod(&context, &*owner, &pod).await }
    })
    .await;
    (created, error.filter(|error| !errors::is_namespace_terminating(error)))
}

async fn create_pod<O: Kind>(context: &Context, owner: &O, pod: &Pod) -> Result<(), kube::Error> {
    match call::create(&context.client, pod).await {
        Ok(created) => {
            let message = format!("Created pod: {}", meta::name(&created.metadata));
            context.recorder.normal(owner, "SuccessfulCreate", message);
            Ok(())
        }
        Err(error) => {
            if !errors::is_namespace_terminating(&error) {
                let message = format!("Error creating: {}", errors::message(&error));
                context.recorder.warning(owner, "FailedCreate", message);
            }
            Err(error)
        }
    }
}

/// Deletes pods of an owner, with its events; `unseen` hears of those whose deletion no watch will tell.
pub async fn delete_pods<O: Kind>(
    context: &Context,
    owner: &O,
    pods: &[Arc<Pod>],
    unseen: impl Fn(&Pod),
) -> Result<(), kube::Error> {
    let unseen = &unseen;
    let deletions = pods.iter().map(|pod| async move {
        let deleted = call::delete(&context.client, &**pod, DeleteParams::default()).await;
        let name = meta::name(&pod.metadata);
        match &deleted {
            Ok(true) => context.recorder.normal(owner, "SuccessfulDelete", format!("Deleted pod: {name}")),
            Ok(false) => unseen(pod),
            Err(error) => {
                unseen(pod);
                let message = format!("Error deleting: {}", errors::message(error));
                context.recorder.warning(owner, "FailedDelete", message);
            }
        }
        deleted.map(drop)
    });
    futures::future::join_all(deletions).await.into_iter().collect()
}

/// Runs `count` times `work`: one, then two, four, ... at once; stops after a batch with an error. Answers how many
/// went well and the first error. (Upstream: slowStartBatch.)
pub async fn slow_start<F, Fut, E>(count: usize, work: F) -> (usize, Option<E>)
where
    F: Fn(usize) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<(), E>> + Send + 'static,
    E: Send + 'static,
{
    let work = Arc::new(work);
    let (mut done, mut size) = (0, 1);
    let mut started = 0;
    while started < count {
        let batch = size.min(count - started);
        let mut tasks = JoinSet::new();
        for index in started..started + batch {
            tasks.spawn(work(index));
        }
        started += batch;
        size *= 2;
        let mut failure = None;
        while let Some(result) = tasks.join_next().await {
            match result {
                Ok(Ok(())) => done += 1,
                Ok(Err(error)) => failure = failure.or(Some(error)),
                Err(panic) => std::panic::resume_unwind(panic.into_panic()),
            }
        }
        if failure.is_some() {
            return (done, failure);
        }
    }
    (done, None)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[tokio::test]
    async fn stops_after_the_batch_that_fails() {
        for (count, fails_at, expected_started, expected_done) in
            [(0, 99, 0, 0), (1, 99, 1, 1), (10, 99, 10, 10), (10, 0, 1, 0), (100, 5, 7, 6), (8, 7, 8, 7)]
        {
            let started = Arc::new(AtomicUsize::new(0));
            let counter = started.clone();
            let (done, error) = slow_start(count, move |index| {
                counter.fetch_add(1, Ordering::Relaxed);
                async move { if index == fails_at { Err(index) } else { Ok(()) } }
            })
            .await;
            assert_eq!(
                (started.load(Ordering::Relaxed), done, error),
                (expected_started, expected_done, (fails_at < count).then_some(fails_at)),
                "{count} with a failure at {fails_at}"
            );
        }
    }
}
