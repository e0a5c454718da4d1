//! A group of requests that share one sync of the disk: each sees the effects of those before it, none is
//! seen from outside before the whole group is durable.

use std::collections::HashMap;

use bytes::Bytes;
use tokio::sync::oneshot;

use super::{
    index::{Index, Version},
    row::Row,
};
use crate::{
    Compare, Event, EventKind, LeaseId, Op, Revision, StoreError, Txn,
    engine::{Batch, RowId},
};

pub type Answer<T> = oneshot::Sender<Result<T, StoreError>>;

/// How a transaction went, before the values of a conflict are read.
#[derive(Debug)]
pub enum Outcome {
    Committed(Revision),
    /// The compared keys' newest versions.
    Conflict(Vec<(Bytes, Option<Version>)>),
}

pub struct Group<'a> {
    index: &'a Index,
    /// What the group has changed so far; `None` is a deleted key.
    changed: HashMap<Bytes, Option<Version>>,
    pub revision: Revision,
    pub batch: Batch,
    pub versions: Vec<(Bytes, Version)>,
    pub events: Vec<Event>,
}

impl<'a> Group<'a> {
    pub fn new(index: &'a Index) -> Self {
        Self {
            index,
            changed: HashMap::new(),
            revision: index.revision,
            batch: Batch::default(),
            versions: Vec::new(),
            events: Vec::new(),
        }
    }

    fn head(&self, key: &Bytes) -> Option<Version> {
        self.changed.get(key).copied().unwrap_or_else(|| self.index.head(key))
    }

    fn holds(&self, compare: &Compare) -> bool {
        match compare {
            Compare::Absent(key) => self.head(key).is_none(),
            Compare::ModRevision(key, revision) => self.head(key).is_some_and(|head| head.revision() == *revision),
        }
    }

    /// Adds a transaction to the group, or says why it does not apply.
    pub fn apply(&mut self, txn: Txn, lease_exists: impl Fn(LeaseId) -> bool) -> Result<Outcome, StoreError> {
        if !txn.compares.iter().all(|compare| self.holds(compare)) {
            let current = txn.compares.into_iter().map(|compare| match compare {
                Compare::Absent(key) | Compare::ModRevision(key, _) => (key.clone(), self.head(&key)),
            });
            return Ok(Outcome::Conflict(current.collect()));
        }
        for op in &txn.ops {
            if let Op::Put { lease: Some(lease), .. } = op
                && !lease_exists(*lease)
            {
                return Err(StoreError::LeaseNotFound { lease: *lease });
            }
        }
        let next = Revision(self.revision.0 + 1);
        let mut written = 0;
        for op in txn.ops {
            written += u32::from(self.write(RowId { revision: next.0, op: written }, op));
        }
        // As in etcd, a transaction that changes nothing takes no revision.
        if written > 0 {
            self.revision = next;
        }
        Ok(Outcome::Committed(self.revision))
    }

    /// Deletes what a lease holds: of `held`, the keys that are still under it, and those this group put there.
    pub fn end_lease(&mut self, lease: LeaseId, held: Vec<Bytes>) {
        let put_now = self.changed.keys().cloned();
        let mut keys: Vec<Bytes> = held.into_iter().chain(put_now).collect();
        keys.retain(|key| self.head(key).is_some_and(|head| head.lease == Some(lease)));
        keys.sort();
        keys.dedup();
        if keys.is_empty() {
            return;
        }
        self.revision = Revision(self.revision.0 + 1);
        for (op, key) in (0..).zip(keys) {
            self.write(RowId { revision: self.revision.0, op }, Op::Delete { key });
        }
    }

    /// Writes one operation's row; deleting what is not there writes none.
    fn write(&mut self, id: RowId, op: Op) -> bool {
        let revision = Revision(id.revision);
        let (row, live) = match op {
            Op::Put { key, value, lease } => {
                let create_revision = self.head(&key).map_or(revision, |head| head.create_revision);
                (Row { kind: EventKind::Put, key, value, create_revision, lease }, true)
            }
            Op::Delete { key } => {
                let Some(head) = self.head(&key) else { return false };
                let create_revision = head.create_revision;
                (Row { kind: EventKind::Delete, key, value: Bytes::new(), create_revision, lease: None }, false)
            }
        };
        let version = Version { row: id, create_revision: row.create_revision, lease: row.lease, live };
        self.batch.puts.push((id, row.encode()));
        self.changed.insert(row.key.clone(), live.then_some(version));
        self.versions.push((row.key.clone(), version));
        self.events.push(row.into_event(revision));
        true
    }
}
