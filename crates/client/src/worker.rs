//! Takes keys out of a queue and reconciles them, so many at a time. An error or a panic costs that key a retry
//! with backoff and nobody else anything.

use std::{fmt::Display, hash::Hash, panic::AssertUnwindSafe, sync::Arc, time::Duration};

use futures::FutureExt as _;
use tokio::task::JoinSet;

use crate::queue::WorkQueue;

/// What a reconciliation that went well asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Nothing to do until something changes.
    Done,
    /// Look again after this long, whether or not something changed.
    After(Duration),
    /// Not there yet, through nobody's fault: look again after the item's backoff.
    Again,
}

/// Runs until the queue is cancelled and every reconciliation under way has ended.
pub async fn run<T, E, F, Fut>(name: &'static str, queue: WorkQueue<T>, concurrency: usize, reconcile: F)
where
    T: Clone + Eq + Hash + Display + Send + Sync + 'static,
    E: std::error::Error + Send + 'static,
    F: Fn(T) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<Outcome, E>> + Send,
{
    let reconcile = Arc::new(reconcile);
    let mut workers = JoinSet::new();
    for _ in 0..concurrency.max(1) {
        let (queue, reconcile) = (queue.clone(), reconcile.clone());
        workers.spawn(async move {
            while let Some(item) = queue.get().await {
                one(name, &queue, &item, &*reconcile).await;
                queue.done(&item);
            }
        });
    }
    while workers.join_next().await.is_some() {}
}

/// So many failures in a row are not worth a warning: with the backoff that is about a second.
const QUIET_FAILURES: u32 = 8;

async fn one<T, E, F, Fut>(name: &'static str, queue: &WorkQueue<T>, item: &T, reconcile: &F)
where
    T: Clone + Eq + Hash + Display,
    E: std::error::Error + 'static,
    F: Fn(T) -> Fut,
    Fut: Future<Output = Result<Outcome, E>>,
{
    // Reconcilers keep no state between runs but what they hold behind locks, so a panic leaves nothing broken.
    let run = async { reconcile(item.clone()).await };
    match AssertUnwindSafe(run).catch_unwind().await {
        Ok(Ok(Outcome::Done)) => queue.forget(item),
        Ok(Ok(Outcome::After(delay))) => {
            queue.forget(item);
            queue.add_after(item.clone(), delay);
        }
        Ok(Ok(Outcome::Again)) => queue.add_rate_limited(item.clone()),
        Ok(Err(error)) => {
            // A conflict is an everyday race with another writer; only what stays wrong deserves a warning.
            let failures = queue.failures(item);
            if failures < QUIET_FAILURES {
                tracing::debug!(controller = name, %item, error = &error as &dyn std::error::Error, "will be retried");
            } else {
                tracing::warn!(controller = name, %item, failures, error = &error as &dyn std::error::Error, "still failing");
            }
            queue.add_rate_limited(item.clone());
        }
        Err(panic) => {
            let what = crate::supervise::panic_message(&*panic);
            tracing::error!(controller = name, %item, panic = what, "panicked; will be retried");
            queue.add_rate_limited(item.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use tokio_util::sync::CancellationToken;

    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("not yet")]
    struct NotYet;

    #[tokio::test(start_paused = true)]
    async fn a_panic_and_an_error_are_retried_and_others_go_on() {
        let cancel = CancellationToken::new();
        let queue = WorkQueue::new(cancel.clone());
        let (tries, others) = (Arc::new(AtomicU32::new(0)), Arc::new(AtomicU32::new(0)));
        queue.add("bad");
        queue.add("good");
        let worker = {
            let (tries, others, cancel) = (tries.clone(), others.clone(), cancel.clone());
            tokio::spawn(run("test", queue.clone(), 1, move |item: &'static str| {
                let (tries, others, cancel) = (tries.clone(), others.clone(), cancel.clone());
                async move {
                    if item == "good" {
                        others.fetch_add(1, Ordering::Relaxed);
                        return Ok(Outcome::Done);
                    }
                    match tries.fetch_add(1, Ordering::Relaxed) {
                        0 => panic!("boom"),
                        1 => Err(NotYet),
                        _ => {
                            cancel.cancel();
                            Ok(Outcome::Done)
                        }
                    }
                }
            }))
        };
        worker.await.expect("the worker itself does not panic");
        assert_eq!(tries.load(Ordering::Relaxed), 3);
        assert_eq!(others.load(Ordering::Relaxed), 1);
        assert_eq!(queue.failures(&"bad"), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn an_item_comes_back_after_the_time_it_asked_for() {
        let cancel = CancellationToken::new();
        let queue = WorkQueue::new(cancel.clone());
        queue.add("a");
        let start = tokio::time::Instant::now();
        let runs = Arc::new(AtomicU32::new(0));
        run("test", queue, 2, move |_: &'static str| {
            let (runs, cancel) = (runs.clone(), cancel.clone());
            async move {
                if runs.fetch_add(1, Ordering::Relaxed) == 3 {
                    cancel.cancel();
                }
                Ok::<_, NotYet>(Outcome::After(Duration::from_secs(10)))
            }
        })
        .await;
        assert_eq!(start.elapsed().as_secs(), 30);
    }
}
