//! Objects in Kubernetes' protobuf encoding, which typed Go clients (`kubectl create namespace`) send for built-in
//! kinds: four magic bytes, an envelope that names the kind, and the message
//! (<https://kubernetes.io/docs/reference/using-api/api-concepts/#protobuf-encoding>).
//!
//! There is one message type for each struct of the schema table and no code for any: field numbers come from
//! `data/protobuf-1.35.tsv` and what 1.36 added, names and types from the schema. Go inlines structs in JSON but not in
//! protobuf, and always writes fields that are no pointers; [`zero`] knows where a zero says something.
//!
//! Written is what the JSON has: a field that is not there stays away. To Go that is the same as its zero, and nothing
//! is claimed of a pointer that was never set.

mod decode;
mod encode;
mod plan;
mod table;
mod wire;
mod write;
mod writer;
mod zero;

#[cfg(test)]
pub(crate) mod tests;

pub use decode::decode;
pub use encode::{Encoder, ListHead, encode, envelope, envelope_around, list_item, watch_frame};

/// What requests and answers call this encoding.
pub const MEDIA_TYPE: &str = "application/vnd.kubernetes.protobuf";

/// What every envelope begins with.
const MAGIC: &[u8] = b"k8s\0";

/// Why bytes are no object. What is wrong is told by its place, as `spec.containers`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProtobufError {
    #[error("provided data does not appear to be a protobuf message, expected prefix [107 56 115 0]")]
    Magic,
    #[error("no kind \"{kind}\" is registered for version \"{api_version}\"")]
    UnknownKind { api_version: String, kind: String },
    #[error("the message ends in the middle of {0}")]
    Truncated(String),
    #[error("{0} has another type in the message than in the schema")]
    Type(String),
    #[error("{0} is nested too deeply")]
    Depth(String),
    #[error("the JSON does not fit the message: {0}")]
    Json(String),
}

/// The last part of a definition's name.
fn short(definition: &str) -> &str {
    definition.rsplit('.').next().unwrap_or_default()
}
