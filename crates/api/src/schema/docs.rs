//! Descriptions, kept compressed: only `explain` and the OpenAPI documents want them.

use std::io::Read;

use super::{FieldRef, TypeRef};

static DEFLATED: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/docs.deflate"));

/// The built-ins' descriptions, inflated (about 1.5 MB): make one where a document is written, and drop it.
pub struct Docs {
    bytes: Vec<u8>,
    count: usize,
}

impl Docs {
    pub fn inflate() -> Docs {
        let mut bytes = Vec::new();
        let read = flate2::read::DeflateDecoder::new(DEFLATED).read_to_end(&mut bytes);
        debug_assert!(read.is_ok(), "the build wrote these bytes");
        let count = bytes.first_chunk().map_or(0, |head| u32::from_le_bytes(*head) as usize);
        Docs { bytes, count }
    }

    pub fn of_type(&self, ty: TypeRef<'static>) -> &str {
        self.get(ty.doc())
    }

    pub fn of_field(&self, field: FieldRef<'static>) -> &str {
        self.get(field.doc())
    }

    fn get(&self, id: u32) -> &str {
        let id = id as usize;
        let text = 4 + 4 * self.count;
        let start = if id == 0 { 0 } else { self.end(id - 1) };
        let bytes = self.bytes.get(text + start..text + self.end(id)).unwrap_or_default();
        std::str::from_utf8(bytes).unwrap_or_default()
    }

    /// Where a description ends, counted from the first one's start.
    fn end(&self, id: usize) -> usize {
        let at = 4 + 4 * id;
        self.bytes.get(at..).and_then(|rest| rest.first_chunk()).map_or(0, |end| u32::from_le_bytes(*end) as usize)
    }
}
