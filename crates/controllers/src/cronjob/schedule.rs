//! When a CronJob was last due, and when it will be next. Pure.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp, tz::TimeZone};
use k8s_openapi::api::batch::v1::CronJob;
use knarr_api::strategy::batch::schedule::Schedule;

/// More than so many missed starts are told (upstream's limit).
const MANY: usize = 100;

pub struct Timetable {
    pub schedule: Schedule,
    pub zone: TimeZone,
}

/// What the time since the last start amounts to.
#[derive(Debug, PartialEq)]
pub struct Due {
    /// The latest start that has come, where one has.
    pub at: Option<Timestamp>,
    /// More were missed than can be right.
    pub too_many: bool,
}

impl Timetable {
    /// The latest start between the last one that was made (or the CronJob's creation, or the deadline for starting)
    /// and now.
    pub fn due(&self, cron_job: &CronJob, now: Timestamp) -> Due {
        let last = cron_job.status.as_ref().and_then(|status| status.last_schedule_time.as_ref());
        let created = cron_job.metadata.creation_timestamp.as_ref();
        let mut earliest = last.or(created).map_or(now, |time| time.0);
        let deadline = cron_job.spec.starting_deadline_seconds;
        if let Some(seconds) = deadline
            && let Ok(deadline) = now.checked_sub(SignedDuration::from_secs(seconds))
        {
            earliest = earliest.max(deadline);
        }
        let mut due = Due { at: None, too_many: false };
        let mut from = earliest;
        for missed in 0.. {
            let Some(next) = self.schedule.next(from, &self.zone).filter(|next| *next <= now) else { break };
            (due.at, from) = (Some(next), next);
            if missed >= MANY {
                due.too_many = true;
                // Whoever was away for a year does not count its minutes: the latest is looked for from near the end.
                from = from.max(self.shortly_before(from, now));
            }
        }
        due
    }

    /// A time before the latest start, and not by much.
    fn shortly_before(&self, from: Timestamp, now: Timestamp) -> Timestamp {
        let gap = self.schedule.next(from, &self.zone).map_or(SignedDuration::ZERO, |next| next.duration_since(from));
        let mut back = gap;
        while let Ok(start) = now.checked_sub(back) {
            let is_before_one = self.schedule.next(start, &self.zone).is_some_and(|next| next <= now);
            if start <= from || is_before_one || back.is_zero() {
                return start;
            }
            back *= 2;
        }
        from
    }

    /// How long until the next start.
    pub fn until_next(&self, now: Timestamp) -> Option<Duration> {
        let next = self.schedule.next(now, &self.zone)?;
        // A timer may fire a little early; the clock decides.
        Some(Duration::try_from(next.duration_since(now)).unwrap_or_default() + Duration::from_millis(100))
    }
}
