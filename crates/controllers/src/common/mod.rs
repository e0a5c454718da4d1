//! What several controllers share: questions about pods, ownership, expectations, batches.

pub mod batch;
pub mod claim;
pub mod definitions;
pub mod discovery;
pub mod expectations;
pub mod fnv;
pub mod history;
pub mod intstr;
pub mod owners;
pub mod pods;
pub mod rank;
pub mod selector;
pub mod service;
pub mod slices;
pub mod trace;
pub mod written;

/// Counts that the API leaves out where they are zero.
pub fn unless_zero(count: i32) -> Option<i32> {
    (count != 0).then_some(count)
}

/// A list in a merge patch: an empty one takes the field away, as the API leaves empty lists out.
pub fn some_or_null<T: serde::Serialize>(list: Vec<T>) -> serde_json::Value {
    if list.is_empty() { serde_json::Value::Null } else { serde_json::json!(list) }
}
