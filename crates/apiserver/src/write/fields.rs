//! Who owns which field: every write path passes here once, before the object is validated.

use jiff::Timestamp;
use serde_json::Value;

use super::Call;

/// How `metadata.managedFields` comes about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tracking {
    /// The fields that differ belong to the writer from now on.
    Update,
    /// Server-side apply has written them already.
    Applied,
}

/// Brings `managedFields` of a new or changed object up to date.
pub fn track(_object: &mut Value, _old: Option<&Value>, _call: &Call<'_>, _tracking: Tracking, _now: Timestamp) {}
