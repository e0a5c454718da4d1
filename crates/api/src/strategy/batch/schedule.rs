//! The five-field cron schedules of CronJob: what they are, and when they next come due.
//! (<https://kubernetes.io/docs/concepts/workloads/controllers/cron-jobs/#schedule-syntax>)

use jiff::{SignedDuration, Timestamp, ToSpan, Zoned, tz::TimeZone};

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ScheduleError {
    #[error("expected exactly 5 fields, found {found}: [{written}]")]
    Fields { found: usize, written: String },
    #[error("unrecognized descriptor: {0}")]
    Descriptor(String),
    #[error("failed to parse duration {0}: time: invalid duration")]
    Duration(String),
    #[error("failed to parse int from {0}: invalid syntax")]
    Number(String),
    #[error("{what} ({value}) {side} {name} ({bound}): {written}")]
    Bounds { what: &'static str, value: u32, side: &'static str, name: &'static str, bound: u32, written: String },
    #[error("step of range should be a positive number: {0}")]
    Step(String),
    #[error("too many hyphens: {0}")]
    Hyphens(String),
    #[error("too many slashes: {0}")]
    Slashes(String),
}

/// A parsed schedule; each field is a set of bits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Schedule {
    Fields(Fields),
    /// `@every 1h30m`
    Every(SignedDuration),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fields {
    minutes: u64,
    hours: u64,
    days: u64,
    months: u64,
    weekdays: u64,
    /// A star in one of the two day fields makes the other decide alone; else either may match.
    any_day: bool,
    any_weekday: bool,
}

struct Bounds {
    low: u32,
    high: u32,
    names: &'static [&'static str],
}

const MINUTES: Bounds = Bounds { low: 0, high: 59, names: &[] };
const HOURS: Bounds = Bounds { low: 0, high: 23, names: &[] };
const DAYS: Bounds = Bounds { low: 1, high: 31, names: &[] };
const MONTHS: Bounds = Bounds {
    low: 1,
    high: 12,
    names: &["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"],
};
const WEEKDAYS: Bounds = Bounds { low: 0, high: 6, names: &["sun", "mon", "tue", "wed", "thu", "fri", "sat"] };

impl Schedule {
    pub fn parse(written: &str) -> Result<Self, ScheduleError> {
        let written = written.trim();
        if let Some(name) = written.strip_prefix('@') {
            let fields = match name {
                "yearly" | "annually" => "0 0 1 1 *",
                "monthly" => "0 0 1 * *",
                "weekly" => "0 0 * * 0",
                "daily" | "midnight" => "0 0 * * *",
                "hourly" => "0 * * * *",
                _ => return Self::every(written),
            };
            return Self::parse(fields);
        }
        let fields: Vec<&str> = written.split_whitespace().collect();
        let [minutes, hours, days, months, weekdays] = fields.as_slice() else {
            return Err(ScheduleError::Fields { found: fields.len(), written: written.into() });
        };
        Ok(Self::Fields(Fields {
            minutes: field(minutes, &MINUTES)?,
            hours: field(hours, &HOURS)?,
            days: field(days, &DAYS)?,
            months: field(months, &MONTHS)?,
            weekdays: field(weekdays, &WEEKDAYS)?,
            any_day: is_star(days),
            any_weekday: is_star(weekdays),
        }))
    }

    fn every(written: &str) -> Result<Self, ScheduleError> {
        let Some(duration) = written.strip_prefix("@every ") else {
            return Err(ScheduleError::Descriptor(written.into()));
        };
        let parsed: SignedDuration =
            duration.trim().parse().map_err(|_| ScheduleError::Duration(written.to_owned()))?;
        Ok(Self::Every(SignedDuration::from_secs(parsed.as_secs().max(1))))
    }

    /// The first time after `after`, in the zone given; `None` where there is none within five years.
    pub fn next(&self, after: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
        match self {
            Self::Every(period) => after.checked_add(*period).ok(),
            Self::Fields(fields) => fields.next(after.to_zoned(zone.clone())),
        }
    }
}

impl Fields {
    fn next(&self, after: Zoned) -> Option<Timestamp> {
        let has = |set: u64, bit: i8| set & (1 << bit) != 0;
        let limit = after.year() + 5;
        let mut time = after.checked_add(1.minute()).ok()?.with().second(0).subsec_nanosecond(0).build().ok()?;
        while time.year() <= limit {
            // A field that does not fit moves to the start of the next value of that field, from the largest down.
            time = if !has(self.months, time.month()) {
                time.first_of_month().ok()?.start_of_day().ok()?.checked_add(1.month()).ok()?
            } else if !self.day_fits(&time) {
                time.tomorrow().ok()?.start_of_day().ok()?
            } else if !has(self.hours, time.hour()) {
                time.with().minute(0).build().ok()?.checked_add(1.hour()).ok()?
            } else if !has(self.minutes, time.minute()) {
                time.checked_add(1.minute()).ok()?
            } else {
                return Some(time.timestamp());
            };
        }
        None
    }

    fn day_fits(&self, time: &Zoned) -> bool {
        let day = self.days & (1 << time.day()) != 0;
        let weekday = self.weekdays & (1 << time.weekday().to_sunday_zero_offset()) != 0;
        match self.any_day || self.any_weekday {
            true => day && weekday,
            false => day || weekday,
        }
    }
}

fn is_star(field: &str) -> bool {
    field.split(',').any(|part| part.starts_with(['*', '?']))
}

/// `*`, `5`, `1-5`, `*/15`, `1-30/2`, and lists of these.
fn field(written: &str, bounds: &Bounds) -> Result<u64, ScheduleError> {
    written.split(',').try_fold(0, |set, part| Ok(set | range(part, bounds)?))
}

fn range(written: &str, bounds: &Bounds) -> Result<u64, ScheduleError> {
    let mut halves = written.split('/');
    let (span, step) = (halves.next().unwrap_or_default(), halves.next());
    if halves.next().is_some() {
        return Err(ScheduleError::Slashes(written.into()));
    }
    let mut ends = span.split('-');
    let (low, high) = (ends.next().unwrap_or_default(), ends.next());
    if ends.next().is_some() {
        return Err(ScheduleError::Hyphens(written.into()));
    }
    let (start, mut end) = match (low, high) {
        ("*" | "?", None) => (bounds.low, bounds.high),
        (low, None) => (number(low, bounds)?, number(low, bounds)?),
        (low, Some(high)) => (number(low, bounds)?, number(high, bounds)?),
    };
    let step = match step {
        None => 1,
        Some(step) => {
            if high.is_none() {
                end = bounds.high;
            }
            step.parse().map_err(|_| ScheduleError::Number(step.into()))?
        }
    };
    let error = |what, value, side, name, bound| {
        Err(ScheduleError::Bounds { what, value, side, name, bound, written: written.into() })
    };
    match () {
        () if start < bounds.low => error("beginning of range", start, "below", "minimum", bounds.low),
        () if end > bounds.high => error("end of range", end, "above", "maximum", bounds.high),
        () if start > end => error("beginning of range", start, "beyond", "end of range", end),
        () if step == 0 => Err(ScheduleError::Step(written.into())),
        () => Ok((start..=end).step_by(step as usize).fold(0, |set, bit| set | 1 << bit)),
    }
}

fn number(written: &str, bounds: &Bounds) -> Result<u32, ScheduleError> {
    if let Some(position) = bounds.names.iter().position(|name| written.eq_ignore_ascii_case(name)) {
        return Ok(position as u32 + bounds.low);
    }
    written.parse().map_err(|_| ScheduleError::Number(written.into()))
}
