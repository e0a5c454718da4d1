//! Wall-clock time, handed in so that a whole cluster can run under paused time.

use jiff::Timestamp;
use tokio::time::Instant;

/// Where "now" comes from. Waiting is always `tokio::time`'s; this is for what is written into objects.
#[derive(Clone, Copy, Debug)]
pub enum Clock {
    /// The host's clock.
    System,
    /// `start` plus what tokio's (perhaps paused) time has advanced since `origin`.
    Virtual { start: Timestamp, origin: Instant },
}

impl Clock {
    /// A clock that reads `start` now and moves with tokio's time.
    pub fn starting_at(start: Timestamp) -> Self {
        Clock::Virtual { start, origin: Instant::now() }
    }

    pub fn now(&self) -> Timestamp {
        match self {
            Clock::System => Timestamp::now(),
            Clock::Virtual { start, origin } => {
                let elapsed = jiff::SignedDuration::try_from(origin.elapsed()).unwrap_or(jiff::SignedDuration::MAX);
                start.checked_add(elapsed).unwrap_or(Timestamp::MAX)
            }
        }
    }
}
