//! What a series of answers means: a verdict changes after so many successes or failures in a row.

use std::time::Duration;

use k8s_openapi::api::core::v1::Probe;

use super::{Kind, Outcome};

/// A probe's numbers, with the documented defaults.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Schedule {
    pub initial_delay: Duration,
    pub period: Duration,
    pub timeout: Duration,
    pub success_threshold: u32,
    pub failure_threshold: u32,
}

impl Schedule {
    pub fn of(probe: &Probe) -> Self {
        let number = |value: Option<i32>, default: u32| value.and_then(|v| u32::try_from(v).ok()).unwrap_or(default);
        let seconds = |value, default| Duration::from_secs(u64::from(number(value, default)));
        Self {
            initial_delay: seconds(probe.initial_delay_seconds, 0),
            period: seconds(probe.period_seconds, 10).max(Duration::from_secs(1)),
            timeout: seconds(probe.timeout_seconds, 1).max(Duration::from_secs(1)),
            success_threshold: number(probe.success_threshold, 1).max(1),
            failure_threshold: number(probe.failure_threshold, 3).max(1),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Good,
    Bad,
}

/// Counts answers in a row.
#[derive(Clone, Debug)]
pub struct Judge {
    success_threshold: u32,
    failure_threshold: u32,
    run: u32,
    last: Option<Verdict>,
    verdict: Option<Verdict>,
}

impl Judge {
    pub fn new(kind: Kind, schedule: &Schedule) -> Self {
        // A container counts as alive until its probe says otherwise.
        let verdict = (kind == Kind::Liveness).then_some(Verdict::Good);
        Self {
            success_threshold: schedule.success_threshold,
            failure_threshold: schedule.failure_threshold,
            run: 0,
            last: None,
            verdict,
        }
    }

    /// Takes one answer in; the new verdict where it changed. What could not be asked changes nothing.
    pub fn hear(&mut self, outcome: &Outcome) -> Option<Verdict> {
        let heard = match outcome {
            Outcome::Success | Outcome::Warning(_) => Verdict::Good,
            Outcome::Failure(_) => Verdict::Bad,
            Outcome::Unknown(_) => return None,
        };
        self.run = if self.last == Some(heard) { self.run.saturating_add(1) } else { 1 };
        self.last = Some(heard);
        let needed = if heard == Verdict::Good { self.success_threshold } else { self.failure_threshold };
        if self.run < needed || self.verdict == Some(heard) {
            return None;
        }
        self.verdict = Some(heard);
        Some(heard)
    }
}
