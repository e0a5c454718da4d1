//! The engine while it is open: one journal and two keyspaces in a directory.

use std::path::Path;

use fjall::{Database, Keyspace, KeyspaceCreateOptions, PersistMode};

use super::{Batch, RowId};

const MEMTABLE_BYTES: u64 = 4 << 20;
const CACHE_BYTES: u64 = 2 << 20;
const JOURNAL_BYTES: u64 = 64 << 20;

pub struct Opened {
    // Dropped before the database: whoever drops it waits for its threads, and these let go of the last files.
    pub log: Keyspace,
    pub meta: Keyspace,
    database: Database,
}

impl Opened {
    pub fn at(path: &Path) -> fjall::Result<Self> {
        let database = Database::builder(path)
            .cache_size(CACHE_BYTES)
            .max_journaling_size(JOURNAL_BYTES)
            .worker_threads(1)
            .open()?;
        let options = || KeyspaceCreateOptions::default().max_memtable_size(MEMTABLE_BYTES);
        let log = database.keyspace("log", options)?;
        let meta = database.keyspace("meta", options)?;
        Ok(Self { log, meta, database })
    }

    /// Returns once the batch is on the disk. [`fjall::Error::Poisoned`] says that nothing of it was written, for the
    /// engine had stopped before; with any other error parts of it may be in the journal.
    pub fn write(&self, batch: &Batch) -> fjall::Result<()> {
        let mut write = self.database.batch().durability(Some(PersistMode::SyncData));
        for (row, bytes) in &batch.puts {
            write.insert(&self.log, row.to_bytes(), bytes.as_slice());
        }
        for row in &batch.removes {
            write.remove(&self.log, row.to_bytes());
        }
        for (name, value) in &batch.meta {
            match value {
                Some(value) => write.insert(&self.meta, name.as_slice(), value.as_slice()),
                None => write.remove(&self.meta, name.as_slice()),
            }
        }
        write.commit()
    }

    /// The revision of the newest row, 0 where there is none.
    pub fn newest(&self) -> fjall::Result<u64> {
        let Some(last) = self.log.last_key_value() else { return Ok(0) };
        Ok(RowId::from_bytes(&last.key()?).map_or(0, |row| row.revision))
    }

    /// Removes every row after a revision.
    pub fn forget_after(&self, revision: u64) -> fjall::Result<()> {
        let mut removes = Vec::new();
        for guard in self.log.range(RowId::first_of(revision + 1).to_bytes()..) {
            removes.extend(RowId::from_bytes(&guard.key()?));
        }
        if removes.is_empty() { Ok(()) } else { self.write(&Batch { removes, ..Batch::default() }) }
    }

    pub fn table_bytes(&self) -> u64 {
        self.log.disk_space() + self.meta.disk_space()
    }

    pub fn disk_bytes(&self) -> fjall::Result<u64> {
        self.database.disk_space()
    }
}
