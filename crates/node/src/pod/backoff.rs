//! Exponential back-off in the kubelet's terms: an event (a container's exit, a failed pull) is followed by
//! a wait that doubles with each event and is forgotten after a quiet time.

use jiff::{SignedDuration, Timestamp};

pub const INITIAL: SignedDuration = SignedDuration::from_secs(10);
pub const MAXIMUM: SignedDuration = SignedDuration::from_secs(300);

/// One container's wait. A fresh value waits for nothing: the first restart is immediate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Backoff {
    entry: Option<Entry>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Entry {
    delay: SignedDuration,
    updated: Timestamp,
}

impl Backoff {
    /// How long is still to wait at `now` after an event at `since`, and the whole wait it is part of.
    pub fn remaining(&self, since: Timestamp, now: Timestamp) -> Option<(SignedDuration, SignedDuration)> {
        let entry = self.entry?;
        if now.duration_since(entry.updated) > MAXIMUM * 2 {
            return None;
        }
        let left = entry.delay - now.duration_since(since);
        left.is_positive().then_some((left, entry.delay))
    }

    /// Called when what had to wait is tried again: the next wait is twice as long, or the first one where
    /// the event at `since` came after a quiet time.
    pub fn advance(&mut self, since: Timestamp, now: Timestamp) {
        let delay = match self.entry {
            Some(entry) if since.duration_since(entry.updated) <= MAXIMUM * 2 => (entry.delay * 2).min(MAXIMUM),
            _ => INITIAL,
        };
        self.entry = Some(Entry { delay, updated: now });
    }
}

/// A wait as Go prints it (`10s`, `1m20s`, `5m0s`), since it is part of messages that people search for.
pub fn go_duration(duration: SignedDuration) -> String {
    let seconds = duration.as_secs();
    let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    match (hours, minutes) {
        (0, 0) => format!("{seconds}s"),
        (0, _) => format!("{minutes}m{seconds}s"),
        _ => format!("{hours}h{minutes}m{seconds}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_000_000 + second).unwrap()
    }

    #[test]
    fn waits_double_up_to_five_minutes() {
        let mut backoff = Backoff::default();
        let mut exit = 0;
        let mut waits = Vec::new();
        for _ in 0..8 {
            let wait = backoff.remaining(at(exit), at(exit)).map_or(0, |(left, _)| left.as_secs());
            waits.push(wait);
            let restart = exit + wait;
            backoff.advance(at(exit), at(restart));
            exit = restart + 1;
        }
        assert_eq!(waits, [0, 10, 20, 40, 80, 160, 300, 300]);
    }

    #[test]
    fn a_long_run_is_forgiven() {
        let mut backoff = Backoff::default();
        backoff.advance(at(0), at(0));
        backoff.advance(at(1), at(11));
        assert_eq!(backoff.remaining(at(12), at(12)).unwrap().0.as_secs(), 20);
        assert_eq!(backoff.remaining(at(700), at(700)), None);
        backoff.advance(at(700), at(700));
        assert_eq!(backoff.remaining(at(701), at(701)).unwrap().0.as_secs(), 10);
    }

    #[test]
    fn durations_read_as_in_go() {
        for (seconds, text) in [(10, "10s"), (80, "1m20s"), (300, "5m0s"), (3600, "1h0m0s")] {
            assert_eq!(go_duration(SignedDuration::from_secs(seconds)), text);
        }
    }
}
