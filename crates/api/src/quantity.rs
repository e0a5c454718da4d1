//! `resource.Quantity`: exact amounts with the suffixes `m`, `k`, `Mi` and friends.
//!
//! An amount is kept in nano units in an `i128`: upstream's limits, 2^63-1 whole units and nine digits after the
//! point, fit with room to spare, so that sums and comparisons are exact.
//! (<https://kubernetes.io/docs/reference/kubernetes-api/common-definitions/quantity/>)

use std::{
    cmp::Ordering,
    fmt,
    ops::{Add, Sub},
    str::FromStr,
};

use serde_json::Value;

const NANO: i128 = 1_000_000_000;
const MAX: i128 = i64::MAX as i128 * NANO;

/// Which family of suffixes a quantity was written with; kept for writing it again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// `12e6`
    DecimalExponent,
    /// `12Mi`
    BinarySi,
    /// `12M`
    DecimalSi,
}

/// Compares by amount alone: `1Gi` equals `1024Mi`.
#[derive(Clone, Copy, Debug)]
pub struct Quantity {
    nanos: i128,
    format: Format,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum QuantityError {
    #[error("quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'")]
    Format,
    #[error("unable to parse quantity's suffix")]
    Suffix,
}

impl Quantity {
    pub const ZERO: Self = Self { nanos: 0, format: Format::DecimalSi };

    pub const fn new(units: i64, format: Format) -> Self {
        Self { nanos: units as i128 * NANO, format }
    }

    pub const fn from_milli(milli: i64, format: Format) -> Self {
        Self { nanos: milli as i128 * (NANO / 1000), format }
    }

    /// A JSON string or number, as both are accepted on the wire.
    pub fn from_value(value: &Value) -> Result<Self, QuantityError> {
        match value {
            Value::String(text) => text.parse(),
            Value::Number(number) => number.to_string().parse(),
            _ => Err(QuantityError::Format),
        }
    }

    /// As `from_value`, with zero for what is missing or unreadable.
    pub fn or_zero(value: &Value) -> Self {
        Self::from_value(value).unwrap_or(Self::ZERO)
    }

    pub const fn format(&self) -> Format {
        self.format
    }

    /// Whole units, rounded up as upstream's `Value()` does.
    pub fn value(&self) -> i64 {
        clamp(div_up(self.nanos, NANO))
    }

    /// Thousandths, rounded up as upstream's `MilliValue()` does.
    pub fn milli_value(&self) -> i64 {
        clamp(div_up(self.nanos, NANO / 1000))
    }

    pub const fn is_zero(&self) -> bool {
        self.nanos == 0
    }

    pub const fn is_negative(&self) -> bool {
        self.nanos < 0
    }

    /// Rounds away from zero to thousandths, as the API server does with every entry of a resource list.
    #[must_use]
    pub fn rounded_to_milli(self) -> Self {
        let milli = NANO / 1000;
        Self { nanos: div_up(self.nanos, milli) * milli, ..self }
    }
}

/// A sum takes the other's format where this one is zero, as upstream's `Add` does.
impl Add for Quantity {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        let format = if self.is_zero() { other.format } else { self.format };
        Self { nanos: self.nanos.saturating_add(other.nanos), format }
    }
}

impl Sub for Quantity {
    type Output = Self;

    fn sub(self, other: Self) -> Self {
        let format = if self.is_zero() { other.format } else { self.format };
        Self { nanos: self.nanos.saturating_sub(other.nanos), format }
    }
}

fn clamp(value: i128) -> i64 {
    value.clamp(i64::MIN as i128, i64::MAX as i128) as i64
}

/// Division that rounds away from zero.
fn div_up(value: i128, by: i128) -> i128 {
    let (quotient, rest) = (value / by, value % by);
    quotient + if rest == 0 { 0 } else { rest.signum() }
}

impl PartialEq for Quantity {
    fn eq(&self, other: &Self) -> bool {
        self.nanos == other.nanos
    }
}

impl Eq for Quantity {}

impl PartialOrd for Quantity {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Quantity {
    fn cmp(&self, other: &Self) -> Ordering {
        self.nanos.cmp(&other.nanos)
    }
}

/// A multiplier as `base^exponent` with the family it belongs to.
struct Suffix {
    base: i128,
    exponent: i32,
    format: Format,
}

fn suffix(text: &str) -> Option<Suffix> {
    let decimal = |exponent| Some(Suffix { base: 10, exponent, format: Format::DecimalSi });
    let binary = |exponent| Some(Suffix { base: 2, exponent, format: Format::BinarySi });
    match text {
        "n" => decimal(-9),
        "u" => decimal(-6),
        "m" => decimal(-3),
        "" => decimal(0),
        "k" => decimal(3),
        "M" => decimal(6),
        "G" => decimal(9),
        "T" => decimal(12),
        "P" => decimal(15),
        "E" => decimal(18),
        "Ki" => binary(10),
        "Mi" => binary(20),
        "Gi" => binary(30),
        "Ti" => binary(40),
        "Pi" => binary(50),
        "Ei" => binary(60),
        _ => {
            let exponent = text.strip_prefix(['e', 'E'])?;
            let digits = exponent.strip_prefix(['+', '-']).unwrap_or(exponent);
            if digits.is_empty() || digits.len() > 9 {
                return None;
            }
            Some(Suffix { base: 10, exponent: exponent.parse().ok()?, format: Format::DecimalExponent })
        }
    }
}

impl FromStr for Quantity {
    type Err = QuantityError;

