//! A store that forgets everything when it is dropped: for tests, and for clusters that are meant to vanish.
//!
//! It keeps every promise of [`Store`] but the one about the disk: revisions, history, compaction, watches that
//! deliver each event once and in order, bounded watchers, leases on tokio's clock (so paused time works).

use std::{
    collections::{BTreeMap, HashMap},
    ops::Bound,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream;
use tokio::sync::mpsc;

use crate::{
    Compare, Event, EventKind, KeyValue, LeaseId, Op, RangeReply, RangeRequest, Revision, Store, StoreError, Txn,
    TxnReply, WatchBatch, WatchRequest, WatchStream,
};

/// How many batches a watcher may lie behind before it is cut off.
const WATCHER_BOUND: usize = 16_384;

/// One version of one key; no value where the key was deleted.
#[derive(Clone)]
struct Version {
    at: Revision,
    created: Revision,
    value: Option<Bytes>,
}

struct Watcher {
    prefix: Bytes,
    sender: mpsc::Sender<Result<WatchBatch, StoreError>>,
}

struct State {
    newest: Revision,
    compacted: Revision,
    /// Every key's versions, oldest first.
    keys: BTreeMap<Bytes, Vec<Version>>,
    /// Every event after `compacted`, oldest first.
    log: Vec<Event>,
    watchers: Vec<Watcher>,
    leases: HashMap<LeaseId, Vec<Bytes>>,
    last_lease: u64,
}

/// An in-memory [`Store`]; clones share the same data.
#[derive(Clone)]
pub struct MemoryStore(Arc<Mutex<State>>);

impl Default for MemoryStore {
    fn default() -> Self {
        MemoryStore(Arc::new(Mutex::new(State {
            newest: Revision(1),
            compacted: Revision(0),
            keys: BTreeMap::new(),
            log: Vec::new(),
            watchers: Vec::new(),
            leases: HashMap::new(),
            last_lease: 0,
        })))
    }
}

impl MemoryStore {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn current(&self, key: &Bytes) -> Option<KeyValue> {
        let version = self.keys.get(key)?.last()?;
        let value = version.value.clone()?;
        Some(KeyValue { key: key.clone(), value, create_revision: version.created, mod_revision: version.at })
    }

    fn holds(&self, compare: &Compare) -> bool {
        match compare {
            Compare::Absent(key) => self.current(key).is_none(),
            Compare::ModRevision(key, revision) => self.current(key).is_some_and(|kv| kv.mod_revision == *revision),
        }
    }

    fn commit(&mut self, ops: Vec<Op>) -> Revision {
        let at = Revision(self.newest.0 + 1);
        let mut events = Vec::with_capacity(ops.len());
        for op in ops {
            let (key, value) = match op {
                Op::Put { key, value, lease } => {
                    if let Some(lease) = lease {
                        self.leases.entry(lease).or_default().push(key.clone());
                    }
                    (key, Some(value))
                }
                Op::Delete { key } => (key, None),
            };
            let before = self.current(&key);
            if before.is_none() && value.is_none() {
                continue;
            }
            let created = before.map_or(at, |kv| kv.create_revision);
            self.keys.entry(key.clone()).or_default().push(Version { at, created, value: value.clone() });
            let kind = if value.is_some() { EventKind::Put } else { EventKind::Delete };
            let kv = KeyValue { key, value: value.unwrap_or_default(), create_revision: created, mod_revision: at };
            events.push(Event { kind, kv });
        }
        if events.is_empty() {
            return self.newest;
        }
        self.newest = at;
        self.log.extend_from_slice(&events);
        self.watchers.retain(|watcher| {
            let events: Vec<Event> =
                events.iter().filter(|event| event.kv.key.starts_with(&watcher.prefix)).cloned().collect();
            // A full or closed channel ends the watcher: its stream sees the end of the channel.
            watcher.sender.try_send(Ok(WatchBatch { revision: at, events })).is_ok()
        });
        at
    }
}

#[async_trait]
impl Store for MemoryStore {
    async fn revision(&self) -> Result<Revision, StoreError> {
        Ok(self.state().newest)
    }

    async fn range(&self, request: RangeRequest) -> Result<RangeReply, StoreError> {
        let state = self.state();
        let at = request.revision.unwrap_or(state.newest);
        if at > state.newest {
            return Err(StoreError::FutureRevision { requested: at, newest: state.newest });
        }
        if at < state.compacted {
            return Err(StoreError::Compacted { requested: at, compacted: state.compacted });
        }
        let mut kvs = Vec::new();
        if request.start >= request.end {
            return Ok(RangeReply { revision: at, kvs, more: false });
        }
        for (key, versions) in state.keys.range((Bound::Included(request.start), Bound::Excluded(request.end))) {
            let Some(version) = versions.iter().rev().find(|version| version.at <= at) else { continue };
            let Some(value) = version.value.clone() else { continue };
            if request.limit > 0 && kvs.len() == request.limit {
                return Ok(RangeReply { revision: at, kvs, more: true });
            }
            kvs.push(KeyValue {
                key: key.clone(),
                value,
                create_revision: version.created,
                mod_revision: version.at,
            });
        }
        Ok(RangeReply { revision: at, kvs, more: false })
    }

    async fn txn(&self, txn: Txn) -> Result<TxnReply, StoreError> {
        let mut state = self.state();
        if txn.compares.iter().all(|compare| state.holds(compare)) {
            return Ok(TxnReply::Committed { revision: state.commit(txn.ops) });
        }
        let current = txn
            .compares
            .iter()
            .map(|compare| match compare {
                Compare::Absent(key) | Compare::ModRevision(key, _) => state.current(key),
            })
            .collect();
        Ok(TxnReply::Conflict { revision: state.newest, current })
    }

    async fn watch(&self, request: WatchRequest) -> Result<WatchStream, StoreError> {
        let mut state = self.state();
        let from = request.from.unwrap_or(state.newest);
        if from < state.compacted {
            return Err(StoreError::Compacted { requested: from, compacted: state.compacted });
        }
        let past: Vec<Event> = state
            .log
            .iter()
            .filter(|event| event.kv.mod_revision > from && event.kv.key.starts_with(&request.prefix))
            .cloned()
            .collect();
        let (sender, receiver) = mpsc::channel(WATCHER_BOUND);
        let first = Ok(WatchBatch { revision: state.newest.max(from), events: past });
        sender.try_send(first).map_err(|_| StoreError::SlowWatcher { bound: WATCHER_BOUND })?;
        state.watchers.push(Watcher { prefix: request.prefix, sender });
        Ok(Box::pin(stream::unfold(Some(receiver), |receiver| async {
            let mut receiver = receiver?;
            match receiver.recv().await {
                Some(batch) => Some((batch, Some(receiver))),
                None => Some((Err(StoreError::SlowWatcher { bound: WATCHER_BOUND }), None)),
            }
        })))
    }

    async fn compact(&self, revision: Revision) -> Result<(), StoreError> {
        let mut state = self.state();
        if revision > state.newest {
            return Err(StoreError::FutureRevision { requested: revision, newest: state.newest });
        }
        state.compacted = state.compacted.max(revision);
        state.log.retain(|event| event.kv.mod_revision > revision);
        state.keys.retain(|_, versions| {
            let keep_from = versions.iter().rposition(|version| version.at <= revision).unwrap_or(0);
            versions.drain(..keep_from);
            !(versions.len() == 1 && versions[0].value.is_none() && versions[0].at <= revision)
        });
        Ok(())
    }

    async fn grant_lease(&self, ttl_seconds: u64) -> Result<LeaseId, StoreError> {
        let id = {
            let mut state = self.state();
            state.last_lease += 1;
            let id = LeaseId(state.last_lease);
            state.leases.insert(id, Vec::new());
            id
        };
        let weak: Weak<Mutex<State>> = Arc::downgrade(&self.0);
        tokio::spawn(async move {
            tokio::time::sleep(Duration::from_secs(ttl_seconds)).await;
            if let Some(state) = weak.upgrade() {
                let _ = MemoryStore(state).revoke_lease(id).await;
            }
        });
        Ok(id)
    }

    async fn revoke_lease(&self, lease: LeaseId) -> Result<(), StoreError> {
        let mut state = self.state();
        if let Some(keys) = state.leases.remove(&lease) {
            state.commit(keys.into_iter().map(|key| Op::Delete { key }).collect());
        }
        Ok(())
    }

    async fn size_bytes(&self) -> Result<u64, StoreError> {
        let bytes = |versions: &Vec<Version>| -> usize {
            versions.iter().map(|version| version.value.as_ref().map_or(0, Bytes::len)).sum()
        };
        Ok(self.state().keys.iter().map(|(key, versions)| (key.len() + bytes(versions)) as u64).sum())
    }
}
