use std::{fmt, pin::Pin, sync::Arc};

use bytes::Bytes;
use futures::Stream;

/// A point in the one global order of committed transactions. The empty store is at revision 1, as in etcd.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Revision(pub u64);

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LeaseId(pub u64);

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyValue {
    pub key: Bytes,
    pub value: Bytes,
    /// The revision that created the key (anew, after a deletion).
    pub create_revision: Revision,
    /// The revision that last changed it.
    pub mod_revision: Revision,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RangeRequest {
    pub start: Bytes,
    /// Exclusive.
    pub end: Bytes,
    /// `None` reads the newest state.
    pub revision: Option<Revision>,
    /// `0` means no limit.
    pub limit: usize,
    /// Whether to count what the limit cuts off, for which all of it is passed over.
    pub count: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RangeReply {
    /// The revision that the answer is of.
    pub revision: Revision,
    pub kvs: Vec<KeyValue>,
    /// True where the limit cut the answer short.
    pub more: bool,
    /// How many keys it cut off, where that was asked.
    pub remaining: usize,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Compare {
    /// The key does not exist.
    Absent(Bytes),
    /// The key exists and was last changed at this revision.
    ModRevision(Bytes, Revision),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Op {
    Put { key: Bytes, value: Bytes, lease: Option<LeaseId> },
    Delete { key: Bytes },
}

/// All or nothing: `ops` happen at one revision if every compare holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Txn {
    pub compares: Vec<Compare>,
    pub ops: Vec<Op>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TxnReply {
    Committed {
        revision: Revision,
    },
    /// A compare failed and nothing was written: the compared keys as they are now, in the order asked.
    Conflict {
        revision: Revision,
        current: Vec<Option<KeyValue>>,
    },
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WatchRequest {
    pub prefix: Bytes,
    /// Events after this revision, exclusive; `None` means from now on.
    pub from: Option<Revision>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventKind {
    Put,
    Delete,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    pub kind: EventKind,
    /// For a deletion: the key, an empty value, and the revision of the deletion.
    pub kv: KeyValue,
}

/// Events up to and including `revision`; an empty batch says only that nothing else happened so far.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WatchBatch {
    pub revision: Revision,
    pub events: Vec<Event>,
}

pub type WatchStream = Pin<Box<dyn Stream<Item = Result<WatchBatch, StoreError>> + Send>>;

/// How much of the disk is left, and how much there must be: with less, writes are refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Room {
    pub free_bytes: u64,
    pub needed_bytes: u64,
}

#[derive(Clone, Debug, thiserror::Error)]
pub enum StoreError {
    #[error("revision {requested} is compacted; history starts after {compacted}")]
    Compacted { requested: Revision, compacted: Revision },
    #[error("revision {requested} is in the future; the newest is {newest}")]
    FutureRevision { requested: Revision, newest: Revision },
    #[error("the watcher fell more than {bound} events behind")]
    SlowWatcher { bound: usize },
    #[error("too many writes wait; try again in a moment")]
    Overloaded,
    /// Nothing of the write was done.
    #[error(
        "the disk that holds {path} is full ({} MiB are free, and writing needs {} MiB): nothing was written; make room \
         there and try again",
        free_bytes >> 20,
        needed_bytes.div_ceil(1 << 20)
    )]
    DiskFull { path: String, free_bytes: u64, needed_bytes: u64 },
    /// Nothing of the write was done.
    #[error("the store in {path} stopped when its disk failed, and is opened again in a moment: nothing was written")]
    Stopped { path: String },
    /// The disk failed in the middle of a write, and what became of it could not be found out.
    #[error("the disk that holds {path} failed ({cause}), and whether the write was done is not known")]
    InDoubt { path: String, cause: String },
    #[error(
        "the store in {path} is damaged: {detail}; restore a backup into a new data directory (`knarr restore`), or reset \
         this one to begin anew"
    )]
    Damaged { path: String, detail: String },
    #[error("{path} is in use by another process; stop it or choose another data directory")]
    Locked { path: String },
    #[error("lease {} does not exist; it may have ended", lease.0)]
    LeaseNotFound { lease: LeaseId },
    /// Somebody else keeps the data and does not answer. A write may have happened all the same.
    #[error("{detail}")]
    Unavailable { detail: String },
    #[error("the store has stopped")]
    Closed,
    #[error("{action} failed")]
    Engine {
        action: &'static str,
        #[source]
        source: Arc<dyn std::error::Error + Send + Sync>,
    },
}
