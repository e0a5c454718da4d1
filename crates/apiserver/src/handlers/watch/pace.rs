//! How often a watch sends. What comes one by one is sent at once; what comes in a flood is gathered for a moment, for
//! a hundred watchers that are each woken for each event take more time than all else that the server does.

use std::time::Duration;

use tokio::time::Instant;

/// Longer than it takes to make some events, and not long to who waits for one.
const EVERY: Duration = Duration::from_millis(4);
/// So many pieces go at once before any has to wait.
const AT_ONCE: u32 = 16;

/// A right to send comes back every [`EVERY`], up to [`AT_ONCE`] of them.
pub(super) struct Pace {
    rights: u32,
    counted: Instant,
}

impl Pace {
    pub fn starting(now: Instant) -> Self {
        Self { rights: AT_ONCE, counted: now }
    }

    /// When the next piece may be sent; `None` where that is now.
    pub fn due(&mut self, now: Instant) -> Option<Instant> {
        let returned = now.duration_since(self.counted).as_millis() / EVERY.as_millis();
        let returned = u32::try_from(returned).unwrap_or(u32::MAX);
        self.rights = self.rights.saturating_add(returned).min(AT_ONCE);
        self.counted = if self.rights == AT_ONCE { now } else { self.counted + EVERY * returned };
        (self.rights == 0).then(|| self.counted + EVERY)
    }

    pub fn sent(&mut self) {
        self.rights = self.rights.saturating_sub(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_few_go_at_once_and_a_flood_is_gathered() {
        let start = Instant::now();
        let mut pace = Pace::starting(start);
        let mut now = start;
        for _ in 0..AT_ONCE {
            assert_eq!(pace.due(now), None);
            pace.sent();
        }
        // The rights are spent: one comes back at a time.
        assert_eq!(pace.due(now), Some(start + EVERY));
        now += EVERY / 2;
        assert_eq!(pace.due(now), Some(start + EVERY));
        now = start + EVERY;
        assert_eq!(pace.due(now), None);
        pace.sent();
        assert_eq!(pace.due(now), Some(start + EVERY * 2));
        // After a pause all are there again, and no more than that.
        now += EVERY * 1_000;
        for _ in 0..AT_ONCE {
            assert_eq!(pace.due(now), None);
            pace.sent();
        }
        assert_eq!(pace.due(now), Some(now + EVERY));
    }

    /// Who sends no faster than rights come back never waits.
    #[test]
    fn a_steady_trickle_never_waits() {
        let start = Instant::now();
        let mut pace = Pace::starting(start);
        for piece in 0..1_000 {
            assert_eq!(pace.due(start + EVERY * piece), None, "{piece}");
            pace.sent();
        }
    }
}
