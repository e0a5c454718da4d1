//! `resource.Quantity`: exact amounts with suffixes, in nano units
//! (<https://kubernetes.io/docs/reference/kubernetes-api/common-definitions/quantity/>).

use super::{Cost, Row, Sig, global, member, run};
use crate::value::{Opaque, Value};

const QUANTITY: Sig = Sig::Opaque("kubernetes.Quantity");
const TWO: &[Sig] = &[QUANTITY, QUANTITY];
const ONE: Cost = Cost::Fixed(1);
const NANO: i128 = 1_000_000_000;
/// No quantity is further from zero than 2^63-1 whole units.
const MAX: i128 = i64::MAX as i128 * NANO;

/// In nano units.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Quantity(i128);

macro_rules! both {
    ($a:ident, $b:ident => $result:expr) => {
        run!([Value::Opaque(Opaque::Quantity(Quantity($a))), Value::Opaque(Opaque::Quantity(Quantity($b)))] => $result)
    };
}
macro_rules! with_int {
    ($a:ident, $b:ident => $result:expr) => {
        run!([Value::Opaque(Opaque::Quantity(Quantity($a))), Value::Int($b)] => $result)
    };
}
macro_rules! one {
    ($a:ident => $result:expr) => {
        run!([Value::Opaque(Opaque::Quantity(Quantity($a)))] => $result)
    };
}

pub(crate) const ROWS: &[Row] = &[
    global("quantity", &[Sig::String], QUANTITY, Cost::Text(1), run!([Value::String(text)] => parse(text).map(of))),
    global(
        "isQuantity",
        &[Sig::String],
        Sig::Bool,
        Cost::Text(1),
        run!(
        [Value::String(text)] => Ok(Value::Bool(parse(text).is_ok()))),
    ),
    member("sign", &[QUANTITY], Sig::Int, ONE, one!(a => Ok(Value::Int(a.signum() as i64)))),
    member("isInteger", &[QUANTITY], Sig::Bool, ONE, one!(a => Ok(Value::Bool(a % NANO == 0)))),
    member(
        "asInteger",
        &[QUANTITY],
        Sig::Int,
        ONE,
        one!(a => match a % NANO {
            0 => Ok(Value::Int((a / NANO) as i64)),
            _ => Err("cannot convert value to integer".to_owned()),
        }),
    ),
    member("asApproximateFloat", &[QUANTITY], Sig::Double, ONE, one!(a => Ok(Value::Double(*a as f64 / NANO as f64)))),
    member("isGreaterThan", TWO, Sig::Bool, ONE, both!(a, b => Ok(Value::Bool(a > b)))),
    member("isLessThan", TWO, Sig::Bool, ONE, both!(a, b => Ok(Value::Bool(a < b)))),
    member("compareTo", TWO, Sig::Int, ONE, both!(a, b => Ok(Value::Int(a.cmp(b) as i64)))),
    member("add", TWO, QUANTITY, ONE, both!(a, b => Ok(of(a + b)))),
    member("add", &[QUANTITY, Sig::Int], QUANTITY, ONE, with_int!(a, b => Ok(of(a + i128::from(*b) * NANO)))),
    member("sub", TWO, QUANTITY, ONE, both!(a, b => Ok(of(a - b)))),
    member("sub", &[QUANTITY, Sig::Int], QUANTITY, ONE, with_int!(a, b => Ok(of(a - i128::from(*b) * NANO)))),
];

pub(crate) fn of<'a>(nanos: i128) -> Value<'a> {
    Value::Opaque(Opaque::Quantity(Quantity(nanos.clamp(-MAX, MAX))))
}

pub(crate) fn parse(text: &str) -> Result<i128, String> {
    let format =
        || "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'".to_owned();
    let (negative, rest) = match text.strip_prefix(['+', '-']) {
        Some(rest) => (text.starts_with('-'), rest),
        None => (false, text),
    };
    let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
    let (number, suffix) = rest.split_at(end);
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if (whole.is_empty() && fraction.is_empty()) || fraction.contains('.') {
        return Err(format());
    }
    let scale = scale(suffix).ok_or_else(|| {
        let known = suffix.bytes().all(|b| b"eEinumkKMGTP+-0123456789".contains(&b));
        if known { "unable to parse quantity's suffix".to_owned() } else { format() }
    })?;
    // Nano units of the smallest suffix need no more digits; the rest only rounds up.
    let (fraction, rest) = fraction.split_at(fraction.len().min(20));
    let mut rounded = rest.bytes().any(|digit| digit != b'0');
    let digits = [whole, fraction].concat();
    let digits = digits.trim_start_matches('0');
    if digits.len() > 60 {
        // Beyond all that is counted; below a nano unit it rounds up to one.
        return Ok(if negative { -MAX } else { MAX });
    }
    // The value is mantissa * 2^binary * 10^(decimal - digits after the point), in nano units 10^9 times as much.
    let mut exponent = scale.1 + 9 - i32::try_from(fraction.len()).unwrap_or(i32::MAX);
    let mut mantissa =
        digits.bytes().try_fold(0_i128, |sum, digit| sum.checked_mul(10)?.checked_add(i128::from(digit - b'0')));
    mantissa = mantissa.and_then(|mantissa| mantissa.checked_mul(1_i128.checked_shl(scale.0)?));
    let mut nanos = mantissa.unwrap_or(MAX);
    while exponent > 0 && nanos != 0 && nanos < MAX {
        nanos = nanos.saturating_mul(10);
        exponent -= 1;
    }
    while exponent < 0 && nanos != 0 {
        rounded |= nanos % 10 != 0;
        nanos /= 10;
        exponent += 1;
    }
    let nanos = (nanos + i128::from(rounded)).min(MAX);
    Ok(if negative { -nanos } else { nanos })
}

/// The powers of two and of ten that a suffix stands for.
fn scale(suffix: &str) -> Option<(u32, i32)> {
    Some(match suffix {
        "" => (0, 0),
        "n" => (0, -9),
        "u" => (0, -6),
        "m" => (0, -3),
        "k" => (0, 3),
        "M" => (0, 6),
        "G" => (0, 9),
        "T" => (0, 12),
        "P" => (0, 15),
        "E" => (0, 18),
        "Ki" => (10, 0),
        "Mi" => (20, 0),
        "Gi" => (30, 0),
        "Ti" => (40, 0),
        "Pi" => (50, 0),
        "Ei" => (60, 0),
        _ => {
            let exponent: i32 = suffix.strip_prefix(['e', 'E'])?.parse().ok()?;
            (0, exponent.clamp(-100, 100))
        }
    })
}
