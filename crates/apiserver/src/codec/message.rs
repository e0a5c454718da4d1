//! Objects, lists and events in protobuf. What is stored is JSON; a message is made of it when somebody asks, and kept.

use std::{borrow::Cow, sync::Arc};

use bytes::Bytes;
use knarr_api::{
    protobuf::{self, Encoder, ListHead, ProtobufError},
    registry::Resource,
    status::ApiError,
};

use super::{accept::Form, respond::ListMeta};
use crate::contract::Stored;

/// What goes on the envelope of an object, and who writes what is in it.
struct Message {
    api_version: String,
    kind: String,
    encoder: Encoder,
}

impl Message {
    fn of(resource: &'static Resource, form: Form) -> Result<Self, ApiError> {
        let (group, version, kind) = resource.gvk();
        let known = match form {
            Form::Metadata { version } => Some(Self {
                api_version: format!("meta.k8s.io/{version}"),
                kind: "PartialObjectMetadata".into(),
                encoder: Encoder::metadata(),
            }),
            Form::Whole => Encoder::of(group, version, kind).map(|encoder| Self {
                api_version: resource.api_version(),
                kind: kind.to_owned(),
                encoder,
            }),
            Form::Table { .. } => None,
        };
        // Negotiation offers no such thing.
        known.ok_or_else(|| {
            failed(&ProtobufError::UnknownKind { api_version: resource.api_version(), kind: kind.to_owned() })
        })
    }

    fn envelope(&self, message: &[u8]) -> Vec<u8> {
        protobuf::envelope(&self.api_version, &self.kind, message)
    }

    /// A whole object's message is kept; of metadata hardly anybody asks for a second time.
    fn write<'s>(&self, form: Form, stored: &'s Stored) -> Result<Cow<'s, [u8]>, ApiError> {
        let written = match form {
            Form::Whole => stored.message(self.encoder).map(Cow::Borrowed),
            _ => self.encoder.message(&stored.json).map(Cow::Owned),
        };
        written.map_err(|cause| failed(&cause))
    }
}

fn failed(cause: &ProtobufError) -> ApiError {
    tracing::error!(%cause, "an object could not be written as protobuf; this is a bug");
    ApiError::internal(cause)
}

/// An object that says itself what it is, such as a Status.
pub fn any(json: &[u8]) -> Result<Bytes, ApiError> {
    protobuf::encode(json).map(Bytes::from).map_err(|cause| failed(&cause))
}

pub fn object(resource: &'static Resource, form: Form, stored: &Stored) -> Result<Bytes, ApiError> {
    let message = Message::of(resource, form)?;
    Ok(message.envelope(&message.write(form, stored)?).into())
}

/// An event of a watch with an object of a resource. One that cannot be written becomes an error, after which clients
/// list again.
pub fn event(resource: &'static Resource, form: Form, kind: &str, stored: &Stored) -> Bytes {
    framed(kind, object(resource, form, stored))
}

/// An event whose object is not stored, from its JSON.
pub fn bookmark(resource: &'static Resource, form: Form, json: &[u8]) -> Bytes {
    let object = Message::of(resource, form).and_then(|message| {
        let written = message.encoder.message(json).map_err(|cause| failed(&cause))?;
        Ok(message.envelope(&written).into())
    });
    framed("BOOKMARK", object)
}

fn framed(kind: &str, object: Result<Bytes, ApiError>) -> Bytes {
    match object {
        Ok(object) => protobuf::watch_frame(kind, &object).into(),
        Err(error) => error_event(&error),
    }
}

pub fn error_event(error: &ApiError) -> Bytes {
    let status = any(error.to_value().to_string().as_bytes()).unwrap_or_default();
    protobuf::watch_frame("ERROR", &status).into()
}

/// A list in pieces of about `piece_bytes`. The envelope begins with the length of all that follows, so that the
/// last item must be written before the first can be sent; others get a turn in between.
pub async fn list(
    resource: &'static Resource,
    form: Form,
    items: &[Arc<Stored>],
    meta: &ListMeta,
    piece_bytes: usize,
) -> Result<Vec<Bytes>, ApiError> {
    let message = Message::of(resource, form)?;
    let revision = if meta.revision > 0 { meta.revision.to_string() } else { String::new() };
    let remaining = meta.remaining.filter(|remaining| *remaining > 0);
    let head = ListHead {
        resource_version: &revision,
        continue_token: &meta.continue_token,
        remaining_item_count: remaining.and_then(|remaining| i64::try_from(remaining).ok()),
    };
    let mut piece = head.message();
    let (mut pieces, mut length) = (Vec::new(), 0);
    for item in items {
        let written = message.write(form, item)?;
        piece.extend_from_slice(&protobuf::list_item(&written));
        piece.extend_from_slice(&written);
        if piece.len() >= piece_bytes {
            length += piece.len();
            pieces.push(Bytes::from(std::mem::take(&mut piece)));
            tokio::task::yield_now().await;
        }
    }
    length += piece.len();
    let (start, end) = protobuf::envelope_around(&message.api_version, &format!("{}List", message.kind), length);
    piece.extend_from_slice(end);
    pieces.push(piece.into());
    pieces.insert(0, start.into());
    Ok(pieces)
}
