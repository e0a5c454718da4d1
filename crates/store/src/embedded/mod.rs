//! The embedded store: a log of rows on an [`Engine`], an index over it in memory, one writer with group
//! commit, and a hub that feeds watchers.
//!
//! A write goes: bounded queue, [`group`] (compares and rows), one durable batch, [`index`], [`hub`], answer.
//! So whoever has an answer, and whoever sees an event, sees what would survive a power cut.

mod group;
mod hub;
mod index;
mod lease;
mod request;
mod restore;
pub mod row;
mod watch;
mod writer;

#[cfg(test)]
mod tests;

use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};

pub use restore::Restore;

use async_trait::async_trait;
use bytes::Bytes;
use tokio::{
    sync::{mpsc, oneshot},
    time::Instant,
};

use self::{
    group::Answer,
    hub::Hub,
    index::{Index, Version},
    lease::Leases,
    request::Request,
    row::Row,
    writer::Writer,
};
use crate::{
    EventKind, KeyValue, LeaseId, RangeReply, RangeRequest, Revision, Room, Store, StoreError, Txn, TxnReply,
    WatchRequest, WatchStream,
    engine::{Engine, Fact, RowId, memory::MemoryEngine},
};

/// Writes that may wait; more are refused with [`StoreError::Overloaded`].
const WAITING_WRITES: usize = 4096;
/// An empty store is at revision 1, as in etcd.
const FIRST_REVISION: Revision = Revision(1);
const COMPACTED: &[u8] = b"compacted";

/// What the writer, readers and watchers share.
pub struct Shared<E> {
    engine: Arc<E>,
    index: RwLock<Index>,
    hub: Hub,
}

impl<E: Engine> Shared<E> {
    fn index(&self) -> RwLockReadGuard<'_, Index> {
        self.index.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads a version's row; `None` where a compaction has taken it meanwhile.
    fn read(&self, version: Version) -> Result<Option<KeyValue>, StoreError> {
        let Some(bytes) = self.engine.read(version.row)? else { return Ok(None) };
        let row = Row::decode(version.row, bytes.into())?;
        Ok(Some(row.into_key_value(version.revision())))
    }
}

/// A handle to the store; it stops when the last one is dropped.
pub struct EmbeddedStore<E> {
    shared: Arc<Shared<E>>,
    requests: mpsc::Sender<Request>,
}

impl<E> Clone for EmbeddedStore<E> {
    fn clone(&self) -> Self {
        Self { shared: self.shared.clone(), requests: self.requests.clone() }
    }
}

/// The same store on a disk that is memory: for tests and simulations.
pub type MemoryStore = EmbeddedStore<MemoryEngine>;

impl Default for MemoryStore {
    fn default() -> Self {
        Self::open(MemoryEngine::default()).unwrap_or_else(|_| unreachable!("an empty log is valid"))
    }
}

impl<E: Engine> EmbeddedStore<E> {
    /// Reads the log and starts the writer on the current tokio runtime.
    pub fn open(engine: E) -> Result<Self, StoreError> {
        let meta = engine.meta()?;
        let index = load_index(&engine, &meta)?;
        engine.check_reaches(index.revision.0)?;
        let mut leases = Leases::load(&meta, Instant::now());
        for (key, lease) in index.leased() {
            leases.hold(key, Some(lease));
        }
        let hub = Hub::new(index.revision);
        let shared = Arc::new(Shared { engine: Arc::new(engine), index: RwLock::new(index), hub });
        let (requests, waiting) = mpsc::channel(WAITING_WRITES);
        let writer = Writer {
            shared: shared.clone(),
            leases,
            requests: waiting,
            unremoved: Vec::new(),
            refused: false,
            leases_from: None,
        };
        tokio::spawn(writer.run());
        Ok(Self { shared, requests })
    }

    async fn ask<T>(&self, request: impl FnOnce(Answer<T>) -> Request) -> Result<T, StoreError> {
        let (answer, answered) = oneshot::channel();
        self.requests.try_send(request(answer)).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => StoreError::Overloaded,
            mpsc::error::TrySendError::Closed(_) => StoreError::Closed,
        })?;
        answered.await.unwrap_or(Err(StoreError::Closed))
    }
}

fn load_index<E: Engine>(engine: &E, meta: &[Fact]) -> Result<Index, StoreError> {
    let compacted = meta.iter().find(|(name, _)| name == COMPACTED);
    let compacted = compacted.and_then(|(_, value)| value.as_slice().try_into().ok()).map(u64::from_be_bytes);
    let compacted = Revision(compacted.unwrap_or(0));
    // Compaction may have taken the newest rows (deletions), so it counts towards the revision too.
    let mut index = Index::new(FIRST_REVISION.max(compacted), compacted);
    let mut damaged = None;
    engine.scan(RowId::first_of(0), &mut |id, bytes| {
        match Row::decode(id, bytes.to_vec().into()) {
            Ok(Row { kind, key, create_revision, lease, .. }) => {
                // A copy, for the key itself is a part of the whole row and would keep it in memory.
                index.insert(
                    Bytes::copy_from_slice(&key),
                    Version { row: id, create_revision, lease, live: kind == EventKind::Put },
                );
            }
            Err(error) => damaged = Some(error),
        }
        damaged.is_none()
    })?;
    damaged.map_or(Ok(index), Err)
}

#[async_trait]
impl<E: Engine> Store for EmbeddedStore<E> {
    async fn revision(&self) -> Result<Revision, StoreError> {
        // Without its writer the store could only show what was, for ever.
        if self.requests.is_closed() {
            return Err(StoreError::Closed);
        }
        Ok(self.shared.index().revision)
    }

    async fn range(&self, request: RangeRequest) -> Result<RangeReply, StoreError> {
        loop {
            let (newest, compacted, (found, remaining)) = {
                let index = self.shared.index();
                let at = request.revision.unwrap_or(index.revision);
                (index.revision, index.compacted, index.range(&request, at))
            };
            if let Some(requested) = request.revision {
                if requested > newest {
                    return Err(StoreError::FutureRevision { requested, newest });
                }
                if requested < compacted {
                    return Err(StoreError::Compacted { requested, compacted });
                }
            }
            let kvs: Option<Vec<KeyValue>> =
                found.into_iter().map(|(_, version)| self.shared.read(version)).collect::<Result<_, _>>()?;
            // A row is missing only where it was overwritten and compacted since the index was read: look again.
            if let Some(kvs) = kvs {
                let more = remaining > 0;
                let remaining = if request.count { remaining } else { 0 };
                return Ok(RangeReply { revision: newest, kvs, more, remaining });
            }
        }
    }

    async fn txn(&self, txn: Txn) -> Result<TxnReply, StoreError> {
        self.ask(|answer| Request::Txn(txn, answer)).await
    }

    async fn watch(&self, request: WatchRequest) -> Result<WatchStream, StoreError> {
        watch::open(self.shared.clone(), request)
    }

    async fn compact(&self, revision: Revision) -> Result<(), StoreError> {
        self.ask(|answer| Request::Compact(revision, answer)).await
    }

    async fn grant_lease(&self, ttl_seconds: u64) -> Result<LeaseId, StoreError> {
        self.ask(|answer| Request::Grant { ttl_seconds, answer }).await
    }

    async fn revoke_lease(&self, lease: LeaseId) -> Result<(), StoreError> {
        self.ask(|answer| Request::Revoke(lease, answer)).await
    }

    async fn size_bytes(&self) -> Result<u64, StoreError> {
        self.shared.engine.size_bytes()
    }

    fn room(&self) -> Option<Room> {
        self.shared.engine.room()
    }
}
