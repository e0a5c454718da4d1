//! Objects in Kubernetes' protobuf encoding, which typed Go clients (`kubectl create namespace`) send for built-in
//! kinds: four magic bytes, an envelope that names the kind, and the message
//! (<https://kubernetes.io/docs/reference/using-api/api-concepts/#protobuf-encoding>).
//!
//! There is one message type for each struct of the schema table and no code for any: field numbers come from
//! `data/protobuf-1.35.tsv`, names and types from the schema. Go inlines structs in JSON but not in protobuf, and
//! always writes fields that are no pointers; [`zero`] knows where a zero says something.

mod decode;
mod table;
mod wire;
mod zero;

#[cfg(test)]
mod tests;

pub use decode::{MEDIA_TYPE, decode};

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
}
