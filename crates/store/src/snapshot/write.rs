//! Making a snapshot, piece by piece, so that it can be sent while it is made.

use bytes::{BufMut, Bytes, BytesMut};
use sha2::{Digest, Sha256};

use super::{BEGIN, END, FILE, KEY, MAGIC};
use crate::{KeyValue, Revision};

/// Each call answers with the bytes that come next.
pub struct Encoder {
    digest: Sha256,
    keys: u64,
}

impl Encoder {
    pub fn begin(revision: Revision, about: &str) -> (Self, Bytes) {
        let mut this = Self { digest: Sha256::new_with_prefix(MAGIC), keys: 0 };
        let record = this.record(BEGIN, &[&revision.0.to_be_bytes(), about.as_bytes()]);
        (this, [&MAGIC[..], &record].concat().into())
    }

    pub fn file(&mut self, name: &str, content: &[u8]) -> Bytes {
        self.record(FILE, &[&length(name.as_bytes()), name.as_bytes(), content])
    }

    pub fn key(&mut self, kv: &KeyValue) -> Bytes {
        self.keys += 1;
        let revisions = [kv.create_revision.0.to_be_bytes(), kv.mod_revision.0.to_be_bytes()].concat();
        self.record(KEY, &[&revisions, &length(&kv.key), &kv.key, &kv.value])
    }

    pub fn end(mut self) -> Bytes {
        let record = self.record(END, &[&self.keys.to_be_bytes()]);
        [&record[..], &self.digest.finalize()].concat().into()
    }

    fn record(&mut self, kind: u8, parts: &[&[u8]]) -> Bytes {
        let size = parts.iter().map(|part| part.len()).sum::<usize>();
        let mut bytes = BytesMut::with_capacity(9 + size);
        bytes.put_u8(kind);
        bytes.put_u64(size as u64);
        parts.iter().for_each(|part| bytes.put_slice(part));
        self.digest.update(&bytes);
        bytes.freeze()
    }
}

fn length(part: &[u8]) -> [u8; 4] {
    u32::try_from(part.len()).unwrap_or(u32::MAX).to_be_bytes()
}
