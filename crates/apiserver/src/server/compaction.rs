//! Lets the store forget what nobody can ask for any more.
//!
//! History serves lists of the past, pages of a long list and watches that resume: five minutes of it, as upstream
//! keeps, and less where so much is written that the time alone would fill the disk.

use std::{sync::Arc, time::Duration};

use knarr_store::{Revision, Store};
use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;
use tracing::warn;

const KEPT: Duration = Duration::from_secs(300);
const KEPT_REVISIONS: u64 = 50_000;
const EVERY: Duration = Duration::from_secs(30);
/// Fewer than this are not worth the work at once; they wait for so long.
const WORTHWHILE: u64 = 500;
const PATIENCE: Duration = Duration::from_secs(60);

/// Compacts until the server stops.
pub async fn run(store: Arc<dyn Store>, shutdown: CancellationToken) {
    let mut seen: std::collections::VecDeque<(Instant, u64)> = std::collections::VecDeque::new();
    let (mut compacted, mut compacted_at) = (0, Instant::now());
    let mut tick = tokio::time::interval(EVERY);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = tick.tick() => {}
            () = shutdown.cancelled() => return,
        }
        let Ok(newest) = store.revision().await else { continue };
        let now = Instant::now();
        seen.push_back((now, newest.0));
        let old = seen.iter().rposition(|(at, _)| now.duration_since(*at) >= KEPT);
        let by_age = old.map_or(0, |at| {
            seen.drain(..at);
            seen[0].1
        });
        let until = by_age.max(newest.0.saturating_sub(KEPT_REVISIONS));
        let waited = now.duration_since(compacted_at) >= PATIENCE;
        if until < compacted + if waited { 1 } else { WORTHWHILE } {
            continue;
        }
        match store.compact(Revision(until)).await {
            Ok(()) => (compacted, compacted_at) = (until, now),
            Err(cause) => warn!(%cause, until, "compacting the store failed; the next round tries again"),
        }
    }
}
