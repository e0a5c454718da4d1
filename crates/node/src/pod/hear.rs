//! What a worker is told while it waits: by the tasks that do for it what takes long, and by its pod's probes.

use super::{
    image::{Pulled, Wanted},
    track::PostStart,
    wish::Eviction,
    worker::Worker,
};
use crate::probe;

/// What a task of the worker's says when it is through.
pub(super) enum Report {
    /// An image for a container: its own, or that of a volume that it mounts.
    Pulled {
        name: String,
        wanted: Wanted,
        result: Pulled,
    },
    PostStart {
        name: String,
        id: String,
        result: Result<(), String>,
    },
    Stopped {
        name: String,
        id: String,
    },
    /// The pod takes more of the disk than it may.
    Evicted(Eviction),
}

impl Worker {
    pub(super) fn hear(&mut self, report: Report) {
        let now = self.ctx.now();
        match report {
            Report::Pulled { name, wanted, result } => self.pulled(&name, wanted, result, now),
            Report::PostStart { name, id, result } => {
                if !self.tracks.get(&name).is_some_and(|track| track.post_start_running(&id)) {
                    return;
                }
                let after = match result {
                    Ok(()) => PostStart::None,
                    Err(message) => {
                        self.event(&name, true, "FailedPostStartHook", "PostStartHook failed".to_owned());
                        PostStart::Failed { id, message }
                    }
                };
                self.track(&name).post_start = after;
            }
            Report::Evicted(eviction) => self.evict(eviction),
            Report::Stopped { name, id } => {
                self.stopping.remove(&id);
                let track = self.tracks.entry(name).or_default();
                if track.killing.as_deref() == Some(&id) {
                    track.killing = None;
                }
            }
        }
    }

    pub(super) fn hear_probe(&mut self, report: probe::Report) {
        let good = report.verdict == probe::Verdict::Good;
        let health = self.tracks.entry(report.container).or_default().health_mut(&report.container_id);
        match report.kind {
            probe::Kind::Startup => health.startup = Some(good),
            probe::Kind::Liveness => health.liveness = Some(good),
            probe::Kind::Readiness => health.readiness = Some(good),
        }
    }
}
