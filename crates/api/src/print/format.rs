//! How cells are written.

use jiff::Timestamp;
use serde_json::Value;

use crate::{
    selector::{LabelSelector, Operator},
    time,
    value::{entries, int, items, text},
};

pub(super) const NONE: &str = "<none>";
pub(super) const UNSET: &str = "<unset>";
pub(super) const UNKNOWN: &str = "<unknown>";

pub(super) fn name(object: &Value) -> Value {
    text(&object["metadata"]["name"]).into()
}

pub(super) fn age(object: &Value, now: Timestamp) -> Value {
    time::age(&object["metadata"]["creationTimestamp"], now).into()
}

pub(super) fn number(value: &Value) -> Value {
    int(value).into()
}

pub(super) fn string(value: &Value) -> Value {
    text(value).into()
}

/// The string, or a word for none.
pub(super) fn or<'a>(value: &'a Value, missing: &'a str) -> &'a str {
    match text(value) {
        "" => missing,
        written => written,
    }
}

/// A number or a string as it stands; a word where it is missing.
pub(super) fn scalar(value: &Value, missing: &str) -> String {
    match value {
        Value::Null => missing.into(),
        Value::String(written) => written.clone(),
        other => other.to_string(),
    }
}

/// `a,b`, or `<none>`.
pub(super) fn join_or_none(list: &[String]) -> String {
    if list.is_empty() { NONE.into() } else { list.join(",") }
}

/// The first three, and how many more there are.
pub(super) fn first_three(list: &[String], missing: &str) -> String {
    match list.len() {
        0 => missing.into(),
        1..=3 => list.join(","),
        all => format!("{} + {} more...", list[..3].join(","), all - 3),
    }
}

/// `a=b,c=d`
pub(super) fn labels(map: &Value) -> String {
    let list: Vec<String> = entries(map).map(|(key, value)| format!("{key}={}", text(value))).collect();
    join_or_none(&list)
}

/// A `metav1.LabelSelector` as one line.
pub(super) fn selector(selector: &Value) -> String {
    let Ok(parsed) = LabelSelector::from_value(selector) else { return "<error>".into() };
    if parsed.requirements().is_empty() {
        return NONE.into();
    }
    // Upstream writes an equality with one sign and everything else as the query form does.
    let one = |requirement: &crate::selector::Requirement| match (requirement.operator, requirement.values.as_slice()) {
        (Operator::In, [value]) => format!("{}={value}", requirement.key),
        _ => requirement.to_string(),
    };
    parsed.requirements().iter().map(one).collect::<Vec<_>>().join(",")
}

/// Names and images of a pod template's containers, each as one cell.
pub(super) fn containers(spec: &Value) -> (Value, Value) {
    let column = |key: &str| {
        let cells: Vec<&str> = items(&spec["containers"]).iter().map(|container| text(&container[key])).collect();
        cells.join(",").into()
    };
    (column("name"), column("image"))
}

pub(super) fn condition<'a>(object: &'a Value, kind: &str) -> Option<&'a Value> {
    items(&object["status"]["conditions"]).iter().find(|condition| condition["type"] == kind)
}

pub(super) fn is_condition_true(object: &Value, kind: &str) -> bool {
    condition(object, kind).is_some_and(|condition| condition["status"] == "True")
}

/// `RWO,ROX`: each mode once, in upstream's order.
pub(super) fn access_modes(modes: &Value) -> String {
    let short =
        [("ReadWriteOnce", "RWO"), ("ReadOnlyMany", "ROX"), ("ReadWriteMany", "RWX"), ("ReadWriteOncePod", "RWOP")];
    let list: Vec<&str> =
        short.iter().filter(|(mode, _)| items(modes).iter().any(|one| one == mode)).map(|(_, short)| *short).collect();
    list.join(",")
}
