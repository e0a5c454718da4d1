//! A watch's events as one client sees them: in its selection, its version, its form and its encoding.

use std::sync::Arc;

use bytes::Bytes;
use knarr_api::{registry::Resource, status::ApiError};
use serde_json::json;

use crate::{
    cache::{CachedEvent, Change, Expired, at_revision, frame},
    codec::{Accept, Encoding, Form, Shown, message, respond, table_of},
    contract::Stored,
    convert,
    custom::Custom,
    env::Env,
    handlers::Selection,
};

pub(super) struct View {
    pub resource: &'static Resource,
    pub custom: Option<Arc<Custom>>,
    pub selection: Selection,
    pub accept: Accept,
    pub env: Env,
}

impl View {
    /// An event as this watcher sees it: an object that leaves its selection is deleted, one that enters is added.
    pub fn event(&self, event: &CachedEvent) -> Option<Bytes> {
        let everything = self.selection.is_everything();
        let selects =
            |object: &Stored| if everything { self.in_namespace(object) } else { self.selection.matches(object) };
        let now = event.change != Change::Deleted && selects(&event.object);
        let before = event.before.as_deref().is_some_and(&selects);
        let change = match (before, now) {
            (false, false) => return None,
            (false, true) => Change::Added,
            (true, true) => Change::Modified,
            (true, false) => Change::Deleted,
        };
        if change == event.change && self.is_plain(&event.object) {
            return Some(match self.accept.encoding {
                Encoding::Protobuf => event.message_frame(|kind, object| self.message(kind, object)),
                _ => event.frame(),
            });
        }
        if change == Change::Deleted && event.change != Change::Deleted {
            // As the selection last saw it, under the revision of the change that took it away.
            let last = event.before.as_deref().unwrap_or(&event.object);
            return Some(self.object(change, &at_revision(last, event.revision)));
        }
        Some(self.object(change, &event.object))
    }

    fn in_namespace(&self, object: &Stored) -> bool {
        self.selection.namespace.is_empty() || object.namespace() == self.selection.namespace
    }

    /// True where all watchers of this form see the same bytes. A custom resource that is stored as it is shown is such.
    fn is_plain(&self, object: &Stored) -> bool {
        self.accept.form == Form::Whole && !self.is_converted_by_webhook() && self.converted(object).is_none()
    }

    /// What a webhook converts comes here in the version that is shown.
    pub fn is_converted_by_webhook(&self) -> bool {
        self.custom.as_ref().is_some_and(|custom| custom.converter.is_some())
    }

    fn converted(&self, object: &Stored) -> Option<Arc<Stored>> {
        if self.is_converted_by_webhook() {
            return None;
        }
        convert::converted(self.resource, self.custom.as_deref(), object)
    }

    fn message(&self, kind: &str, object: &Stored) -> Bytes {
        message::event(self.resource, self.accept.form, kind, object)
    }

    /// An object that is shared with nobody's events.
    pub fn object(&self, change: Change, object: &Stored) -> Bytes {
        let converted;
        let custom = self.custom.as_deref();
        let object = match self.converted(object) {
            None => object,
            Some(other) => {
                converted = other;
                &*converted
            }
        };
        if self.accept.encoding == Encoding::Protobuf {
            return self.message(change.as_str(), object);
        }
        if self.accept.form == Form::Whole
            && let Some(line) = object.line_of(change)
        {
            return line;
        }
        let json = match self.accept.form {
            Form::Whole => object.json.clone(),
            Form::Metadata { version } => respond::partial(&object.json, version),
            Form::Table { version, include } => {
                let printer = custom.map(|custom| custom.version().columns());
                let shown = Shown { resource: self.resource, printer };
                table_of(shown, std::slice::from_ref(object), "{}", version, include, self.env.now())
            }
        };
        frame(change.as_str(), json.trim_ascii_end())
    }

    /// Says that everything up to a revision was sent; `ends_initial`: that what was there at the start was.
    pub fn bookmark(&self, revision: u64, ends_initial: bool) -> Bytes {
        let mut metadata = json!({"resourceVersion": revision.to_string(), "creationTimestamp": null});
        if ends_initial {
            metadata["annotations"] = json!({"k8s.io/initial-events-end": "true"});
        }
        let partial = |version: &str| json!({"kind": "PartialObjectMetadata", "apiVersion": format!("meta.k8s.io/{version}"), "metadata": metadata});
        let object = match self.accept.form {
            Form::Whole => {
                json!({"kind": self.resource.kind, "apiVersion": self.resource.api_version(), "metadata": metadata})
            }
            Form::Metadata { version } => partial(version),
            Form::Table { version, .. } => {
                json!({"kind": "Table", "apiVersion": format!("meta.k8s.io/{version}"),
                       "metadata": {"resourceVersion": revision.to_string()}, "columnDefinitions": [],
                       "rows": [{"cells": [], "object": partial(version)}]})
            }
        };
        let json = object.to_string();
        match self.accept.encoding {
            Encoding::Protobuf => message::bookmark(self.resource, self.accept.form, json.as_bytes()),
            _ => frame("BOOKMARK", json.as_bytes()),
        }
    }

    /// What ends a watch that can no longer be gone on with.
    pub fn expired(&self, expired: &Expired) -> Bytes {
        self.failed(&ApiError::expired(expired.to_string()))
    }

    /// What ends a watch with an error.
    pub fn failed(&self, error: &ApiError) -> Bytes {
        match self.accept.encoding {
            Encoding::Protobuf => message::error_event(error),
            _ => frame("ERROR", error.to_value().to_string().as_bytes()),
        }
    }
}
