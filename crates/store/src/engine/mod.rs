//! Where rows are kept. An engine knows row numbers and bytes; revisions, keys and watchers are above it.

mod acknowledged;
pub mod disk;
mod explain;
mod inspect;
pub mod memory;
mod opened;
mod room;

use crate::{Room, StoreError};

/// A row's place in the log: the revision that wrote it, and which operation of that transaction it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RowId {
    pub revision: u64,
    pub op: u32,
}

impl RowId {
    /// The first row that a revision could have.
    pub fn first_of(revision: u64) -> Self {
        Self { revision, op: 0 }
    }

    /// Twelve bytes that sort as the rows do.
    pub fn to_bytes(self) -> [u8; 12] {
        let mut bytes = [0; 12];
        bytes[..8].copy_from_slice(&self.revision.to_be_bytes());
        bytes[8..].copy_from_slice(&self.op.to_be_bytes());
        bytes
    }

    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let revision = u64::from_be_bytes(bytes.get(..8)?.try_into().ok()?);
        let op = u32::from_be_bytes(bytes.get(8..12)?.try_into().ok()?);
        Some(Self { revision, op })
    }
}

/// What becomes durable together.
#[derive(Debug, Default)]
pub struct Batch {
    pub puts: Vec<(RowId, Vec<u8>)>,
    pub removes: Vec<RowId>,
    /// Small facts by name; `None` removes one.
    pub meta: Vec<(Vec<u8>, Option<Vec<u8>>)>,
}

impl Batch {
    pub fn is_empty(&self) -> bool {
        self.puts.is_empty() && self.removes.is_empty() && self.meta.is_empty()
    }
}

/// A small fact: its name and its value.
pub type Fact = (Vec<u8>, Vec<u8>);

/// An ordered log of rows beside a few facts. Calls may block on the disk.
pub trait Engine: Send + Sync + 'static {
    /// [`StoreError::DiskFull`] where so many bytes more would leave too little of the disk. Asked before anything that
    /// grows the log goes into a batch; deletions are not asked about, because they are how room is made.
    fn check_room(&self, bytes: u64) -> Result<(), StoreError>;
    /// Returns once the whole batch would survive a power cut. On an error no row that it put is there, now or later,
    /// except after [`StoreError::InDoubt`]; its facts may be, and whoever wrote them writes them again.
    fn commit(&self, batch: Batch) -> Result<(), StoreError>;
    fn read(&self, row: RowId) -> Result<Option<Vec<u8>>, StoreError>;
    /// Rows from `from` on, in order, until `visit` says stop by answering false.
    fn scan(&self, from: RowId, visit: &mut dyn FnMut(RowId, &[u8]) -> bool) -> Result<(), StoreError>;
    fn meta(&self) -> Result<Vec<Fact>, StoreError>;
    /// Told once, at the start, how far the log reaches. An engine that knows to have acknowledged more refuses with
    /// [`StoreError::Damaged`], because what is missing would otherwise be lost in silence.
    fn check_reaches(&self, newest: u64) -> Result<(), StoreError>;
    fn size_bytes(&self) -> Result<u64, StoreError>;
    /// What [`Engine::check_room`] compares; `None` where there is no disk, or nothing is known of it.
    fn room(&self) -> Option<Room> {
        None
    }
    /// True where `commit` waits for hardware, so that it is kept off the async threads.
    fn blocks(&self) -> bool;
}
