//! Which values are equal, and which of two comes first. Numbers of different types are compared by what they are.

use std::{
    cmp::Ordering,
    collections::{HashMap, HashSet},
};

use serde_json::Value as Json;

use super::{List, Map, Struct, Value};
use crate::schema::ListKind;

/// Values of types that have nothing to do with each other are not equal.
pub(crate) fn equal(a: &Value<'_>, b: &Value<'_>) -> Result<bool, String> {
    Ok(match (a, b) {
        (Value::Null, Value::Null) => true,
        (Value::Bool(a), Value::Bool(b)) => a == b,
        (Value::String(a), Value::String(b)) => **a == **b,
        (Value::Bytes(a), Value::Bytes(b)) => a == b,
        (Value::Timestamp(a), Value::Timestamp(b)) => a == b,
        (Value::Duration(a), Value::Duration(b)) => a == b,
        (Value::Type(a), Value::Type(b)) => a == b,
        (Value::Opaque(a), Value::Opaque(b)) => a.equals(b),
        (Value::Optional(None), Value::Optional(None)) => true,
        (Value::Optional(Some(a)), Value::Optional(Some(b))) => equal(a, b)?,
        (Value::List(a), Value::List(b)) => lists(a, b)?,
        (Value::Map(a), Value::Map(b)) => maps(a, b)?,
        (Value::Struct(a), Value::Struct(b)) => structs(a, b)?,
        _ => numbers(a, b) == Some(Ordering::Equal),
    })
}

/// None: the two can't be compared.
pub(crate) fn compare(a: &Value<'_>, b: &Value<'_>) -> Option<Ordering> {
    match (a, b) {
        (Value::Bool(a), Value::Bool(b)) => Some(a.cmp(b)),
        (Value::String(a), Value::String(b)) => Some((**a).cmp(&**b)),
        (Value::Bytes(a), Value::Bytes(b)) => Some(a.cmp(b)),
        (Value::Timestamp(a), Value::Timestamp(b)) => Some(a.cmp(b)),
        (Value::Duration(a), Value::Duration(b)) => Some(a.cmp(b)),
        _ => numbers(a, b),
    }
}

fn numbers(a: &Value<'_>, b: &Value<'_>) -> Option<Ordering> {
    let whole = |value: &Value<'_>| match value {
        Value::Int(value) => Some(i128::from(*value)),
        Value::Uint(value) => Some(i128::from(*value)),
        _ => None,
    };
    match (a, b) {
        (Value::Double(a), Value::Double(b)) => a.partial_cmp(b),
        (Value::Double(a), b) => mixed(whole(b)?, *a).map(Ordering::reverse),
        (a, Value::Double(b)) => mixed(whole(a)?, *b),
        (a, b) => Some(whole(a)?.cmp(&whole(b)?)),
    }
}

fn mixed(whole: i128, double: f64) -> Option<Ordering> {
    if double.is_nan() {
        return None;
    }
    if double.abs() > 1e20 {
        return Some(if double > 0.0 { Ordering::Less } else { Ordering::Greater });
    }
    let floor = double.floor();
    Some(whole.cmp(&(floor as i128)).then(if double > floor { Ordering::Less } else { Ordering::Equal }))
}

/// The order of a set and of a map's elements means nothing.
fn lists(a: &List<'_>, b: &List<'_>) -> Result<bool, String> {
    if a.len() != b.len() {
        return Ok(false);
    }
    if let (List::Json(a, Some(declaration)), List::Json(b, _)) = (a, b) {
        match &declaration.list {
            ListKind::Atomic => {}
            ListKind::Set => {
                let before: HashSet<String> = b.iter().map(Json::to_string).collect();
                return Ok(a.iter().all(|one| before.contains(&one.to_string())));
            }
            ListKind::Map(keys) => {
                let key = |one: &Json| keys.iter().map(|key| one[key.as_str()].to_string()).collect::<Vec<_>>();
                let before: HashMap<Vec<String>, &Json> = b.iter().map(|one| (key(one), one)).collect();
                return Ok(a.iter().all(|one| before.get(&key(one)).is_some_and(|other| *other == one)));
            }
        }
    }
    for (a, b) in a.iter().zip(b.iter()) {
        if !equal(&a?, &b?)? {
            return Ok(false);
        }
    }
    Ok(true)
}

fn structs(a: &Struct<'_>, b: &Struct<'_>) -> Result<bool, String> {
    if a.name != b.name || !a.fields.keys().eq(b.fields.keys()) {
        return Ok(false);
    }
    for (a, b) in a.fields.values().zip(b.fields.values()) {
        if !equal(a, b)? {
            return Ok(false);
        }
    }
    Ok(true)
}

fn maps(a: &Map<'_>, b: &Map<'_>) -> Result<bool, String> {
    if a.len() != b.len() {
        return Ok(false);
    }
    for key in a.keys() {
        let (Some(a), Some(b)) = (a.get(&key), b.get(&key)) else { return Ok(false) };
        if !equal(&a?, &b?)? {
            return Ok(false);
        }
    }
    Ok(true)
}
