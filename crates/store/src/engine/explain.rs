//! What the engine's errors mean for whoever runs the store.

use std::{
    io::{self, ErrorKind},
    path::Path,
    sync::Arc,
};

use super::room;
use crate::StoreError;

/// Tells a locked, full or damaged store apart from other failures.
pub fn explain(path: &Path, action: &'static str, error: fjall::Error) -> StoreError {
    let shown = path.display().to_string();
    let (fjall::Error::Io(cause) | fjall::Error::Storage(fjall::LsmError::Io(cause))) = &error else {
        return match error {
            fjall::Error::Locked => StoreError::Locked { path: shown },
            fjall::Error::Poisoned | fjall::Error::KeyspaceDeleted => {
                StoreError::Engine { action, source: Arc::new(error) }
            }
            _ => StoreError::Damaged { path: shown, detail: error.to_string() },
        };
    };
    match cause.kind() {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => {
            StoreError::DiskFull { path: shown, free_bytes: 0, needed_bytes: room::reserve_bytes(0) }
        }
        // A file that is shorter than it was, or gone.
        ErrorKind::UnexpectedEof | ErrorKind::NotFound | ErrorKind::InvalidData => {
            StoreError::Damaged { path: shown, detail: error.to_string() }
        }
        kind => StoreError::Engine { action, source: Arc::new(io::Error::new(kind, cause.to_string())) },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cause_decides_wherever_in_the_engine_it_is_met() {
        type Expected = fn(&StoreError) -> bool;
        let rows: [(ErrorKind, Expected); 5] = [
            (ErrorKind::StorageFull, |error| matches!(error, StoreError::DiskFull { .. })),
            (ErrorKind::QuotaExceeded, |error| matches!(error, StoreError::DiskFull { .. })),
            (ErrorKind::NotFound, |error| matches!(error, StoreError::Damaged { .. })),
            (ErrorKind::UnexpectedEof, |error| matches!(error, StoreError::Damaged { .. })),
            (ErrorKind::ReadOnlyFilesystem, |error| matches!(error, StoreError::Engine { .. })),
        ];
        for (kind, expected) in rows {
            let causes = [fjall::Error::Io(kind.into()), fjall::Error::Storage(fjall::LsmError::Io(kind.into()))];
            for cause in causes {
                let error = explain(Path::new("/store"), "testing", cause);
                assert!(expected(&error), "{kind}: {error:?}");
            }
        }
    }
}
