//! The engine on disk: fjall, a log-structured merge tree with one journal (see
//! `docs/decisions/0001-store-engine.md` for the measurement that chose it).

use std::{
    fs::DirBuilder,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
};

use fjall::{Database, Keyspace, KeyspaceCreateOptions, PersistMode};

use super::{Batch, Engine, Fact, RowId, acknowledged::Acknowledged};
use crate::StoreError;

const MEMTABLE_BYTES: u64 = 4 << 20;
const CACHE_BYTES: u64 = 2 << 20;
const JOURNAL_BYTES: u64 = 64 << 20;
/// Writes stop while this much is still free, so that the journal is never cut in the middle of a batch.
const RESERVE_BYTES: u64 = 16 << 20;

/// Tells how many bytes are free on the disk that holds a path, if that is known.
type FreeBytes = Box<dyn Fn(&Path) -> Option<u64> + Send + Sync>;

pub struct DiskEngine {
    path: PathBuf,
    database: Database,
    log: Keyspace,
    meta: Keyspace,
    acknowledged: Acknowledged,
    free_bytes: FreeBytes,
}

impl DiskEngine {
    /// Opens or creates the store under `path`. `free_bytes` tells what is left on the disk that holds a path.
    pub fn open(
        path: &Path,
        free_bytes: impl Fn(&Path) -> Option<u64> + Send + Sync + 'static,
    ) -> Result<Self, StoreError> {
        let fail = |error| explain(path, "opening the store", error);
        let fail_io = |error| fail(fjall::Error::Io(error));
        // Secrets are in it, whatever the folder around it lets others see.
        DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(fail_io)?;
        let database = Database::builder(path)
            .cache_size(CACHE_BYTES)
            .max_journaling_size(JOURNAL_BYTES)
            .worker_threads(1)
            .open()
            .map_err(fail)?;
        let options = || KeyspaceCreateOptions::default().max_memtable_size(MEMTABLE_BYTES);
        let log = database.keyspace("log", options).map_err(fail)?;
        let meta = database.keyspace("meta", options).map_err(fail)?;
        let acknowledged = Acknowledged::open(path).map_err(fail_io)?;
        Ok(Self { path: path.to_owned(), database, log, meta, acknowledged, free_bytes: Box::new(free_bytes) })
    }

    fn fail(&self, action: &'static str) -> impl Fn(fjall::Error) -> StoreError {
        let path = self.path.clone();
        move |error| explain(&path, action, error)
    }

    fn check_space(&self, batch: &Batch) -> Result<(), StoreError> {
        let needed: u64 = batch.puts.iter().map(|(_, row)| row.len() as u64).sum();
        match (self.free_bytes)(&self.path) {
            // A batch that only removes is how space comes back, so it is let through.
            Some(free) if needed > 0 && free < needed + RESERVE_BYTES => {
                Err(StoreError::DiskFull { path: self.path.display().to_string() })
            }
            _ => Ok(()),
        }
    }
}

impl Engine for DiskEngine {
    fn commit(&self, batch: Batch) -> Result<(), StoreError> {
        self.check_space(&batch)?;
        let newest = batch.puts.iter().map(|(row, _)| row.revision).max();
        let mut write = self.database.batch().durability(Some(PersistMode::SyncData));
        for (row, bytes) in batch.puts {
            write.insert(&self.log, row.to_bytes(), bytes);
        }
        for row in batch.removes {
            write.remove(&self.log, row.to_bytes());
        }
        for (name, value) in batch.meta {
            match value {
                Some(value) => write.insert(&self.meta, name, value),
                None => write.remove(&self.meta, name),
            }
        }
        write.commit().map_err(self.fail("committing to the store"))?;
        if let Some(revision) = newest {
            self.acknowledged.raise(revision);
        }
        Ok(())
    }

    fn read(&self, row: RowId) -> Result<Option<Vec<u8>>, StoreError> {
        let value = self.log.get(row.to_bytes()).map_err(self.fail("reading from the store"))?;
        Ok(value.map(|bytes| bytes.to_vec()))
    }

    fn scan(&self, from: RowId, visit: &mut dyn FnMut(RowId, &[u8]) -> bool) -> Result<(), StoreError> {
        for guard in self.log.range(from.to_bytes()..) {
            let (key, value) = guard.into_inner().map_err(self.fail("reading the store's log"))?;
            let row = RowId::from_bytes(&key).ok_or_else(|| StoreError::Damaged {
                path: self.path.display().to_string(),
                detail: format!("a row's number has {} bytes instead of 12", key.len()),
            })?;
            if !visit(row, &value) {
                break;
            }
        }
        Ok(())
    }

    fn meta(&self) -> Result<Vec<Fact>, StoreError> {
        let fail = self.fail("reading the store's facts");
        self.meta.iter().map(|guard| guard.into_inner().map(|(k, v)| (k.to_vec(), v.to_vec())).map_err(&fail)).collect()
    }

    fn check_reaches(&self, newest: u64) -> Result<(), StoreError> {
        let acknowledged = self.acknowledged.revision();
        if newest >= acknowledged {
            return Ok(());
        }
        Err(StoreError::Damaged {
            path: self.path.display().to_string(),
            detail: format!(
                "it ends at revision {newest}, but revision {acknowledged} was acknowledged (to go on without what is \
                 missing, remove {})",
                self.acknowledged.path().display()
            ),
        })
    }

    fn size_bytes(&self) -> Result<u64, StoreError> {
        self.database.disk_space().map_err(self.fail("measuring the store"))
    }

    fn blocks(&self) -> bool {
        true
    }
}

/// Tells a locked, full or damaged store apart from other failures.
fn explain(path: &Path, action: &'static str, error: fjall::Error) -> StoreError {
    let shown = path.display().to_string();
    match &error {
        fjall::Error::Locked => StoreError::Locked { path: shown },
        fjall::Error::Io(io) if io.kind() == std::io::ErrorKind::StorageFull => StoreError::DiskFull { path: shown },
        fjall::Error::Io(_) | fjall::Error::Poisoned | fjall::Error::KeyspaceDeleted => {
            StoreError::Engine { action, source: std::sync::Arc::new(error) }
        }
        _ => StoreError::Damaged { path: shown, detail: error.to_string() },
    }
}
