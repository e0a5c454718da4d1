//! The engine of simulations: rows in memory, with a disk that can crash and fill up on demand.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use super::{Batch, Engine, Fact, RowId};
use crate::StoreError;

#[derive(Clone, Debug, Default)]
struct Disk {
    log: BTreeMap<RowId, Vec<u8>>,
    meta: BTreeMap<Vec<u8>, Vec<u8>>,
}

/// Clones share one disk, as a restarted process does.
#[derive(Clone, Debug, Default)]
pub struct MemoryEngine {
    disk: Arc<Mutex<Disk>>,
    fault: Arc<Mutex<Option<Fault>>>,
    commits: Arc<AtomicU64>,
}

fn full(needed_bytes: u64) -> StoreError {
    StoreError::DiskFull { path: "memory".into(), free_bytes: 0, needed_bytes }
}

/// What happens to the next commits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Nothing is written and the error says so.
    Full,
    /// What would grow the log is refused; deletions still have room.
    Low,
    /// The power is cut before the batch reached the disk.
    CrashBefore,
    /// The power is cut after it did, so that nobody learns of it.
    CrashAfter,
}

impl MemoryEngine {
    /// Sets or clears what happens to commits from now on.
    pub fn set_fault(&self, fault: Option<Fault>) {
        *self.fault.lock().unwrap_or_else(PoisonError::into_inner) = fault;
    }

    /// The same disk in the hands of the next process. This engine and its clones are those of a process that was
    /// killed: nothing of theirs reaches the disk any more.
    pub fn reboot(&self) -> Self {
        self.set_fault(Some(Fault::CrashBefore));
        Self { disk: self.disk.clone(), ..Self::default() }
    }

    /// Another disk with the same content.
    pub fn copy(&self) -> Self {
        Self { disk: Arc::new(Mutex::new(self.disk().clone())), ..Self::default() }
    }

    /// How often something was to be written, whatever became of it.
    pub fn commits(&self) -> u64 {
        self.commits.load(Ordering::Relaxed)
    }

    fn fault(&self) -> Option<Fault> {
        *self.fault.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn disk(&self) -> std::sync::MutexGuard<'_, Disk> {
        self.disk.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Engine for MemoryEngine {
    fn check_room(&self, bytes: u64) -> Result<(), StoreError> {
        match self.fault() {
            Some(Fault::Low | Fault::Full) => Err(full(bytes)),
            Some(Fault::CrashBefore | Fault::CrashAfter) | None => Ok(()),
        }
    }

    fn commit(&self, batch: Batch) -> Result<(), StoreError> {
        self.commits.fetch_add(1, Ordering::Relaxed);
        let fault = self.fault();
        match fault {
            Some(Fault::Full) => return Err(full(0)),
            Some(Fault::CrashBefore) => return Err(StoreError::Closed),
            Some(Fault::Low | Fault::CrashAfter) | None => {}
        }
        let mut disk = self.disk();
        for row in &batch.removes {
            disk.log.remove(row);
        }
        disk.log.extend(batch.puts);
        for (name, value) in batch.meta {
            match value {
                Some(value) => disk.meta.insert(name, value),
                None => disk.meta.remove(&name),
            };
        }
        if fault == Some(Fault::CrashAfter) { Err(StoreError::Closed) } else { Ok(()) }
    }

    fn read(&self, row: RowId) -> Result<Option<Vec<u8>>, StoreError> {
        Ok(self.disk().log.get(&row).cloned())
    }

    fn scan(&self, from: RowId, visit: &mut dyn FnMut(RowId, &[u8]) -> bool) -> Result<(), StoreError> {
        for (row, bytes) in self.disk().log.range(from..) {
            if !visit(*row, bytes) {
                break;
            }
        }
        Ok(())
    }

    fn meta(&self) -> Result<Vec<Fact>, StoreError> {
        Ok(self.disk().meta.iter().map(|(k, v)| (k.clone(), v.clone())).collect())
    }

    fn check_reaches(&self, _newest: u64) -> Result<(), StoreError> {
        Ok(())
    }

    fn size_bytes(&self) -> Result<u64, StoreError> {
        Ok(self.disk().log.values().map(|row| row.len() as u64).sum())
    }

    fn blocks(&self) -> bool {
        false
    }
}
