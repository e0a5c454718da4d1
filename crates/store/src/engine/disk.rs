//! The engine on disk: fjall, a log-structured merge tree with one journal (see
//! `docs/decisions/0001-store-engine.md` for the measurement that chose it, and `0020-full-disk.md` for what happens
//! when the disk is full or fails).

use std::{
    fs::DirBuilder,
    io,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
    sync::{
        Mutex, PoisonError, RwLock,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use super::{Batch, Engine, Fact, RowId, acknowledged::Acknowledged, explain::explain, inspect, opened::Opened, room};
use crate::{Room, StoreError};

/// An engine that stopped by itself is opened anew at most this often: where its work in the background finds no room,
/// it stops again as soon as it runs.
const OPEN_EVERY: Duration = Duration::from_secs(5);

/// Tells how many bytes are free on the disk that holds a path, if that is known.
type FreeBytes = Box<dyn Fn(&Path) -> Option<u64> + Send + Sync>;

pub struct DiskEngine {
    path: PathBuf,
    /// `None` where the engine stopped and could not be opened anew.
    opened: RwLock<Option<Opened>>,
    /// True where rows of a failed write may still be there.
    unsettled: AtomicBool,
    /// When the engine was last found stopped.
    stopped_at: Mutex<Option<Instant>>,
    /// The newest revision that anybody was told of; rows after it are those of a write that failed.
    newest: AtomicU64,
    acknowledged: Acknowledged,
    free_bytes: FreeBytes,
}

impl DiskEngine {
    /// Opens or creates the store under `path`, once it is found undamaged. `free_bytes` tells what is left on the disk
    /// that holds a path.
    pub fn open(
        path: &Path,
        free_bytes: impl Fn(&Path) -> Option<u64> + Send + Sync + 'static,
    ) -> Result<Self, StoreError> {
        let fail = |error| explain(path, "opening the store", error);
        let fail_io = |error: io::Error| fail(error.into());
        // Secrets are in it, whatever the folder around it lets others see.
        DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(fail_io)?;
        let acknowledged = Acknowledged::open(path).map_err(fail_io)?;
        inspect::inspect(path, &acknowledged)?;
        let opened = Opened::at(path).map_err(fail)?;
        let newest = opened.newest().map_err(fail)?.max(acknowledged.revision());
        Ok(Self {
            path: path.to_owned(),
            opened: RwLock::new(Some(opened)),
            unsettled: AtomicBool::new(false),
            stopped_at: Mutex::new(None),
            newest: AtomicU64::new(newest),
            acknowledged,
            free_bytes: Box::new(free_bytes),
        })
    }

    fn fail(&self, action: &'static str) -> impl Fn(fjall::Error) -> StoreError {
        let path = self.path.clone();
        move |error| explain(&path, action, error)
    }

    fn stopped(&self) -> StoreError {
        StoreError::Stopped { path: self.path.display().to_string() }
    }

    fn with<T>(&self, use_it: impl FnOnce(&Opened) -> Result<T, StoreError>) -> Result<T, StoreError> {
        let opened = self.opened.read().unwrap_or_else(PoisonError::into_inner);
        opened.as_ref().map_or_else(|| Err(self.stopped()), use_it)
    }

    /// An error where a write would leave less than `reserve_bytes`.
    fn check_free(&self, bytes: u64, reserve_bytes: u64) -> Result<(), StoreError> {
        let needed_bytes = reserve_bytes.saturating_add(bytes);
        match (self.free_bytes)(&self.path) {
            Some(free_bytes) if free_bytes < needed_bytes => {
                Err(StoreError::DiskFull { path: self.path.display().to_string(), free_bytes, needed_bytes })
            }
            _ => Ok(()),
        }
    }

    fn reserve_bytes(&self) -> u64 {
        room::reserve_bytes(self.with(|opened| Ok(opened.table_bytes())).unwrap_or(0))
    }

    fn write(&self, batch: &Batch) -> fjall::Result<()> {
        if self.unsettled.load(Ordering::Acquire) {
            return Err(fjall::Error::Poisoned);
        }
        let opened = self.opened.read().unwrap_or_else(PoisonError::into_inner);
        opened.as_ref().map_or(Err(fjall::Error::Poisoned), |opened| opened.write(batch))
    }

    /// Closes what has stopped and opens it anew, which drops what a failed write left unfinished; what it did finish
    /// is removed, because whoever asked for it is told that it failed.
    fn open_again(&self) -> fjall::Result<()> {
        let mut opened = self.opened.write().unwrap_or_else(PoisonError::into_inner);
        self.unsettled.store(true, Ordering::Release);
        *opened = None;
        let again = Opened::at(&self.path)?;
        let settled = again.forget_after(self.newest.load(Ordering::Acquire));
        // Reads go on with it in any case.
        *opened = Some(again);
        self.unsettled.store(settled.is_err(), Ordering::Release);
        settled
    }

    /// Nothing of the batch was written, for the engine had stopped before: opens it anew and writes.
    fn write_again(&self, batch: &Batch) -> Result<(), StoreError> {
        {
            let mut stopped_at = self.stopped_at.lock().unwrap_or_else(PoisonError::into_inner);
            if stopped_at.is_some_and(|at| at.elapsed() < OPEN_EVERY) {
                self.check_room(0)?;
                return Err(self.stopped());
            }
            *stopped_at = Some(Instant::now());
        }
        tracing::warn!(path = %self.path.display(), "the store's engine has stopped, and is opened again");
        self.open_again().map_err(self.fail("opening the store again"))?;
        self.write(batch).map_err(|error| self.settle(error))
    }

    /// After a write that failed halfway: sees to it that nothing of it stays, or says that this is not known.
    fn settle(&self, error: fjall::Error) -> StoreError {
        if matches!(error, fjall::Error::Poisoned) {
            return self.stopped();
        }
        match self.open_again() {
            Ok(()) => match self.fail("committing to the store")(error) {
                StoreError::DiskFull { path, .. } => {
                    let free_bytes = (self.free_bytes)(&self.path).unwrap_or(0);
                    StoreError::DiskFull { path, free_bytes, needed_bytes: room::reserve_bytes(0) }
                }
                other => other,
            },
            Err(_) => StoreError::InDoubt { path: self.path.display().to_string(), cause: error.to_string() },
        }
    }
}

impl Engine for DiskEngine {
    fn check_room(&self, bytes: u64) -> Result<(), StoreError> {
        if self.check_free(bytes, room::PLENTY_BYTES).is_ok() {
            return Ok(());
        }
        self.check_free(bytes, self.reserve_bytes())
    }

    fn room(&self) -> Option<Room> {
        let free_bytes = (self.free_bytes)(&self.path)?;
        Some(Room { free_bytes, needed_bytes: self.reserve_bytes() })
    }

    fn commit(&self, batch: Batch) -> Result<(), StoreError> {
        let bytes: u64 = batch.puts.iter().map(|(_, row)| row.len() as u64).sum();
        self.check_free(bytes, room::LEAST_BYTES)?;
        match self.write(&batch) {
            Ok(()) => {}
            Err(fjall::Error::Poisoned) => self.write_again(&batch)?,
            Err(error) => return Err(self.settle(error)),
        }
        if let Some(newest) = batch.puts.iter().map(|(row, _)| row.revision).max() {
            self.newest.fetch_max(newest, Ordering::Release);
            self.acknowledged.raise(newest);
        }
        Ok(())
    }

    fn read(&self, row: RowId) -> Result<Option<Vec<u8>>, StoreError> {
        self.with(|opened| {
            let value = opened.log.get(row.to_bytes()).map_err(self.fail("reading from the store"))?;
            Ok(value.map(|bytes| bytes.to_vec()))
        })
    }

    fn scan(&self, from: RowId, visit: &mut dyn FnMut(RowId, &[u8]) -> bool) -> Result<(), StoreError> {
        self.with(|opened| {
            for guard in opened.log.range(from.to_bytes()..) {
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
        })
    }

    fn meta(&self) -> Result<Vec<Fact>, StoreError> {
        let fact = |guard: fjall::Guard| guard.into_inner().map(|(name, value)| (name.to_vec(), value.to_vec()));
        self.with(|opened| {
            let facts: fjall::Result<_> = opened.meta.iter().map(fact).collect();
            facts.map_err(self.fail("reading the store's facts"))
        })
    }

    fn check_reaches(&self, newest: u64) -> Result<(), StoreError> {
        let acknowledged = self.acknowledged.revision();
        if newest < acknowledged {
            return Err(inspect::lost(&self.path, &self.acknowledged, newest));
        }
        // Whoever reads from now on is told of all of it.
        self.acknowledged.raise(newest);
        Ok(())
    }

    fn size_bytes(&self) -> Result<u64, StoreError> {
        self.with(|opened| opened.disk_bytes().map_err(self.fail("measuring the store")))
    }

    fn blocks(&self) -> bool {
        true
    }
}
