//! How many seats a level would have used, had it had as many as it liked: what borrowing is decided by.

use std::time::Duration;

/// How much of what was smoothed before a period leaves behind; after half an hour of periods about one percent.
const KEPT: f64 = 0.977;

/// The demand over one period.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Observed {
    pub average: f64,
    pub deviation: f64,
    pub highest: f64,
}

/// Integrates the number of seats that are taken or waited for.
#[derive(Debug, Default)]
pub struct Demand {
    since: Duration,
    last: Duration,
    now: f64,
    area: f64,
    squares: f64,
    highest: f64,
}

impl Demand {
    pub fn set(&mut self, at: Duration, seats: f64) {
        self.advance(at);
        self.now = seats;
        self.highest = self.highest.max(seats);
    }

    /// Ends the period and begins the next.
    pub fn take(&mut self, at: Duration) -> Observed {
        self.advance(at);
        let took = at.saturating_sub(self.since).as_secs_f64();
        let observed = if took > 0.0 {
            let average = self.area / took;
            // Rounding may bring the difference a hair below nothing.
            let variance = (self.squares / took - average * average).max(0.0);
            Observed { average, deviation: variance.sqrt(), highest: self.highest }
        } else {
            Observed { average: self.now, deviation: 0.0, highest: self.highest }
        };
        *self = Self { since: at, last: at, now: self.now, area: 0.0, squares: 0.0, highest: self.now };
        observed
    }

    fn advance(&mut self, at: Duration) {
        let passed = at.saturating_sub(self.last).as_secs_f64();
        self.area += self.now * passed;
        self.squares += self.now * self.now * passed;
        self.last = self.last.max(at);
    }
}

/// What a level is taken to want: it rises at once and falls slowly, so that a pause does not cost it its seats.
pub fn smoothed(before: f64, observed: Observed) -> f64 {
    let envelope = observed.average + observed.deviation;
    envelope.max(KEPT * before + (1.0 - KEPT) * envelope)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_period_has_a_mean_a_deviation_and_a_peak() {
        let at = Duration::from_secs;
        let mut demand = Demand::default();
        demand.set(at(2), 10.0);
        demand.set(at(4), 0.0);
        let first = demand.take(at(8));
        assert_eq!((first.average, first.highest), (2.5, 10.0));
        assert!((first.deviation - (25.0_f64 - 6.25).sqrt()).abs() < 1e-9);
        demand.set(at(8), 3.0);
        demand.take(at(8));
        let steady = demand.take(at(10));
        assert_eq!(steady, Observed { average: 3.0, deviation: 0.0, highest: 3.0 });
        assert_eq!(demand.take(at(10)), steady, "no time has passed, and what is wanted is still wanted");
    }

    #[test]
    fn demand_rises_at_once_and_falls_slowly() {
        let busy = Observed { average: 90.0, deviation: 10.0, highest: 120.0 };
        assert_eq!(smoothed(0.0, busy), 100.0);
        let later = smoothed(100.0, Observed::default());
        assert!((later - 97.7).abs() < 1e-9, "{later}");
    }
}
