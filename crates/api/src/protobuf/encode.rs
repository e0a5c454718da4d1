//! JSON text as messages, and what goes around them: envelopes, lists, watch frames.

use std::borrow::Cow;
use std::sync::LazyLock;

use serde::Deserialize;
use serde::de::DeserializeSeed;

use super::plan::{Plan, Struct};
use super::write::Fields;
use super::writer::Writer;
use super::{MAGIC, ProtobufError};
use crate::schema;

/// The field of a list that holds its items.
const ITEMS: u32 = 2;

/// Writes objects of one kind; a cheap handle.
#[derive(Clone, Copy, Debug)]
pub struct Encoder {
    plan: &'static Plan,
}

/// Metadata is all that this one writes.
static METADATA: LazyLock<Plan> = LazyLock::new(|| {
    let owner = schema::of("", "v1", "ConfigMap");
    owner.map(|owner| Plan::only("metadata", 1, owner)).unwrap_or_default()
});

impl Encoder {
    /// `None` for kinds that have no message, such as those of custom resources.
    pub fn of(group: &str, version: &str, kind: &str) -> Option<Self> {
        let ty = schema::of(group, version, kind)?;
        Some(Self { plan: Struct::of(ty)?.plan() })
    }

    /// Writes an object of any kind as a PartialObjectMetadata.
    pub fn metadata() -> Self {
        Self { plan: &METADATA }
    }

    /// The message of an object, without an envelope.
    pub fn message(self, json: &[u8]) -> Result<Vec<u8>, ProtobufError> {
        let mut out = Writer::with_capacity(json.len() / 2);
        let mut text = serde_json::Deserializer::from_slice(json);
        Fields { plan: self.plan, out: &mut out }.deserialize(&mut text).map_err(|cause| malformed(&cause))?;
        Ok(out.finish())
    }
}

fn malformed(cause: &serde_json::Error) -> ProtobufError {
    ProtobufError::Json(cause.to_string())
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct TypeMeta<'a> {
    #[serde(borrow, default)]
    api_version: Cow<'a, str>,
    #[serde(borrow, default)]
    kind: Cow<'a, str>,
}

/// An object of a built-in kind in its envelope. A discovery document may leave its `apiVersion` out, which is `v1`.
pub fn encode(json: &[u8]) -> Result<Vec<u8>, ProtobufError> {
    let TypeMeta { api_version, kind } = serde_json::from_slice(json).map_err(|cause| malformed(&cause))?;
    let api_version = if api_version.is_empty() { "v1" } else { &*api_version };
    let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
    let encoder = Encoder::of(group, version, &kind)
        .ok_or_else(|| ProtobufError::UnknownKind { api_version: api_version.to_owned(), kind: kind.to_string() })?;
    Ok(envelope(api_version, &kind, &encoder.message(json)?))
}

/// A message under the name of its kind.
pub fn envelope(api_version: &str, kind: &str, message: &[u8]) -> Vec<u8> {
    let (mut out, end) = envelope_around(api_version, kind, message.len());
    out.reserve_exact(message.len() + end.len());
    out.extend_from_slice(message);
    out.extend_from_slice(end);
    out
}

/// What stands before and after a message of so many bytes, for one that is sent in pieces.
pub fn envelope_around(api_version: &str, kind: &str, length: usize) -> (Vec<u8>, &'static [u8]) {
    // Neither an encoding nor a content type of the message is named, as Go writes it.
    const END: &[u8] = &[3 << 3 | 2, 0, 4 << 3 | 2, 0];
    let mut out = Writer::with_capacity(64);
    out.raw(MAGIC);
    out.message(1, |out| {
        out.bytes(1, api_version.as_bytes());
        out.bytes(2, kind.as_bytes());
    });
    out.length(2, length);
    (out.finish(), END)
}

/// What a list says beside its items.
#[derive(Clone, Copy, Debug, Default)]
pub struct ListHead<'a> {
    pub resource_version: &'a str,
    pub continue_token: &'a str,
    pub remaining_item_count: Option<i64>,
}

impl ListHead<'_> {
    /// The beginning of a list's message; [`list_item`]s follow.
    pub fn message(self) -> Vec<u8> {
        let mut out = Writer::default();
        out.message(1, |out| {
            for (tag, text) in [(2, self.resource_version), (3, self.continue_token)] {
                if !text.is_empty() {
                    out.bytes(tag, text.as_bytes());
                }
            }
            if let Some(remaining) = self.remaining_item_count {
                out.number(4, remaining.cast_unsigned());
            }
        });
        out.finish()
    }
}

/// What stands before an object's message of so many bytes in a list.
pub fn list_item(length: usize) -> Vec<u8> {
    let mut out = Writer::default();
    out.length(ITEMS, length);
    out.finish()
}

/// One event of a watch: its length in four bytes, then a WatchEvent that holds an object in its envelope.
pub fn watch_frame(event: &str, object: &[u8]) -> Vec<u8> {
    let mut out = Writer::with_capacity(object.len() + 32);
    out.raw(&[0; 4]);
    out.bytes(1, event.as_bytes());
    out.message(2, |out| out.bytes(1, object));
    let mut frame = out.finish();
    let length = u32::try_from(frame.len() - 4).unwrap_or(u32::MAX);
    frame[..4].copy_from_slice(&length.to_be_bytes());
    frame
}
