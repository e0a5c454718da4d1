//! Keeps a long-running task alive: a panic or an early end is a log line and a restart with backoff.

use std::{any::Any, panic::AssertUnwindSafe, time::Duration};

use futures::FutureExt as _;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LAST_PAUSE: Duration = Duration::from_secs(30);
/// A task that ran this long before it failed starts with a short pause again.
const HEALTHY_AFTER: Duration = Duration::from_secs(60);

/// Runs what `make` makes until `cancel` is cancelled, and makes it anew whenever it panics or ends.
pub async fn keep_running<F, Fut>(name: &str, cancel: &CancellationToken, mut make: F)
where
    F: FnMut() -> Fut,
    Fut: Future<Output = ()>,
{
    let mut pause = FIRST_PAUSE;
    while !cancel.is_cancelled() {
        let started = Instant::now();
        let ended = AssertUnwindSafe(async { make().await }).catch_unwind().await;
        if cancel.is_cancelled() {
            return;
        }
        if started.elapsed() >= HEALTHY_AFTER {
            pause = FIRST_PAUSE;
        }
        match ended {
            Ok(()) => tracing::error!(component = name, ?pause, "ended unexpectedly; starting it again"),
            Err(panic) => {
                let what = panic_message(&*panic);
                tracing::error!(component = name, panic = what, ?pause, "panicked; starting it again");
            }
        }
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = cancel.cancelled() => {}
        }
        pause = (pause * 2).min(LAST_PAUSE);
    }
}

/// What a panic said.
pub fn panic_message(panic: &(dyn Any + Send)) -> &str {
    panic.downcast_ref::<&str>().copied().or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("?")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn starts_again_with_growing_pauses() {
        let cancel = CancellationToken::new();
        let start = Instant::now();
        let mut starts = Vec::new();
        keep_running("test", &cancel, || {
            starts.push(start.elapsed().as_millis());
            if starts.len() == 5 {
                cancel.cancel();
            }
            let panics = starts.len() % 2 == 1;
            async move { assert!(!panics, "boom") }
        })
        .await;
        assert_eq!(starts, [0, 100, 300, 700, 1500]);
    }
}
