//! Semantic versions (<https://semver.org>).

use std::{cmp::Ordering, sync::Arc};

use super::{Cost, Row, Sig, global, member, run};
use crate::value::{Opaque, Value};

const SEMVER: Sig = Sig::Opaque("kubernetes.Semver");
const TWO: &[Sig] = &[SEMVER, SEMVER];
const ONE: Cost = Cost::Fixed(1);

/// A version; what follows a `+` has no part in comparisons.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Semver {
    numbers: [u64; 3],
    pre: Vec<String>,
}

macro_rules! both {
    ($a:ident, $b:ident => $result:expr) => {
        run!([Value::Opaque(Opaque::Semver($a)), Value::Opaque(Opaque::Semver($b))] => Ok($result))
    };
}
macro_rules! number {
    ($name:literal, $at:literal) => {
        member($name, &[SEMVER], Sig::Int, ONE, run!(
            [Value::Opaque(Opaque::Semver(version))] => Ok(Value::Int(version.numbers[$at] as i64))))
    };
}

pub(crate) const ROWS: &[Row] = &[
    global("semver", &[Sig::String], SEMVER, Cost::Text(1), run!([Value::String(text)] => parse(text).map(of))),
    global(
        "semver",
        &[Sig::String, Sig::Bool],
        SEMVER,
        Cost::Text(1),
        run!(
        [Value::String(text), Value::Bool(normalize)] => read(text, *normalize).map(of)),
    ),
    global(
        "isSemver",
        &[Sig::String],
        Sig::Bool,
        Cost::Text(1),
        run!(
        [Value::String(text)] => Ok(Value::Bool(parse(text).is_ok()))),
    ),
    global(
        "isSemver",
        &[Sig::String, Sig::Bool],
        Sig::Bool,
        Cost::Text(1),
        run!(
        [Value::String(text), Value::Bool(normalize)] => Ok(Value::Bool(read(text, *normalize).is_ok()))),
    ),
    number!("major", 0),
    number!("minor", 1),
    number!("patch", 2),
    member("isGreaterThan", TWO, Sig::Bool, ONE, both!(a, b => Value::Bool(a.compare(b).is_gt()))),
    member("isLessThan", TWO, Sig::Bool, ONE, both!(a, b => Value::Bool(a.compare(b).is_lt()))),
    member("compareTo", TWO, Sig::Int, ONE, both!(a, b => Value::Int(a.compare(b) as i64))),
];

pub(crate) fn of<'a>(version: Semver) -> Value<'a> {
    Value::Opaque(Opaque::Semver(Arc::new(version)))
}

fn read(text: &str, normalize: bool) -> Result<Semver, String> {
    if normalize { parse(&normalized(text)?) } else { parse(text) }
}

/// Without a `v` in front and zeros before numbers, and with zeros for what is missing.
fn normalized(text: &str) -> Result<String, String> {
    let text = text.strip_prefix('v').unwrap_or(text);
    let mut parts: Vec<String> = text
        .splitn(3, '.')
        .map(|part| match part.trim_start_matches('0') {
            _ if part.len() <= 1 => part.to_owned(),
            rest if rest.starts_with(|c: char| c.is_ascii_digit()) => rest.to_owned(),
            rest => format!("0{rest}"),
        })
        .collect();
    if parts.len() < 3 && parts.last().is_some_and(|last| last.contains(['+', '-'])) {
        return Err("short version cannot contain PreRelease/Build meta data".to_owned());
    }
    parts.resize(3, "0".to_owned());
    Ok(parts.join("."))
}

pub(crate) fn parse(text: &str) -> Result<Semver, String> {
    if text.is_empty() {
        return Err("Version string empty".to_owned());
    }
    let (rest, build) = text.split_once('+').map_or((text, None), |(rest, build)| (rest, Some(build)));
    let (core, pre) = rest.split_once('-').map_or((rest, None), |(core, pre)| (core, Some(pre)));
    let parts: Vec<&str> = core.split('.').collect();
    let [major, minor, patch] = parts[..] else {
        return Err("No Major.Minor.Patch elements found".to_owned());
    };
    let pre = identifiers(pre, true)?;
    identifiers(build, false)?;
    Ok(Semver { numbers: [number(major)?, number(minor)?, number(patch)?], pre })
}

fn number(text: &str) -> Result<u64, String> {
    if text.is_empty() || !text.bytes().all(|b| b.is_ascii_digit()) {
        return Err(format!("Invalid character(s) found in number {text:?}"));
    }
    if text.len() > 1 && text.starts_with('0') {
        return Err(format!("Number must not contain leading zeroes {text:?}"));
    }
    text.parse().map_err(|_| format!("strconv.ParseUint: parsing {text:?}: value out of range"))
}

fn identifiers(text: Option<&str>, is_pre: bool) -> Result<Vec<String>, String> {
    let Some(text) = text else { return Ok(Vec::new()) };
    let each = |part: &str| {
        if part.is_empty() {
            return Err("Prerelease or build meta data is empty".to_owned());
        }
        if !part.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-') {
            return Err(format!("Invalid character(s) found in {part:?}"));
        }
        let is_number = part.bytes().all(|b| b.is_ascii_digit());
        if is_pre && is_number && part.len() > 1 && part.starts_with('0') {
            return Err(format!("Numeric PreRelease version must not contain leading zeroes {part:?}"));
        }
        Ok(part.to_owned())
    };
    text.split('.').map(each).collect()
}

impl Semver {
    pub(crate) fn compare(&self, other: &Semver) -> Ordering {
        let by_number = self.numbers.cmp(&other.numbers);
        if by_number.is_ne() {
            return by_number;
        }
        match (self.pre.is_empty(), other.pre.is_empty()) {
            (true, true) => return Ordering::Equal,
            // A release comes after what comes before it.
            (true, false) => return Ordering::Greater,
            (false, true) => return Ordering::Less,
            (false, false) => {}
        }
        for (a, b) in self.pre.iter().zip(&other.pre) {
            let order = match (a.parse::<u64>(), b.parse::<u64>()) {
                (Ok(a), Ok(b)) => a.cmp(&b),
                (Ok(_), Err(_)) => Ordering::Less,
                (Err(_), Ok(_)) => Ordering::Greater,
                (Err(_), Err(_)) => a.cmp(b),
            };
            if order.is_ne() {
                return order;
            }
        }
        self.pre.len().cmp(&other.pre.len())
    }
}
