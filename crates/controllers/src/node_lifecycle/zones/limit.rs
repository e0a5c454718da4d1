use std::time::Duration;

use tokio::time::Instant;

/// One token, and when the next one is there. Upstream's token bucket with a burst of one.
#[derive(Debug)]
pub(super) struct Limit {
    /// Between two tokens; `None` where there are none.
    every: Option<Duration>,
    next: Instant,
}

/// Why no token was to be had.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refused {
    Until(Instant),
    /// Until the rate changes.
    ForNow,
}

impl Limit {
    /// The first token is there at once: a single node that is lost waits for nobody.
    pub(super) fn new(every: Duration, now: Instant) -> Self {
        Self { every: Some(every), next: now }
    }

    /// Another rate. Where a token was being waited for, the wait begins anew at that rate: otherwise every change of
    /// it would let another node through at once. Where nobody waited, as while the first nodes of a cluster start, the
    /// next that is lost goes at once.
    pub(super) fn set(&mut self, every: Option<Duration>, is_waited_for: bool, now: Instant) {
        if self.every == every {
            return;
        }
        let is_empty = now < self.next || (self.every.is_none() && is_waited_for);
        if let Some(every) = every {
            self.next = if is_empty { now + every } else { now };
        }
        self.every = every;
    }

    pub(super) fn take(&mut self, now: Instant) -> Result<(), Refused> {
        let every = self.every.ok_or(Refused::ForNow)?;
        if now < self.next {
            return Err(Refused::Until(self.next));
        }
        self.next = now + every;
        Ok(())
    }
}
