//! The newest revision that was ever acknowledged, beside the data it belongs to.
//!
//! A journal that was cut short looks just like one whose last write was torn by a power cut: its end is dropped, as
//! it must be. What tells the two apart is this note. It is written after each commit, without a sync of its own, so
//! it may be older than the data but never newer; a log that ends before it has lost acknowledged writes.

use std::{
    fs::{File, OpenOptions},
    io,
    os::unix::fs::{FileExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
};

/// The revision, and its complement by which a note that was never finished is known.
const NOTE_BYTES: usize = 16;

#[derive(Debug)]
pub struct Acknowledged {
    path: PathBuf,
    file: File,
    revision: AtomicU64,
}

impl Acknowledged {
    /// Opens the note in the store's directory; a new or unreadable one stands for no revision.
    pub fn open(directory: &Path) -> io::Result<Self> {
        let path = directory.join("acknowledged");
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(&path)?;
        let mut note = [0; NOTE_BYTES];
        let revision = file.read_exact_at(&mut note, 0).ok().and_then(|()| decode(note)).unwrap_or(0);
        Ok(Self { path, file, revision: AtomicU64::new(revision) })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    pub fn revision(&self) -> u64 {
        self.revision.load(Ordering::Relaxed)
    }

    /// Notes a revision that is durable. A note that cannot be written stays as it is, which is true too.
    pub fn raise(&self, revision: u64) {
        if self.revision.fetch_max(revision, Ordering::Relaxed) < revision {
            let _ = self.file.write_all_at(&encode(revision), 0);
        }
    }
}

fn encode(revision: u64) -> [u8; NOTE_BYTES] {
    let mut note = [0; NOTE_BYTES];
    note[..8].copy_from_slice(&revision.to_be_bytes());
    note[8..].copy_from_slice(&(!revision).to_be_bytes());
    note
}

fn decode(note: [u8; NOTE_BYTES]) -> Option<u64> {
    let half = |at: usize| note[at..at + 8].try_into().ok().map(u64::from_be_bytes);
    let (revision, complement) = (half(0)?, half(8)?);
    (revision == !complement).then_some(revision)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_note_outlives_its_process_and_never_falls() {
        let dir = tempfile::tempdir().unwrap();
        let note = Acknowledged::open(dir.path()).unwrap();
        assert_eq!(note.revision(), 0);
        note.raise(7);
        note.raise(5);
        assert_eq!(Acknowledged::open(dir.path()).unwrap().revision(), 7);
    }

    #[test]
    fn a_damaged_note_says_nothing() {
        let dir = tempfile::tempdir().unwrap();
        Acknowledged::open(dir.path()).unwrap().raise(7);
        let path = dir.path().join("acknowledged");
        for damaged in [&b""[..], b"short", &[1; NOTE_BYTES]] {
            std::fs::write(&path, damaged).unwrap();
            assert_eq!(Acknowledged::open(dir.path()).unwrap().revision(), 0, "{damaged:?}");
        }
    }
}
