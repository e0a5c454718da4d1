//! What a worker remembers of each container between two looks at the runtime. All of it can be lost: a
//! restarted agent starts empty and only waits less than it might have.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};

use super::backoff::Backoff;

/// One container's memory.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Track {
    pub image: ImageState,
    /// What the images are that it mounts, by volume, as far as they are known for the next start.
    pub image_volumes: BTreeMap<String, String>,
    /// Between an exit and the next start, of the image and the resources that it was counted for.
    pub(super) crash: (u64, Backoff),
    /// Between two attempts to pull.
    pub pull: Backoff,
    /// The last attempt to create or start it, where that failed.
    pub failure: Option<Failure>,
    /// The run that is being stopped.
    pub killing: Option<String>,
    pub post_start: PostStart,
    pub health: Health,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub enum ImageState {
    /// Must be looked at before the next start.
    #[default]
    Unknown,
    Pulling,
    Present {
        reference: String,
    },
    Failed {
        /// The container's own, or one that it mounts.
        image: String,
        failure: Failure,
    },
}

/// Why a container does not start, as its `waiting` state says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    pub reason: &'static str,
    pub message: String,
    pub at: Timestamp,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum PostStart {
    #[default]
    None,
    /// The hook of this run has not answered yet.
    Running { id: String },
    /// The hook of this run failed, so the run is to be stopped.
    Failed { id: String, message: String },
}

/// What the probes of one run have said so far; `None` is no verdict yet.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Health {
    pub container_id: String,
    pub startup: Option<bool>,
    pub liveness: Option<bool>,
    pub readiness: Option<bool>,
}

impl Track {
    /// How long a restart still waits, and the whole wait; nothing where the container is another by now.
    pub fn crash_wait(
        &self,
        chance: u64,
        since: Timestamp,
        now: Timestamp,
    ) -> Option<(SignedDuration, SignedDuration)> {
        let (counted, backoff) = &self.crash;
        backoff.remaining(since, now).filter(|_| *counted == chance)
    }

    /// Called at a restart after an exit at `since`.
    pub fn crashed(&mut self, chance: u64, since: Timestamp, now: Timestamp) {
        if self.crash.0 != chance {
            self.crash = (chance, Backoff::default());
        }
        self.crash.1.advance(since, now);
    }

    /// What probes said about this very run.
    pub fn health_of(&self, id: &str) -> Option<&Health> {
        (self.health.container_id == id).then_some(&self.health)
    }

    /// The same, to be written to; what was known of an earlier run is dropped.
    pub fn health_mut(&mut self, id: &str) -> &mut Health {
        if self.health.container_id != id {
            self.health = Health { container_id: id.to_owned(), ..Health::default() };
        }
        &mut self.health
    }

    pub fn post_start_running(&self, id: &str) -> bool {
        matches!(&self.post_start, PostStart::Running { id: running } if running == id)
    }
}
