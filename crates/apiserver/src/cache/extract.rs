//! What is kept of an object beside its bytes: the few values that selectors ask about.

use std::sync::Arc;

use knarr_api::{custom::Definition, registry::Resource, strategy};
use knarr_store::KeyValue;
use serde_json::Value;

use super::{event::Change, splice};
use crate::{
    contract::{Fields, KeptForm, KeptMessage, Labels, Stored},
    custom,
};

#[derive(Clone, Debug)]
pub struct Extract {
    pub labels: Labels,
    pub fields: Fields,
}

impl Extract {
    /// `definition`: what a custom resource's selectable fields are read from.
    pub fn of(resource: &'static Resource, definition: Option<&Definition>, object: &Value) -> Self {
        let labels = object["metadata"]["labels"].as_object();
        let labels = labels.into_iter().flatten().map(|(key, value)| (key.as_str().into(), text(value))).collect();
        let fields = match definition {
            Some(definition) => custom::fields(definition, object).map(Into::into).collect(),
            None => {
                let rules = strategy::of(resource);
                rules.selectable_fields().iter().map(|field| rules.field(object, field).into()).collect()
            }
        };
        Self { labels, fields }
    }

    /// For bytes that this process did not write.
    pub fn parse(resource: &'static Resource, definition: Option<&Definition>, bytes: &[u8]) -> Self {
        match serde_json::from_slice(bytes) {
            Ok(object) => Self::of(resource, definition, &object),
            Err(cause) => {
                tracing::error!(%cause, resource = resource.plural, "a stored object is not valid JSON");
                Self { labels: Arc::default(), fields: Arc::default() }
            }
        }
    }

    /// A row of the store as it is served.
    pub fn of_row(self, key: &str, row: &KeyValue) -> Stored {
        let is_new = row.create_revision == row.mod_revision;
        let change = if is_new { Change::Added } else { Change::Modified };
        self.stored(key, &row.value, row.mod_revision.0, change)
    }

    /// `change`: what watchers are told of it.
    pub fn stored(self, key: &str, bytes: &[u8], revision: u64, change: Change) -> Stored {
        let Self { labels, fields } = self;
        let line = splice::with_revision(bytes, revision, change);
        Stored {
            key: key.into(),
            json: line.object,
            line: line.whole,
            resource_version: revision,
            labels,
            fields,
            message: KeptMessage::default(),
            shown: KeptForm::default(),
        }
    }
}

fn text(value: &Value) -> Box<str> {
    value.as_str().unwrap_or_default().into()
}
