//! Who owns which field: every write path passes here once, before admission adds what belongs to nobody.

use jiff::Timestamp;
use knarr_api::{
    apply::{self, Writer},
    registry::Resource,
    schema,
};
use serde_json::Value;

use super::Call;
use crate::custom::Custom;

/// How `metadata.managedFields` comes about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tracking {
    /// The fields that differ belong to the writer from now on.
    Update,
    /// As `Update`, through the `scale` subresource: the number has an owner of its own, as upstream has it.
    Scale,
    /// Server-side apply has written them already.
    Applied,
}

/// Who writes to which part of an object of a resource.
pub fn writer<'a>(
    resource: &'static Resource,
    custom: Option<&'a Custom>,
    subresource: &'a str,
    manager: &'a str,
    now: Timestamp,
) -> Writer<'a> {
    let (group, version, kind) = resource.gvk();
    let has_status = custom.map_or(resource, |custom| custom.resource).subresource("status").is_some();
    let schema = match custom {
        Some(custom) => custom.version().schema(),
        None => schema::of(group, version, kind),
    };
    Writer { schema, manager, subresource, now, reset: apply::reset_fields(has_status, subresource) }
}

/// Brings `managedFields` of a new or changed object up to date.
pub fn track(object: &mut Value, old: Option<&Value>, call: &Call<'_>, tracking: Tracking, now: Timestamp) {
    let subresource = match tracking {
        // Upstream writes a binding past its field managers: what it sets belongs to nobody.
        Tracking::Update if call.subresource == "binding" => return,
        Tracking::Update => call.subresource,
        Tracking::Scale => "scale",
        Tracking::Applied => return,
    };
    let writer = writer(call.ruled_as(), call.custom, subresource, &call.options.manager, now);
    apply::track_update(writer, old, object);
}
