//! Small reads on dynamic JSON: what is missing, `null` or of another type reads as empty.

use serde_json::Value;

pub(crate) fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

pub(crate) fn items(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

/// The list under a key where there is one. Indexing would put a `null` there where there is none.
pub(crate) fn items_mut<'a>(object: &'a mut Value, key: &str) -> &'a mut [Value] {
    object.get_mut(key).and_then(Value::as_array_mut).map_or(&mut [], Vec::as_mut_slice)
}

/// Copies a field that is there.
pub(crate) fn copy(to: &mut Value, from: &Value, key: &str) {
    if let Some(value) = from.get(key).filter(|value| !value.is_null()) {
        to[key] = value.clone();
    }
}

/// The list under a key, made where there is none. `object` must be an object.
pub(crate) fn list_mut<'a>(object: &'a mut Value, key: &str) -> &'a mut Vec<Value> {
    let list = &mut object[key];
    if !list.is_array() {
        *list = Value::Array(Vec::new());
    }
    match list {
        Value::Array(items) => items,
        _ => unreachable!("it was made an array above"),
    }
}

pub(crate) fn name(object: &Value) -> &str {
    text(&object["metadata"]["name"])
}

pub(crate) fn annotation<'a>(object: &'a Value, key: &str) -> &'a str {
    text(&object["metadata"]["annotations"][key])
}

pub(crate) fn is_mirror_pod(pod: &Value) -> bool {
    pod["metadata"]["annotations"].get("kubernetes.io/config.mirror").is_some()
}
