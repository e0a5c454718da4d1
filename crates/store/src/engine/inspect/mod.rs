//! What is looked at before the engine opens a store.
//!
//! The engine cuts a journal off where it can read no further, and makes a tree anew whose first file is missing: what a
//! crash leaves behind and what somebody did to the files are the same to it. So the files are looked at first, all of
//! them, and where there is damage nothing is changed.

mod journal;
#[cfg(test)]
mod tests;
mod tree;

use std::{
    fs::{self, File, OpenOptions, TryLockError},
    io::{self, ErrorKind},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use self::journal::{Journal, Rest};
use super::acknowledged::Acknowledged;
use crate::StoreError;

/// The form of the files that is understood here; any other is left to the engine.
const FORM: &[u8] = b"FJL\x03";

/// An engine that was closed lets go of its files on threads of its own, a moment later.
const LOCK_ATTEMPTS: u32 = 20;
const LOCK_WAIT: Duration = Duration::from_millis(10);

pub fn inspect(path: &Path, acknowledged: &Acknowledged) -> Result<(), StoreError> {
    let lock = path.join("lock");
    // Held meanwhile: the last write of whoever has the store open looks like one that a crash cut short.
    let _held = hold(&lock, path)?;
    let form = path.join("version");
    match fs::read(&form) {
        Ok(form) if form == FORM => {}
        Ok(_) => return Err(damaged(path, "its file `version` is not one of this program's".into())),
        Err(error) if error.kind() == ErrorKind::NotFound => return begin(path),
        Err(error) => return Err(unreadable(&form, error)),
    }
    let trees = tree::all(path)?;
    let journals = journals(path)?;
    check_journals(path, &journals, acknowledged)?;
    let is_used = journals.iter().any(|(_, journal)| journal.whole_bytes > 0);
    for tree in trees {
        tree::check(path, &tree, is_used)?;
    }
    // Nothing is in it; it is there to be locked.
    OpenOptions::new().create(true).truncate(false).write(true).open(&lock).map_err(|e| unreadable(&lock, e))?;
    Ok(())
}

/// The engine's own lock, where there is one already.
fn hold(lock: &Path, path: &Path) -> Result<Option<File>, StoreError> {
    let file = match File::open(lock) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(unreadable(lock, error)),
    };
    for _ in 0..LOCK_ATTEMPTS {
        match file.try_lock() {
            Ok(()) => return Ok(Some(file)),
            #[allow(clippy::disallowed_methods)] // a store is opened before there is anybody who could wait otherwise
            Err(TryLockError::WouldBlock) => std::thread::sleep(LOCK_WAIT),
            Err(TryLockError::Error(error)) => return Err(unreadable(lock, error)),
        }
    }
    Err(StoreError::Locked { path: path.display().to_string() })
}

/// What is said where the log ends before what was acknowledged.
pub fn lost(path: &Path, acknowledged: &Acknowledged, newest: u64) -> StoreError {
    damaged(path, what_is_lost(acknowledged, newest))
}

fn what_is_lost(acknowledged: &Acknowledged, newest: u64) -> String {
    format!(
        "it ends at revision {newest}, but revision {} was acknowledged (to go on without what is missing, remove {})",
        acknowledged.revision(),
        acknowledged.path().display()
    )
}

fn damaged(path: &Path, detail: String) -> StoreError {
    StoreError::Damaged { path: path.display().to_string(), detail }
}

fn unreadable(file: &Path, error: io::Error) -> StoreError {
    let source = io::Error::new(error.kind(), format!("{}: {error}", file.display()));
    StoreError::Engine { action: "reading the store's files", source: Arc::new(source) }
}

/// All journals, the oldest first.
fn journals(path: &Path) -> Result<Vec<(PathBuf, Journal)>, StoreError> {
    let mut found = Vec::new();
    for entry in fs::read_dir(path).map_err(|error| unreadable(path, error))? {
        let file = entry.map_err(|error| unreadable(path, error))?.path();
        let number = file.file_name().and_then(|name| name.to_str()?.strip_suffix(".jnl")?.parse::<u64>().ok());
        if let Some(number) = number {
            let journal = Journal::read(&file).map_err(|error| unreadable(&file, error))?;
            found.push((number, file, journal));
        }
    }
    found.sort_by_key(|(number, ..)| *number);
    // The engine begins them one after another and removes the oldest.
    for pair in found.windows(2) {
        let next = pair[0].0 + 1;
        if pair[1].0 != next {
            return Err(damaged(path, format!("its journal {next}.jnl is missing")));
        }
    }
    Ok(found.into_iter().map(|(_, file, journal)| (file, journal)).collect())
}

/// A directory where nothing was ever written. A crash in the first instant leaves an empty journal, which the engine
/// would not make again.
fn begin(path: &Path) -> Result<(), StoreError> {
    let journals = journals(path)?;
    let is_used = journals.iter().any(|(_, journal)| journal.whole_bytes > 0 || journal.rest != Rest::Nothing);
    if is_used || tree::any_table(path)? {
        return Err(damaged(path, "its file `version` is missing".into()));
    }
    for (file, _) in journals {
        fs::remove_file(&file).map_err(|error| unreadable(&file, error))?;
    }
    Ok(())
}

fn check_journals(path: &Path, journals: &[(PathBuf, Journal)], acknowledged: &Acknowledged) -> Result<(), StoreError> {
    let newest = journals.iter().filter_map(|(_, journal)| journal.newest).max();
    for (at, (file, journal)) in journals.iter().enumerate() {
        let end = journal.whole_bytes;
        let name = file.strip_prefix(path).unwrap_or(file).display();
        match journal.rest {
            Rest::Nothing => {}
            Rest::Damaged { next } => {
                let detail = format!("its journal {name} was changed between byte {end} and byte {next}");
                return Err(damaged(path, detail));
            }
            // The next one is begun when all of it is on the disk.
            Rest::Unfinished if at + 1 < journals.len() => {
                return Err(damaged(path, format!("its journal {name} was changed at byte {end} or after it")));
            }
            Rest::Unfinished => match newest {
                Some(newest) if newest < acknowledged.revision() => {
                    let lost = what_is_lost(acknowledged, newest);
                    let detail =
                        format!("its journal {name} was cut short or changed at byte {end} or after it: {lost}");
                    return Err(damaged(path, detail));
                }
                _ => cut(file, end)?,
            },
        }
    }
    Ok(())
}

/// Drops the write that a crash cut short. The engine would, too, but takes some of them for damage.
fn cut(file: &Path, end: u64) -> Result<(), StoreError> {
    let cut = || -> io::Result<()> {
        let journal = File::options().write(true).open(file)?;
        journal.set_len(end)?;
        journal.sync_all()
    };
    cut().map_err(|error| unreadable(file, error))?;
    tracing::info!(journal = %file.display(), "dropped a write that was never finished");
    Ok(())
}
