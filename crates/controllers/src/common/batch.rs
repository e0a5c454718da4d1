//! Does many things at once, but not before one has gone well: a quota or an admission rule that refuses one pod
//! refuses all, and a thousand refused requests help nobody.

use std::sync::Arc;

use tokio::task::JoinSet;

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