    fn from_str(text: &str) -> Result<Self, QuantityError> {
        let bytes = text.as_bytes();
        let negative = bytes.first() == Some(&b'-');
        let start = usize::from(matches!(bytes.first(), Some(b'+' | b'-')));
        let number_len = bytes[start..].iter().take_while(|b| b.is_ascii_digit() || **b == b'.').count();
        let number = &bytes[start..start + number_len];
        let tail = &text[start + number_len..];
        if !number.iter().any(u8::is_ascii_digit) || number.iter().filter(|b| **b == b'.').count() > 1 {
            return Err(QuantityError::Format);
        }
        let suffix = match suffix(tail) {
            Some(suffix) => suffix,
            None if tail.bytes().all(|b| b"eEinumkKMGTPi+-0123456789".contains(&b)) => {
                return Err(QuantityError::Suffix);
            }
            None => return Err(QuantityError::Format),
        };
        let nanos = scaled(number, &suffix);
        Ok(Self { nanos: if negative { -nanos } else { nanos }, format: suffix.format })
    }
}

/// The digits times the multiplier in nano units, rounded up to one nano, capped at [`MAX`].
fn scaled(number: &[u8], suffix: &Suffix) -> i128 {
    let point = number.iter().position(|b| *b == b'.').unwrap_or(number.len());
    let mut mantissa: i128 = 0;
    let mut lost = false;
    let mut scale = 0i32;
    for (i, digit) in number.iter().enumerate().filter(|(_, b)| **b != b'.') {
        // Thirty digits are more than the result can tell apart; what follows counts only as "not zero".
        if mantissa >= 10i128.pow(30) {
            lost |= *digit != b'0';
            scale += i32::from(i < point);
            continue;
        }
        mantissa = mantissa * 10 + i128::from(digit - b'0');
        scale -= i32::from(i > point);
    }
    if mantissa == 0 {
        return 0;
    }
    // The binary multiplier is applied as a power of two and the decimal one as a power of ten.
    let (decimal, binary) = match suffix.base {
        2 => (scale + 9, suffix.exponent),
        _ => (scale + 9 + suffix.exponent, 0),
    };
    times_power_of_two_and_ten(mantissa, binary, decimal, lost).min(MAX)
}

fn times_power_of_two_and_ten(mantissa: i128, binary: i32, decimal: i32, lost: bool) -> i128 {
    if decimal < -60 {
        return 1;
    }
    if decimal > 60 {
        return MAX;
    }
    let mut value = mantissa;
    let mut remainder = lost;
    let mut twos = binary;
    // Growing and shrinking steps alternate so that neither overflows nor loses digits that still count.
    let mut tens = decimal;
    while twos > 0 || tens != 0 {
        if twos > 0 && value < i128::MAX / 4 {
            value *= 2;
            twos -= 1;
        } else if tens < 0 {
            remainder |= value % 10 != 0;
            value /= 10;
            tens += 1;
        } else if tens > 0 && value < i128::MAX / 16 {
            value *= 10;
            tens -= 1;
        } else {
            return MAX;
        }
    }
    value.saturating_add(i128::from(remainder))
}

impl fmt::Display for Quantity {
    /// The canonical form: no fraction, the largest suffix that keeps the amount exact.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.nanos == 0 {
            return f.write_str("0");
        }
        // Small binary amounts are written in decimal, so that nothing is rounded away.
        if self.format == Format::BinarySi && self.nanos.abs() >= 1024 * NANO {
            let mut amount = div_up(self.nanos, NANO);
            let mut steps = 0;
            while amount % 1024 == 0 && steps < 6 {
                amount /= 1024;
                steps += 1;
            }
            return write!(f, "{amount}{}", ["", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"][steps]);
        }
        let mut amount = self.nanos;
        let mut exponent = -9i32;
        while amount % 1000 == 0 && exponent < 18 {
            amount /= 1000;
            exponent += 3;
        }
        match (self.format, exponent) {
            (_, 0) => write!(f, "{amount}"),
            (Format::DecimalExponent, _) => write!(f, "{amount}e{exponent}"),
            _ => {
                let suffixes = ["n", "u", "m", "", "k", "M", "G", "T", "P", "E"];
                write!(f, "{amount}{}", suffixes[((exponent + 9) / 3) as usize])
            }
        }
    }
}

#[cfg(test)]
mod tests;
