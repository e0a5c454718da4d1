//! The scheduler under supervision.

use knarr_client::{Clock, Informers, supervise};
use tokio_util::sync::CancellationToken;

/// Starts it; it is started again where it crashes, and ends with `stop`.
pub fn start(client: kube::Client, informers: Informers, stop: CancellationToken) {
    tokio::spawn(async move {
        let run = || {
            knarr_scheduler::run(knarr_scheduler::Config {
                client: client.clone(),
                informers: informers.clone(),
                clock: Clock::System,
                cancel: stop.clone(),
                seed: std::hash::Hasher::finish(&std::hash::BuildHasher::build_hasher(
                    &std::collections::hash_map::RandomState::new(),
                )),
            })
        };
        supervise::keep_running(knarr_scheduler::NAME, &stop, run).await;
    });
}
