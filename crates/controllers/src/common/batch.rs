//! Does many things at once, but not before one has gone well: a quota or an admission rule that refuses one pod
//! refuses all, and a thousand refused requests help nobody.

use std::sync::Arc;

use k8s_openapi::api::core::v1;
use knarr_client::{
    call::{self, Creation, Kind},
    errors,
    lean::Pod,
    meta,
};
use kube::api::DeleteParams;
use tokio::task::JoinSet;

use crate::Context;

/// Makes pods for an owner, with its events. Answers how many there are now that were not before, and the first error;
/// that nothing can be made any more in a namespace that goes is none.
pub async fn create_pods<O>(context: &Context, owner: &Arc<O>, pods: Vec<Arc<v1::Pod>>) -> (usize, Option<kube::Error>)
where
    O: Kind + Send + Sync + 'static,
{
    let (context, owner) = (context.clone(), owner.clone());
    let requests = match creations(&pods) {
        Ok(requests) => requests,
        Err(error) => return (0, Some(error)),
    };
    let (created, error) = slow_start(requests.len(), move |at| {
        let (context, owner, request) = (context.clone(), owner.clone(), requests[at].clone());
        async move { create_pod(&context, &*owner, &request).await }
    })
    .await;
    (created, error.filter(|error| !errors::is_namespace_terminating(error)))
}

/// Each pod written down; those of a ReplicaSet are one and the same, and written once.
fn creations(pods: &[Arc<v1::Pod>]) -> Result<Vec<Arc<Creation>>, kube::Error> {
    let mut creations: Vec<Arc<Creation>> = Vec::with_capacity(pods.len());
    for (at, pod) in pods.iter().enumerate() {
        let again = at.checked_sub(1).filter(|&before| Arc::ptr_eq(&pods[before], pod)).map(|at| creations[at].clone());
        creations.push(match again {
            Some(same) => same,
            None => Arc::new(call::creation(&**pod)?),
        });
    }
    Ok(creations)
}

async fn create_pod<O: Kind>(context: &Context, owner: &O, request: &Creation) -> Result<(), kube::Error> {
    match call::create_again(&context.client, request.clone()).await {
        Ok(name) => {
            let message = format!("Created pod: {name}");
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

/// So many more are under way for each that went well: one, then sixteen, then as many as may be at once. Each step costs
/// a wait for the disk.
const GROWTH: usize = 15;
const MAX_AT_ONCE: usize = 256;

/// Runs `count` times `work`, the more at once the more went well, and starts no more after an error. Answers how many
/// went well and the first error. Upstream doubles its batches and waits for the whole of each (slowStartBatch); here
/// whoever is done makes room, so that a large set is not made in steps of the disk.
pub async fn slow_start<F, Fut, E>(count: usize, work: F) -> (usize, Option<E>)
where
    F: Fn(usize) -> Fut,
    Fut: Future<Output = Result<(), E>> + Send + 'static,
    E: Send + 'static,
{
    let (mut started, mut done, mut failure) = (0, 0, None);
    let mut tasks = JoinSet::new();
    loop {
        let room = (1 + GROWTH * done).min(MAX_AT_ONCE);
        while failure.is_none() && started < count && tasks.len() < room {
            tasks.spawn(work(started));
            started += 1;
        }
        match tasks.join_next().await {
            None => return (done, failure),
            Some(Ok(Ok(()))) => done += 1,
            Some(Ok(Err(error))) => failure = failure.or(Some(error)),
            Some(Err(panic)) => std::panic::resume_unwind(panic.into_panic()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[tokio::test]
    async fn no_more_are_started_after_an_error() {
        for (count, fails_at) in [(0, 99), (1, 99), (10, 99), (1000, 9999), (10, 0), (100, 5), (8, 7)] {
            let started = Arc::new(AtomicUsize::new(0));
            let counter = started.clone();
            let (done, error) = slow_start(count, move |index| {
                counter.fetch_add(1, Ordering::Relaxed);
                async move { if index == fails_at { Err(index) } else { Ok(()) } }
            })
            .await;
            let (started, case) = (started.load(Ordering::Relaxed), format!("{count} with a failure at {fails_at}"));
            assert_eq!(error, (fails_at < count).then_some(fails_at), "{case}");
            assert_eq!(done + usize::from(error.is_some()), started, "what was started is counted: {case}");
            match error {
                None => assert_eq!(done, count, "{case}"),
                // As many as went well before the failure was known allow, and no more.
                Some(_) => assert!(started <= fails_at * (GROWTH + 1) + 1, "{started}: {case}"),
            }
        }
    }

    #[test]
    fn the_same_pod_is_written_once() {
        let (one, other) = (Arc::new(v1::Pod::default()), Arc::new(v1::Pod::default()));
        let written = creations(&[one.clone(), one, other.clone(), other.clone()]).unwrap();
        let same: Vec<bool> = written.windows(2).map(|pair| Arc::ptr_eq(&pair[0], &pair[1])).collect();
        assert_eq!(same, [true, false, true]);
    }

    #[tokio::test]
    async fn never_too_many_are_under_way() {
        let (now, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let (inside, peak) = (now.clone(), most.clone());
        let (done, _) = slow_start(2000, move |_| {
            peak.fetch_max(inside.fetch_add(1, Ordering::Relaxed) + 1, Ordering::Relaxed);
            let inside = inside.clone();
            async move {
                tokio::task::yield_now().await;
                inside.fetch_sub(1, Ordering::Relaxed);
                Ok::<_, ()>(())
            }
        })
        .await;
        assert_eq!((done, now.load(Ordering::Relaxed)), (2000, 0));
        assert!(most.load(Ordering::Relaxed) <= MAX_AT_ONCE, "{most:?}");
    }
}
