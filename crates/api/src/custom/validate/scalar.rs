//! The checks of one value, whatever is below it.

use serde_json::{Number, Value};

use super::{
    super::{
        format::Format,
        schema::{Checks, Schema},
    },
    Outcome,
    problem::Place,
};
use crate::field::{FieldError, FieldErrorKind};

/// The type's name, and that of the format that Go's numbers have by themselves.
fn kind(value: &Value) -> (&'static str, &'static str) {
    match value {
        Value::Null => ("null", ""),
        Value::Bool(_) => ("boolean", ""),
        Value::Number(number) if number.is_i64() => ("integer", "int64"),
        Value::Number(_) => ("number", "float64"),
        Value::String(_) => ("string", ""),
        Value::Array(_) => ("array", ""),
        Value::Object(_) => ("object", ""),
    }
}

/// A float that is written as an integer would be: `1.0`.
fn is_whole(value: &Value) -> bool {
    value.as_f64().is_some_and(|number| number.fract() == 0.0 && number.abs() < 9_007_199_254_740_992.0)
}

pub(super) fn types(schema: &Schema, value: &Value, place: Place<'_>) -> Outcome {
    let passed = Outcome { matches: 1, ..Outcome::default() };
    let allows = |name: &str| schema.types.iter().any(|one| one == name);
    let (found, format) = kind(value);
    if value.is_null() {
        let wrong = !schema.types.is_empty() && !schema.nullable;
        return if wrong { place.wrong_type(&schema.types.join(","), found).into() } else { passed };
    }
    let fits = allows(found)
        || found == "number" && allows("integer") && is_whole(value)
        || found == "integer" && allows("number");
    let format_said = schema.checks.as_deref().and_then(|checks| checks.format.as_ref());
    match format_said {
        // A format without a type says what strings must be like, and nothing of anything else but numbers.
        Some((name, _)) if !fits && !matches!(value, Value::String(_) | Value::Array(_)) => {
            place.wrong_type(name, format).into()
        }
        _ if schema.types.is_empty() || fits => passed,
        _ => place.wrong_type(&schema.types.join(","), found).into(),
    }
}

/// `enum`
pub(super) fn allowed(checks: &Checks, value: &Value, place: Place<'_>) -> Outcome {
    let same = |one: &Value| match (one.as_f64(), value.as_f64()) {
        (Some(one), Some(value)) => one == value,
        _ => one == value && !value.is_null(),
    };
    if checks.allowed.is_empty() || checks.allowed.iter().any(same) {
        return Outcome::default();
    }
    let names: Vec<String> = checks
        .allowed
        .iter()
        .map(|one| one.as_str().map_or_else(|| one.to_string(), str::to_owned))
        .map(|name| crate::field::quote(&name))
        .collect();
    let detail = format!("supported values: {}", names.join(", "));
    place.error(FieldErrorKind::NotSupported, value.clone(), detail).into()
}

pub(super) fn string(checks: &Checks, text: &str, place: Place<'_>) -> Outcome {
    let length = text.chars().count() as i64;
    if let Some(max) = checks.max_length.filter(|max| length > *max) {
        let detail = format!("may not be more than {max} bytes");
        return place.error(FieldErrorKind::TooLong, text, detail).into();
    }
    if let Some(min) = checks.min_length.filter(|min| length < *min) {
        return place.invalid(text, &format!("should be at least {min} chars long")).into();
    }
    let Some(pattern) = &checks.pattern else { return Outcome::default() };
    match pattern.is_match(text) {
        Ok(true) => Outcome::default(),
        Ok(false) => place.invalid(text, &format!("should match '{}'", pattern.text)).into(),
        Err(why) => {
            place.invalid(text, &format!("should match '{}, but pattern is invalid: {why}'", pattern.text)).into()
        }
    }
}

pub(super) fn format(checks: &Checks, text: &str, place: Place<'_>) -> Outcome {
    match &checks.format {
        Some((name, Format::Text(check))) if !check(text) => place.wrong_type(name, text).into(),
        _ => Outcome::default(),
    }
}

/// `multipleOf`, `minimum` and `maximum`, in upstream's order.
pub(super) fn number(checks: &Checks, number: &Number, place: Place<'_>) -> Outcome {
    let mut outcome = Outcome::default();
    let mut fail = |says: String| outcome.errors.push(place.invalid(number.clone(), &says));
    let float = number.as_f64().unwrap_or_default();
    // Integers are compared with integers, which keeps the last digits of big ones.
    let whole = |limit: f64| number.as_i64().filter(|_| limit.fract() == 0.0);
    let shown = |limit: f64| if whole(limit).is_some() { (limit as i64).to_string() } else { limit.to_string() };
    if let Some(factor) = checks.multiple_of {
        let is_multiple = match whole(factor) {
            Some(whole) => whole.checked_rem(factor as i64) == Some(0),
            None if factor < 1.0 => is_whole(&(1.0 / factor * float).into()),
            None => is_whole(&(float / factor).into()),
        };
        if !is_multiple {
            fail(format!("should be a multiple of {}", shown(factor)));
        }
    }
    let exceeds = |limit: f64, exclusive: bool, above: bool| {
        let order = match whole(limit) {
            Some(whole) => whole.cmp(&(limit as i64)),
            None => float.total_cmp(&limit),
        };
        (order.is_eq() && exclusive) || if above { order.is_gt() } else { order.is_lt() }
    };
    if let Some(min) = checks.minimum.filter(|min| exceeds(*min, checks.exclusive_minimum, false)) {
        let or_equal = if checks.exclusive_minimum { "" } else { " or equal to" };
        fail(format!("should be greater than{or_equal} {}", shown(min)));
    }
    if let Some(max) = checks.maximum.filter(|max| exceeds(*max, checks.exclusive_maximum, true)) {
        let or_equal = if checks.exclusive_maximum { "" } else { " or equal to" };
        fail(format!("should be less than{or_equal} {}", shown(max)));
    }
    outcome
}

fn too_many(actual: usize, max: i64, place: Place<'_>) -> FieldError {
    let items = if max == 1 { "item" } else { "items" };
    place.error(FieldErrorKind::TooMany, actual, format!("must have at most {max} {items}"))
}

/// `minItems` and `maxItems`
pub(super) fn count(checks: &Checks, count: usize, place: Place<'_>) -> Vec<FieldError> {
    let mut errors = Vec::new();
    if let Some(min) = checks.min_items.filter(|min| (count as i64) < *min) {
        errors.push(place.invalid(count, &format!("should have at least {min} items")));
    }
    if let Some(max) = checks.max_items.filter(|max| count as i64 > *max) {
        errors.push(too_many(count, max, place));
    }
    errors
}

/// `minProperties` and `maxProperties`; nothing else is said of an object that has too few or too many.
pub(super) fn properties(checks: &Checks, count: usize, place: Place<'_>) -> Option<FieldError> {
    if let Some(min) = checks.min_properties.filter(|min| (count as i64) < *min) {
        return Some(place.invalid(min, &format!("should have at least {min} properties")));
    }
    checks.max_properties.filter(|max| count as i64 > *max).map(|max| too_many(count, max, place))
}
