//! Bodies in and out: which form a client asks for, and what it sent.

/// For visitors that look at the keys of a document only.
macro_rules! scalars_are_passed_over {
    ($($visit:ident: $type:ty),+) => {
        $(fn $visit<E>(self, _: $type) -> Result<(), E> {
            Ok(())
        })+

        fn visit_unit<E>(self) -> Result<(), E> {
            Ok(())
        }
    };
    () => {
        scalars_are_passed_over! { visit_bool: bool, visit_i64: i64, visit_u64: u64, visit_f64: f64, visit_str: &str }
    };
}

mod accept;
mod compress;
mod decode;
mod json;
pub mod message;
mod nesting;
mod order;
pub mod respond;
pub mod strict;
pub mod table;
mod yaml;

pub use accept::{Accept, Encoding, Form};
pub use compress::negotiated as compressed;
pub use decode::{
    MAX_BODY_BYTES, Shape, cannot_be_handled, decode_object, decode_options, media_type, parse_document, read_body,
    set_type,
};
pub use table::{Shown, of as table_of};
