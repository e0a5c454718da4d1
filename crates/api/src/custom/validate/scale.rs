//! What the scale subresource reads must be what it can show.

use serde_json::Value;

use super::super::paths::{ScalePaths, find};
use crate::field::{FieldError, FieldErrorKind};

/// The replicas that are wished for, and those there are.
pub(crate) fn check(scale: &ScalePaths, object: &Value) -> Vec<FieldError> {
    [&scale.spec_replicas, &scale.status_replicas].into_iter().filter_map(|path| replicas(object, path)).collect()
}

fn replicas(object: &Value, path: &str) -> Option<FieldError> {
    let found = find(object, path)?;
    let error = |value: i64, detail: String| {
        let (kind, field) = (FieldErrorKind::Invalid, path.to_owned());
        Some(FieldError { kind, field, value: Some(value.into()), detail })
    };
    match found.as_i64() {
        Some(replicas) if replicas < 0 => error(replicas, "should be a non-negative integer".to_owned()),
        Some(replicas) if replicas > i64::from(i32::MAX) => {
            error(replicas, format!("should be less than or equal to {}", i32::MAX))
        }
        Some(_) => None,
        None => {
            let kind = match found {
                Value::Bool(_) => "bool",
                Value::Number(_) => "float64",
                Value::String(_) => "string",
                Value::Array(_) => "[]interface {}",
                _ => "map[string]interface {}",
            };
            let shown = found.as_str().map_or_else(|| found.to_string(), str::to_owned);
            error(0, format!("{path} accessor error: {shown} is of the type {kind}, expected int64"))
        }
    }
}
