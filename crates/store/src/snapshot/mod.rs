//! A copy of all that a store holds at one revision, as one file: what backups are made of.
//!
//! Layout (integers big-endian): 16 bytes that say what it is and in which form; records, each a kind `u8`, a length `u64`
//! and so many bytes; after the last record the SHA-256 of everything before. The first record tells the revision and
//! what the maker wants to have said, then come files that belong to the data, then keys, then the end with the number
//! of keys. A file that is cut short has no end, and one that was changed has another digest.

mod read;
mod write;

use bytes::Bytes;

pub use read::{Summary, read};
pub use write::Encoder;

use crate::{KeyValue, Revision, StoreError};

const MAGIC: &[u8; 16] = b"knarr snapshot 1";
const DIGEST_BYTES: usize = 32;
const BEGIN: u8 = b'B';
const FILE: u8 = b'F';
const KEY: u8 = b'K';
const END: u8 = b'E';
/// No object and no certificate is nearly as large; a length beyond it is damage.
const RECORD_BYTES: u64 = 64 << 20;

/// What is met while a snapshot is read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Entry {
    Begin { revision: Revision, about: String },
    File { name: String, content: Bytes },
    Key(KeyValue),
}

#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    #[error("it cannot be read")]
    Read(#[source] std::io::Error),
    #[error("it is no backup of Knarr's, or one of a later version's form")]
    Foreign,
    #[error("it is cut short: it has no end")]
    CutShort,
    #[error("it is damaged: {detail}")]
    Damaged { detail: &'static str },
    #[error("it is damaged: its checksum is not that of its content")]
    Checksum,
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("{detail}")]
    Refused { detail: String },
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn snapshot(keys: &[KeyValue]) -> Vec<u8> {
        let (mut encoder, first) = Encoder::begin(Revision(9), "{}");
        let mut bytes = first.to_vec();
        bytes.extend(encoder.file("pki/ca.key", b"secret"));
        for kv in keys {
            bytes.extend(encoder.key(kv));
        }
        bytes.extend(encoder.end());
        bytes
    }

    fn entries(bytes: &[u8]) -> Result<Vec<Entry>, SnapshotError> {
        let mut entries = Vec::new();
        read(bytes, &mut |entry| {
            entries.push(entry);
            Ok(())
        })?;
        Ok(entries)
    }

    fn kv(key: &str, value: &str) -> KeyValue {
        let revision = Revision(7);
        KeyValue {
            key: key.to_owned().into(),
            value: value.to_owned().into(),
            create_revision: revision,
            mod_revision: revision,
        }
    }

    #[test]
    fn what_was_written_is_read() {
        let keys = [kv("/registry/a", "1"), kv("/registry/b", "")];
        let read = entries(&snapshot(&keys)).unwrap();
        assert_eq!(read[0], Entry::Begin { revision: Revision(9), about: "{}".into() });
        assert_eq!(read[1], Entry::File { name: "pki/ca.key".into(), content: "secret".into() });
        assert_eq!(read[2..], keys.map(Entry::Key));
    }

    /// Every byte counts, wherever it is, and so does every byte that is missing or too many.
    #[test]
    fn any_damage_is_noticed() {
        let whole = snapshot(&[kv("/registry/a", "1")]);
        for at in 0..whole.len() {
            let mut damaged = whole.clone();
            damaged[at] ^= 1;
            assert!(entries(&damaged).is_err(), "byte {at} was changed");
            assert!(entries(&whole[..at]).is_err(), "cut to {at} bytes");
        }
        assert!(entries(&[&whole[..], b"x"].concat()).is_err());
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes: Vec<u8>) {
            let _ = entries(&bytes);
            let _ = entries(&[&MAGIC[..], &bytes].concat());
        }
    }
}
