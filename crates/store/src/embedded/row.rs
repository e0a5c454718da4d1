//! One row of the log: what one operation did to one key.
//!
//! Layout (integers big-endian): kind `u8` (1 put, 2 delete), create revision `u64`, lease `u64` (0 for none),
//! key length `u32`, key, value.

use bytes::Bytes;

use crate::{Event, EventKind, KeyValue, LeaseId, Revision, StoreError, engine::RowId};

const PUT: u8 = 1;
const DELETE: u8 = 2;
const HEADER_BYTES: usize = 1 + 8 + 8 + 4;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    pub kind: EventKind,
    pub key: Bytes,
    pub value: Bytes,
    pub create_revision: Revision,
    pub lease: Option<LeaseId>,
}

impl Row {
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(HEADER_BYTES + self.key.len() + self.value.len());
        bytes.push(if self.kind == EventKind::Put { PUT } else { DELETE });
        bytes.extend(self.create_revision.0.to_be_bytes());
        bytes.extend(self.lease.map_or(0, |lease| lease.0).to_be_bytes());
        bytes.extend((self.key.len() as u32).to_be_bytes());
        bytes.extend(&self.key);
        bytes.extend(&self.value);
        bytes
    }

    pub fn decode(id: RowId, bytes: Bytes) -> Result<Self, StoreError> {
        Self::parse(bytes).ok_or_else(|| StoreError::Damaged {
            path: "the store".into(),
            detail: format!("row {}.{} has no valid header", id.revision, id.op),
        })
    }

    fn parse(bytes: Bytes) -> Option<Self> {
        let kind = match *bytes.first()? {
            PUT => EventKind::Put,
            DELETE => EventKind::Delete,
            _ => return None,
        };
        let number = |at: usize| Some(u64::from_be_bytes(bytes.get(at..at + 8)?.try_into().ok()?));
        let create_revision = Revision(number(1)?);
        let lease = Some(number(9)?).filter(|id| *id != 0).map(LeaseId);
        let key_len = u32::from_be_bytes(bytes.get(17..HEADER_BYTES)?.try_into().ok()?) as usize;
        let value_at = HEADER_BYTES.checked_add(key_len).filter(|at| *at <= bytes.len())?;
        Some(Self {
            kind,
            key: bytes.slice(HEADER_BYTES..value_at),
            value: bytes.slice(value_at..),
            create_revision,
            lease,
        })
    }

    pub fn into_key_value(self, revision: Revision) -> KeyValue {
        KeyValue { key: self.key, value: self.value, create_revision: self.create_revision, mod_revision: revision }
    }

    pub fn into_event(self, revision: Revision) -> Event {
        Event { kind: self.kind, kv: self.into_key_value(revision) }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_was_encoded_is_decoded(put: bool, key: Vec<u8>, value: Vec<u8>, created: u64, lease: u64) {
            let row = Row {
                kind: if put { EventKind::Put } else { EventKind::Delete },
                key: key.into(),
                value: value.into(),
                create_revision: Revision(created),
                lease: (lease != 0).then_some(LeaseId(lease)),
            };
            let id = RowId::first_of(7);
            prop_assert_eq!(Row::decode(id, row.encode().into()).unwrap(), row);
        }

        #[test]
        fn any_bytes_are_decoded_or_refused(bytes: Vec<u8>) {
            let _ = Row::decode(RowId::first_of(1), bytes.into());
        }
    }
}
