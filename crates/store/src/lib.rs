//! Revisions, watch and compaction over bytes. Knows keys and values, never Pods.
//!
//! The trait speaks etcd's terms (etcd v3 API: range, txn, watch, compact, lease), so that a real etcd
//! fits under it ([`etcd`]). Every committed transaction has one revision of its own; revisions grow by one order
//! that all readers and watchers see. A transaction that was answered is on disk.

mod embedded;
pub mod engine;
pub mod etcd;
#[cfg(fuzzing)]
pub mod fuzzing;
mod model;
pub mod snapshot;

use async_trait::async_trait;

pub use embedded::{EmbeddedStore, MemoryStore, Restore};
pub use etcd::EtcdStore;
pub use model::{
    Compare, Event, EventKind, KeyValue, LeaseId, Op, RangeReply, RangeRequest, Revision, Room, StoreError, Txn,
    TxnReply, WatchBatch, WatchRequest, WatchStream,
};

/// A durable, ordered map with history.
#[async_trait]
pub trait Store: Send + Sync + 'static {
    /// The newest committed revision. Reads that ask for no revision see at least this one. An error where nothing can
    /// be committed any more, so that whoever reads does not take the past for the present.
    async fn revision(&self) -> Result<Revision, StoreError>;

    /// Keys in `[start, end)` in byte order, as of a revision (the newest where none is named).
    async fn range(&self, request: RangeRequest) -> Result<RangeReply, StoreError>;

    /// Applies all `ops` if every compare holds, else nothing. Answers once the outcome is durable.
    async fn txn(&self, txn: Txn) -> Result<TxnReply, StoreError>;

    /// Every event of the keys under a prefix after `from` (exclusive), once, in order. Ends with
    /// [`StoreError::Compacted`] where history no longer reaches back, with [`StoreError::SlowWatcher`]
    /// where the reader fell behind the bound; both are answered by listing again.
    async fn watch(&self, request: WatchRequest) -> Result<WatchStream, StoreError>;

    /// Forgets history up to and including `revision`; the newest value of each key stays.
    async fn compact(&self, revision: Revision) -> Result<(), StoreError>;

    /// A lease of `ttl_seconds`; keys put with it are deleted (each with an event) when it ends.
    async fn grant_lease(&self, ttl_seconds: u64) -> Result<LeaseId, StoreError>;
    async fn revoke_lease(&self, lease: LeaseId) -> Result<(), StoreError>;

    /// How many bytes the store takes on disk.
    async fn size_bytes(&self) -> Result<u64, StoreError>;

    /// Whether there is room for more; `None` where the disk is somebody else's affair.
    fn room(&self) -> Option<Room> {
        None
    }
}
