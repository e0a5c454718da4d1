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
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn quantities_are_read_and_written_as_upstream_does() {
        let rows = [
            ("0", "0"),
            ("100m", "100m"),
            ("0.1", "100m"),
            ("1000m", "1"),
            ("1.5", "1500m"),
            (".5", "500m"),
            ("5.", "5"),
            ("128Mi", "128Mi"),
            ("1024Mi", "1Gi"),
            ("1.5Gi", "1536Mi"),
            ("0.5Ki", "512"),
            ("1Ki", "1Ki"),
            ("1025Ki", "1025Ki"),
            ("1000k", "1M"),
            ("1500k", "1500k"),
            ("12e6", "12e6"),
            ("1e3", "1e3"),
            ("1E", "1E"),
            ("1E2", "100"),
            ("-1", "-1"),
            ("+2", "2"),
            ("1n", "1n"),
            ("0.1n", "1n"),
            ("-0.1n", "-1n"),
            ("9223372036854775807", "9223372036854775807"),
            ("9223372036854775808", "9223372036854775807"),
            ("8Ei", "9223372036854775807"),
            ("7Ei", "7Ei"),
            ("100E", "9223372036854775807"),
            ("0.0000000000000000000000000000000000000000000000001", "1n"),
        ];
        for (text, canonical) in rows {
            let quantity: Quantity = text.parse().unwrap_or_else(|e| panic!("{text}: {e}"));
            assert_eq!(quantity.to_string(), canonical, "{text}");
        }
        for text in ["", "-", "1.2.3", "x", "1x", "1 Gi", "1e", "1ki", "1mi", "--1", "1Gii"] {
            assert!(text.parse::<Quantity>().is_err(), "{text}");
        }
    }

    #[test]
    fn values_are_rounded_up() {
        let rows =
            [("1500m", 2, 1500), ("100m", 1, 100), ("1n", 1, 1), ("-1500m", -2, -1500), ("2Ki", 2048, 2_048_000)];
        for (text, value, milli) in rows {
            let quantity: Quantity = text.parse().unwrap();
            assert_eq!((quantity.value(), quantity.milli_value()), (value, milli), "{text}");
        }
        assert_eq!("1n".parse::<Quantity>().unwrap().rounded_to_milli().to_string(), "1m");
    }

    proptest! {
        #[test]
        fn the_canonical_form_means_the_same(units in -1_000_000_000i64..1_000_000_000, suffix in "(|n|u|m|k|M|G|Ki|Mi|Gi|e3|e-3)") {
            let quantity: Quantity = format!("{units}{suffix}").parse().unwrap();
            let again: Quantity = quantity.to_string().parse().unwrap();
            prop_assert_eq!(quantity, again);
            prop_assert_eq!(again.to_string(), quantity.to_string());
        }

        #[test]
        fn sums_are_exact(a in -1_000_000i64..1_000_000, b in -1_000_000i64..1_000_000) {
            let (qa, qb) = (Quantity::from_milli(a, Format::DecimalSi), Quantity::from_milli(b, Format::BinarySi));
            prop_assert_eq!((qa + qb).milli_value(), a + b);
            prop_assert_eq!((qa - qb).milli_value(), a - b);
            prop_assert_eq!(qa.cmp(&qb), a.cmp(&b));
        }

        #[test]
        fn amounts_are_read_exactly(whole in 0..100_000_i128, fraction in "[0-9]{0,9}", suffix in 0..16_usize, negative: bool) {
            let known = [
                ("n", 10, -9), ("u", 10, -6), ("m", 10, -3), ("", 10, 0), ("k", 10, 3), ("M", 10, 6), ("G", 10, 9),
                ("T", 10, 12), ("e3", 10, 3), ("E-3", 10, -3), ("e+02", 10, 2), ("Ki", 2, 10), ("Mi", 2, 20),
                ("Gi", 2, 30), ("Ti", 2, 40), ("e0", 10, 0),
            ];
            let (suffix, base, exponent): (&str, i128, i32) = known[suffix];
            let sign = if negative { "-" } else { "" };
            let quantity: Quantity = format!("{sign}{whole}.{fraction}{suffix}").parse().unwrap();
            // In units of 10^-18, where all of these are whole.
            let digits: i128 = format!("{whole}{fraction:0<9}").parse().unwrap();
            let scaled = digits * if exponent < 0 { 10_i128.pow((9 + exponent).unsigned_abs()) } else {
                base.pow(exponent.unsigned_abs()) * 1_000_000_000
            };
            let nanos = (scaled + NANO - 1) / NANO;
            prop_assert_eq!(quantity.nanos, if negative { -nanos } else { nanos });
        }

        #[test]
        fn quantities_are_ordered_and_added_as_numbers(a: i64, b: i64, c: i64, formats in prop::array::uniform3(0..3_usize)) {
            let of = |milli: i64, format: usize| {
                Quantity::from_milli(milli, [Format::DecimalSi, Format::BinarySi, Format::DecimalExponent][format])
            };
            let (qa, qb, qc) = (of(a, formats[0]), of(b, formats[1]), of(c, formats[2]));
            prop_assert_eq!(qa.cmp(&qb), a.cmp(&b));
            prop_assert_eq!(qa + qb, qb + qa);
            prop_assert_eq!((qa + qb) + qc, qa + (qb + qc));
            prop_assert_eq!((qa + qb) - qb, qa);
            prop_assert_eq!((qa - qb).cmp(&Quantity::ZERO), a.cmp(&b));
            prop_assert!(qa.rounded_to_milli() == qa && i128::from(qa.value()) * 1000 * a.signum() as i128 >= i128::from(a.unsigned_abs()));
        }

        /// The canonical form is the shortest with a suffix: the number in it has no zeros that a suffix could say.
        #[test]
        fn any_text_is_an_amount_or_none(text in "[-+]?[0-9]{0,22}[.]?[0-9]{0,12}([a-zA-Z]{0,2}|[eE][-+]?[0-9]{1,3})|\\PC{0,12}") {
            let Ok(quantity) = text.parse::<Quantity>() else { return Ok(()) };
            let canonical = quantity.to_string();
            let again: Quantity = canonical.parse().unwrap();
            // Without a suffix an amount is a decimal one, whatever it was, as upstream has it.
            let settled: Quantity = again.to_string().parse().unwrap();
            prop_assert_eq!(settled.to_string(), again.to_string(), "{}", text);
            prop_assert!(again.to_string() == canonical || quantity.format == Format::BinarySi, "{text}");
            // Binary amounts with a fraction are written rounded up to whole units, as upstream does.
            let is_whole = quantity.nanos % NANO == 0;
            prop_assert!(again == quantity || (quantity.format == Format::BinarySi && !is_whole), "{text}");
            prop_assert!(!canonical.contains('.'));
            let digits = canonical.trim_start_matches('-').find(|c: char| !c.is_ascii_digit());
            let number = &canonical.trim_start_matches('-')[..digits.unwrap_or(canonical.trim_start_matches('-').len())];
            let largest = ["E", "e18", "Ei"].iter().any(|largest| canonical.ends_with(largest));
            let decimal = quantity.format != Format::BinarySi;
            prop_assert!(!decimal || largest || number == "0" || !number.ends_with("000"), "{text}: {canonical}");
        }
    }
}
