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

/// A list, in pieces of about `piece_bytes`. The envelope begins with the length of all that follows, so that every
/// item is written before the first is sent; others get a turn in between. What is kept of an object is not copied
/// until its piece is due.
pub async fn list(
    resource: &'static Resource,
    form: Form,
    items: Vec<Arc<Stored>>,
    meta: &ListMeta,
    piece_bytes: usize,
) -> Result<ListPieces, ApiError> {
    let message = Message::of(resource, form)?;
    let revision = if meta.revision > 0 { meta.revision.to_string() } else { String::new() };
    let remaining = meta.remaining.filter(|remaining| *remaining > 0);
    let head = ListHead {
        resource_version: &revision,
        continue_token: &meta.continue_token,
        remaining_item_count: remaining.and_then(|remaining| i64::try_from(remaining).ok()),
    };
    let head = head.message();
    let mut written: Vec<Item> = Vec::with_capacity(items.len());
    let (mut length, mut unbroken) = (head.len(), 0);
    for item in items {
        let (size, made) = match message.write(form, &item)? {
            Cow::Borrowed(kept) => (kept.len(), None),
            Cow::Owned(made) => (made.len(), Some(made)),
        };
        written.push(made.map_or_else(|| Item::Kept(item), Item::Made));
        length += protobuf::list_item(size).len() + size;
        unbroken += size;
        if unbroken >= piece_bytes {
            unbroken = 0;
            tokio::task::yield_now().await;
        }
    }
    let (mut start, end) = protobuf::envelope_around(&message.api_version, &format!("{}List", message.kind), length);
    start.extend_from_slice(&head);
    Ok(ListPieces { start, items: written.into_iter(), encoder: message.encoder, end: Some(end), piece_bytes })
}

/// The message of one item.
enum Item {
    Kept(Arc<Stored>),
    Made(Vec<u8>),
}

/// See [`list`].
pub struct ListPieces {
    start: Vec<u8>,
    items: std::vec::IntoIter<Item>,
    encoder: Encoder,
    /// `None` once it was sent.
    end: Option<&'static [u8]>,
    piece_bytes: usize,
}

impl Iterator for ListPieces {
    type Item = Bytes;

    fn next(&mut self) -> Option<Bytes> {
        self.end?;
        let mut piece = std::mem::take(&mut self.start);
        while piece.len() < self.piece_bytes {
            let Some(item) = self.items.next() else {
                piece.extend_from_slice(self.end.take()?);
                break;
            };
            let written = match &item {
                // It was made when the list was measured, and is there from then on.
                Item::Kept(stored) => stored.message(self.encoder).unwrap_or_default(),
                Item::Made(made) => made,
            };
            piece.extend_from_slice(&protobuf::list_item(written.len()));
            piece.extend_from_slice(written);
        }
        Some(piece.into())
    }
}
