//! What `fuzz/` calls: decoders of files that are nobody else's business.

use bytes::Bytes;

use crate::{embedded::row::Row, engine::RowId};

/// One row of the embedded store's log; what can be read is written as it was.
pub fn row(bytes: &[u8]) {
    let id = RowId::first_of(1);
    if let Ok(row) = Row::decode(id, Bytes::copy_from_slice(bytes)) {
        assert_eq!(Row::decode(id, row.encode().into()).ok(), Some(row));
    }
}
