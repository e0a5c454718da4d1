//! Resources that are served in two versions but stored in one, at the edges of the server: what comes in is
//! converted before the rules see it, what goes out as it leaves. Which fields are what is the API crate's to know.

use std::sync::Arc;

use bytes::Bytes;
use knarr_api::{registry::Resource, strategy::convert};
use serde_json::Value;

use crate::{
    cache::{Change, splice},
    contract::{KeptForm, KeptMessage, Stored},
    custom::Custom,
};

/// True where an object is served byte by byte as the cache has it.
pub fn is_served_as_stored(resource: &'static Resource, custom: Option<&Custom>) -> bool {
    custom.is_none() && resource.same(resource.stored_as())
}

/// The object in the version of `resource`; the same pointer where that is the stored one.
pub fn served(resource: &'static Resource, custom: Option<&Custom>, stored: Arc<Stored>) -> Arc<Stored> {
    converted(resource, custom, &stored).unwrap_or(stored)
}

/// As [`served`]; `None` where the object is served as it is stored.
pub fn converted(resource: &'static Resource, custom: Option<&Custom>, stored: &Stored) -> Option<Arc<Stored>> {
    if is_served_as_stored(resource, custom) {
        return None;
    }
    let Some(custom) = custom else {
        let value = value_to_served(resource, None, stored.value());
        return Some(Arc::new(with_value(stored, &value)));
    };
    if let Some(kept) = stored.shown.get(&custom.definition, resource.version) {
        return kept;
    }
    let as_stored = stored.value();
    let value = value_to_served(resource, Some(custom), as_stored.clone());
    let shown = (value != as_stored).then(|| Arc::new(with_value(stored, &value)));
    stored.shown.keep(&custom.definition, resource.version, shown.clone());
    shown
}

/// What a webhook made of a stored object, kept for others as everything that is shown.
pub fn keep_converted(
    resource: &'static Resource,
    custom: &Custom,
    stored: &Arc<Stored>,
    mut converted: Value,
) -> Arc<Stored> {
    custom.to_served(&mut converted);
    let shown = (converted != stored.value()).then(|| Arc::new(with_value(stored, &converted)));
    stored.shown.keep(&custom.definition, resource.version, shown.clone());
    shown.unwrap_or_else(|| stored.clone())
}

fn with_value(stored: &Stored, value: &Value) -> Stored {
    Stored {
        key: stored.key.clone(),
        json: bytes(value),
        line: Bytes::new(),
        resource_version: stored.resource_version,
        labels: stored.labels.clone(),
        fields: stored.fields.clone(),
        message: KeptMessage::default(),
        shown: KeptForm::default(),
    }
}

/// Written as the cache has it, so that another revision can be put in where a watch sends the last state of what left
/// its selection.
fn bytes(value: &Value) -> Bytes {
    match value["metadata"]["resourceVersion"].as_str().and_then(|revision| revision.parse().ok()) {
        Some(revision) => splice::with_revision(&splice::encode(value), revision, Change::Modified).object,
        None => Bytes::from(serde_json::to_vec(value).unwrap_or_default()),
    }
}

pub fn value_to_served(resource: &'static Resource, custom: Option<&Custom>, mut object: Value) -> Value {
    match custom {
        Some(custom) => custom.to_served(&mut object),
        None => convert::to_served(resource.group, resource.version, resource.kind, &mut object),
    }
    object
}

/// Brings an object of the client's version into the stored one.
pub fn to_stored(resource: &'static Resource, custom: Option<&Custom>, object: &mut Value) {
    match custom {
        Some(custom) => custom.to_stored(object),
        None => convert::to_storage(resource.group, resource.version, resource.kind, object),
    }
}
