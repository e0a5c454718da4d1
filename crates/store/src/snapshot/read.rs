//! Reading a snapshot, one record at a time.

use std::io::{ErrorKind, Read};

use bytes::{Buf, Bytes};
use sha2::{Digest, Sha256};

use super::{BEGIN, DIGEST_BYTES, END, Entry, FILE, KEY, MAGIC, RECORD_BYTES, SnapshotError};
use crate::{KeyValue, Revision};

/// What a snapshot says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Summary {
    pub revision: Revision,
    pub about: String,
    pub keys: u64,
}

struct Source<R> {
    from: R,
    digest: Sha256,
}

impl<R: Read> Source<R> {
    fn take(&mut self, size: usize) -> Result<Bytes, SnapshotError> {
        let mut bytes = vec![0; size];
        self.from.read_exact(&mut bytes).map_err(|error| match error.kind() {
            ErrorKind::UnexpectedEof => SnapshotError::CutShort,
            _ => SnapshotError::Read(error),
        })?;
        self.digest.update(&bytes);
        Ok(bytes.into())
    }

    fn record(&mut self) -> Result<(u8, Bytes), SnapshotError> {
        let mut head = self.take(9)?;
        let (kind, length) = (head.get_u8(), head.get_u64());
        if length > RECORD_BYTES {
            return Err(SnapshotError::Damaged { detail: "a record says that it is larger than any can be" });
        }
        Ok((kind, self.take(length as usize)?))
    }
}

/// Reads all of a snapshot and shows each entry to `visit`. Whether the whole is undamaged is known only at the end:
/// whoever must not act on damage reads it twice.
pub fn read(
    from: impl Read,
    visit: &mut dyn FnMut(Entry) -> Result<(), SnapshotError>,
) -> Result<Summary, SnapshotError> {
    let mut source = Source { from, digest: Sha256::new() };
    if source.take(MAGIC.len())? != MAGIC[..] {
        return Err(SnapshotError::Foreign);
    }
    let (kind, mut begin) = source.record()?;
    if kind != BEGIN || begin.len() < 8 {
        return Err(SnapshotError::Damaged { detail: "it does not begin with what it is of" });
    }
    let (revision, about) = (Revision(begin.get_u64()), text(begin)?);
    visit(Entry::Begin { revision, about: about.clone() })?;
    let mut keys = 0;
    loop {
        match source.record()? {
            (FILE, record) => {
                let (name, content) = named(record)?;
                visit(Entry::File { name: text(name)?, content })?;
            }
            (KEY, record) => {
                keys += 1;
                visit(Entry::Key(key_value(record, revision)?))?;
            }
            (END, mut record) => {
                if record.len() != 8 || record.get_u64() != keys {
                    return Err(SnapshotError::Damaged { detail: "it has not as many keys as it says" });
                }
                break;
            }
            _ => return Err(SnapshotError::Damaged { detail: "a record is of no known kind" }),
        }
    }
    let expected = source.digest.clone().finalize();
    if source.take(DIGEST_BYTES)? != expected[..] {
        return Err(SnapshotError::Checksum);
    }
    match source.take(1) {
        Err(SnapshotError::CutShort) => Ok(Summary { revision, about, keys }),
        Err(error) => Err(error),
        Ok(_) => Err(SnapshotError::Damaged { detail: "something follows its end" }),
    }
}

fn key_value(mut record: Bytes, newest: Revision) -> Result<KeyValue, SnapshotError> {
    if record.len() < 16 {
        return Err(SnapshotError::Damaged { detail: "a key has no revisions" });
    }
    let (create_revision, mod_revision) = (Revision(record.get_u64()), Revision(record.get_u64()));
    if create_revision > mod_revision || mod_revision > newest {
        return Err(SnapshotError::Damaged { detail: "a key has impossible revisions" });
    }
    let (key, value) = named(record)?;
    Ok(KeyValue { key, value, create_revision, mod_revision })
}

/// A length, so many bytes, and the rest.
fn named(mut record: Bytes) -> Result<(Bytes, Bytes), SnapshotError> {
    let damaged = SnapshotError::Damaged { detail: "a name is longer than its record" };
    if record.len() < 4 {
        return Err(damaged);
    }
    let length = record.get_u32() as usize;
    if length > record.len() {
        return Err(damaged);
    }
    let name = record.split_to(length);
    Ok((name, record))
}

fn text(bytes: Bytes) -> Result<String, SnapshotError> {
    String::from_utf8(bytes.into()).map_err(|_| SnapshotError::Damaged { detail: "a name is no text" })
}
