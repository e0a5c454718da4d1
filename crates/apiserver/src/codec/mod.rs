//! Bodies in and out: which form a client asks for, and what it sent.

mod accept;
mod decode;
mod json;
pub mod respond;
mod table;

pub use accept::{Accept, Form, IncludeObject};
pub use decode::{MAX_BODY_BYTES, decode_object, decode_options, parse_document, read_body};
pub use json::parse as parse_json;
