//! Objects, lists and events in protobuf. What is stored is JSON; a message is made of it when somebody asks.

use bytes::Bytes;
use knarr_api::{
    protobuf::{self, Encoder, ListHead, ProtobufError},
    registry::Resource,
    status::ApiError,
};

use super::{accept::Form, respond::ListMeta};

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

    fn envelope(&self, json: &[u8]) -> Result<Vec<u8>, ApiError> {
        let message = self.encoder.message(json).map_err(|cause| failed(&cause))?;
        Ok(protobuf::envelope(&self.api_version, &self.kind, &message))
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

/// An object of a resource, from its whole JSON.
pub fn object(resource: &'static Resource, form: Form, json: &[u8]) -> Result<Bytes, ApiError> {
    Ok(Message::of(resource, form)?.envelope(json)?.into())
}

/// An event of a watch with an object of a resource. One that cannot be written becomes an error, after which clients
/// list again.
pub fn event(resource: &'static Resource, form: Form, kind: &str, json: &[u8]) -> Bytes {
    match object(resource, form, json) {
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
    items: impl Iterator<Item = Bytes> + Send,
    meta: &ListMeta,
    piece_bytes: usize,
) -> Result<Vec<Bytes>, ApiError> {
    let Message { api_version, kind, encoder } = Message::of(resource, form)?;
    let revision = if meta.revision > 0 { meta.revision.to_string() } else { String::new() };
    let remaining = meta.remaining.filter(|remaining| *remaining > 0);
    let head = ListHead {
        resource_version: &revision,
        continue_token: &meta.continue_token,
        remaining_item_count: remaining.and_then(|remaining| i64::try_from(remaining).ok()),
    };
    let mut piece = head.message();
    let (mut pieces, mut length) = (Vec::new(), 0);
    for json in items {
        piece.extend(encoder.item(&json).map_err(|cause| failed(&cause))?);
        if piece.len() >= piece_bytes {
            length += piece.len();
            pieces.push(Bytes::from(std::mem::take(&mut piece)));
            tokio::task::yield_now().await;
        }
    }
    length += piece.len();
    let (start, end) = protobuf::envelope_around(&api_version, &format!("{kind}List"), length);
    piece.extend_from_slice(end);
    pieces.push(piece.into());
    pieces.insert(0, start.into());
    Ok(pieces)
}
