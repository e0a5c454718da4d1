//! Filling an empty engine with what a snapshot holds.

use std::collections::HashMap;

use super::{COMPACTED, lease, row::Row};
use crate::{
    EventKind, KeyValue, LeaseId, Revision, StoreError,
    engine::{Batch, Engine, RowId},
    snapshot::SnapshotError,
};

/// A restored store goes on so far behind the snapshot's revision. Whoever saw revisions that the snapshot does not
/// reach must not meet them again with other content; they are told that history is gone, and list anew.
const AHEAD: u64 = 1_000_000_000;
const BATCH_BYTES: usize = 4 << 20;
const LEASE: LeaseId = LeaseId(1);

pub struct Restore<E> {
    engine: E,
    batch: Batch,
    batch_bytes: usize,
    /// How many rows each revision has so far.
    ops: HashMap<Revision, u32>,
}

impl<E: Engine> Restore<E> {
    /// Refuses an engine that holds something.
    pub fn begin(engine: E, path: &std::path::Path) -> Result<Self, SnapshotError> {
        let mut empty = engine.meta()?.is_empty();
        engine.scan(RowId::first_of(0), &mut |_, _| {
            empty = false;
            false
        })?;
        if !empty {
            let detail = format!("{} holds a store already", path.display());
            return Err(SnapshotError::Refused { detail });
        }
        Ok(Self { engine, batch: Batch::default(), batch_bytes: 0, ops: HashMap::new() })
    }

    /// Adds a key; a `leased` one is deleted when the lease of [`Restore::finish`] ends.
    pub fn put(&mut self, kv: KeyValue, leased: bool) -> Result<(), StoreError> {
        let op = self.ops.entry(kv.mod_revision).or_default();
        let id = RowId { revision: kv.mod_revision.0, op: *op };
        *op += 1;
        let KeyValue { key, value, create_revision, .. } = kv;
        let row = Row { kind: EventKind::Put, key, value, create_revision, lease: leased.then_some(LEASE) }.encode();
        self.batch_bytes += row.len();
        self.batch.puts.push((id, row));
        if self.batch_bytes >= BATCH_BYTES {
            self.engine.check_room(self.batch_bytes as u64)?;
            self.batch_bytes = 0;
            self.engine.commit(std::mem::take(&mut self.batch))?;
        }
        Ok(())
    }

    /// Ends the work; says which revision the store is at.
    pub fn finish(mut self, revision: Revision, lease_seconds: u64) -> Result<Revision, StoreError> {
        let next = Revision(revision.0 + AHEAD);
        self.batch.meta.push((COMPACTED.to_vec(), Some(next.0.to_be_bytes().to_vec())));
        self.batch.meta.push(lease::meta_entry(LEASE, Some(lease_seconds)));
        self.engine.commit(self.batch)?;
        Ok(next)
    }
}
