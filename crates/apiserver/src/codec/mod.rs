//! Bodies in and out: which form a client asks for, and what it sent.

mod accept;
mod compress;
mod decode;
mod json;
pub mod message;
mod nesting;
pub mod respond;
pub mod table;
mod yaml;

pub use accept::{Accept, Encoding, Form};
pub use compress::negotiated as compressed;
pub use decode::{
    MAX_BODY_BYTES, Repeated, Shape, check_fields, decode_object, decode_options, media_type, parse_document,
    read_body, set_type,
};
pub use table::{Shown, of as table_of};
