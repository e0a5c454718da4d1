//! Small reads and writes on dynamic JSON that strategies and printers share.
//!
//! A missing field, `null` and a value of the wrong type all read as empty: the decoder has refused wrong types
//! before any rule runs.

use serde_json::{Map, Value};

pub(crate) type Object = Map<String, Value>;

static NULL: Value = Value::Null;

/// `text(&pod["spec"]["nodeName"])`: the string, or `""`.
pub(crate) fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

/// The elements of a list, or none.
pub(crate) fn items(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

/// The entries of a map, or none.
pub(crate) fn entries(value: &Value) -> impl Iterator<Item = (&String, &Value)> {
    value.as_object().into_iter().flatten()
}

pub(crate) fn int(value: &Value) -> i64 {
    value.as_i64().unwrap_or_default()
}

pub(crate) fn truth(value: &Value) -> bool {
    value.as_bool().unwrap_or_default()
}

/// True for a missing field, `null`, `""`, `[]` and `{}`.
pub(crate) fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::String(text) => text.is_empty(),
        Value::Array(list) => list.is_empty(),
        Value::Object(map) => map.is_empty(),
        Value::Bool(_) | Value::Number(_) => false,
    }
}

/// True where a field is there and not `null`: what a Go pointer that is not nil is.
pub(crate) fn is_set(value: &Value) -> bool {
    !value.is_null()
}

pub(crate) fn get<'a>(object: &'a Object, key: &str) -> &'a Value {
    object.get(key).unwrap_or(&NULL)
}

/// Fills `key` in where it is missing, `null` or the empty string.
pub(crate) fn set_default(object: &mut Object, key: &str, value: impl Into<Value>) {
    match object.get_mut(key) {
        Some(Value::Null) | None => {
            object.insert(key.to_owned(), value.into());
        }
        Some(Value::String(text)) if text.is_empty() => {
            object.insert(key.to_owned(), value.into());
        }
        Some(_) => {}
    }
}

/// The object at `key`, made where it is missing or `null`; `None` where something else stands there.
pub(crate) fn object_at<'a>(object: &'a mut Object, key: &str) -> Option<&'a mut Object> {
    set_default(object, key, Value::Object(Map::new()));
    object.get_mut(key)?.as_object_mut()
}

/// The object at `key` where there is one.
pub(crate) fn object_mut<'a>(value: &'a mut Value, key: &str) -> Option<&'a mut Object> {
    value.get_mut(key)?.as_object_mut()
}

/// The list at `key` where there is one.
pub(crate) fn items_mut<'a>(object: &'a mut Object, key: &str) -> &'a mut [Value] {
    object.get_mut(key).and_then(Value::as_array_mut).map_or(&mut [], Vec::as_mut_slice)
}

/// Makes `object[key]` what `source[key]` is, a missing field included.
pub(crate) fn keep(object: &mut Value, source: &Value, key: &str) {
    let Some(object) = object.as_object_mut() else { return };
    match source.get(key) {
        Some(value) => {
            if object.get(key) != Some(value) {
                object.insert(key.to_owned(), value.clone());
            }
        }
        None => {
            object.remove(key);
        }
    }
}

/// Fields that upstream's types hold by value and leave out when they are zero or false; a client that writes
/// `hostNetwork: false` and one that leaves it out mean the same.
const BY_VALUE: &[&str] = &[
    "containerPort",
    "hostIPC",
    "hostNetwork",
    "hostPID",
    "hostPort",
    "minReadySeconds",
    "nodePort",
    "paused",
    "publishNotReadyAddresses",
    "readOnly",
    "stdin",
    "stdinOnce",
    "tty",
    "unschedulable",
];

/// Equality as upstream's semantic deep equality has it: empty lists and strings equal missing ones.
pub(crate) fn same(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Object(a), Value::Object(b)) => {
            a.iter().all(|(key, value)| match b.get(key) {
                Some(other) => same(value, other),
                None => is_blank(key, value),
            }) && b.iter().all(|(key, value)| a.contains_key(key) || is_blank(key, value))
        }
        (Value::Array(a), Value::Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b)),
        (a, b) => a == b || (is_blank("", a) && is_blank("", b)),
    }
}

/// Maps of strings, where upstream writes neither an empty one nor a missing one.
const MAPS: &[&str] = &["annotations", "labels", "limits", "matchLabels", "nodeSelector", "parameters", "requests"];

fn is_blank(key: &str, value: &Value) -> bool {
    match value {
        Value::Object(map) => map.is_empty() && MAPS.contains(&key),
        Value::Null => true,
        Value::String(text) => text.is_empty(),
        Value::Array(list) => list.is_empty(),
        Value::Bool(false) => BY_VALUE.contains(&key),
        Value::Number(number) => number.as_i64() == Some(0) && BY_VALUE.contains(&key),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn sameness_ignores_what_upstream_would_not_write() {
        let rows = [
            (json!({"a": []}), json!({}), true),
            (json!({"a": null, "b": ""}), json!({}), true),
            (json!({"hostNetwork": false}), json!({}), true),
            (json!({"automountServiceAccountToken": false}), json!({}), false),
            (json!({"emptyDir": {}}), json!({}), false),
            (json!({"nodeSelector": {}}), json!({}), true),
            (json!({"a": {"b": [{"c": null}]}}), json!({"a": {"b": [{}]}}), true),
            (json!({"a": 1}), json!({"a": 2}), false),
            (json!(null), json!([]), true),
        ];
        for (a, b, expected) in rows {
            assert_eq!(same(&a, &b), expected, "{a} {b}");
            assert_eq!(same(&b, &a), expected, "{b} {a}");
        }
    }
}
