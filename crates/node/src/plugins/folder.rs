//! The sockets of a folder and of those in it.

use std::{
    collections::BTreeMap,
    fs, io,
    os::unix::fs::{FileTypeExt, MetadataExt},
    path::{Path, PathBuf},
};

/// Folders in folders that are looked into, and sockets that are taken, so that no plugin can keep the node busy.
const DEPTH: usize = 3;
const MOST: usize = 256;

/// Tells a socket from the one that was there before under the same name.
pub type Stamp = (u64, i64, i64);

/// Hidden files are no plugins' sockets, nor is what is no socket.
pub fn sockets(root: &Path) -> io::Result<BTreeMap<PathBuf, Stamp>> {
    let mut found = BTreeMap::new();
    look(root, DEPTH, &mut found)?;
    Ok(found)
}

fn look(dir: &Path, depth: usize, found: &mut BTreeMap<PathBuf, Stamp>) -> io::Result<()> {
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        if entry.file_name().as_encoded_bytes().starts_with(b".") {
            continue;
        }
        // What went meanwhile is not there.
        let Ok(meta) = entry.metadata() else { continue };
        if meta.file_type().is_socket() && found.len() < MOST {
            found.insert(entry.path(), (meta.ino(), meta.ctime(), meta.ctime_nsec()));
        } else if meta.is_dir()
            && depth > 0
            && let Err(error) = look(&entry.path(), depth - 1, found)
        {
            tracing::debug!(path = %entry.path().display(), %error, "a folder of plugins cannot be read");
        }
    }
    Ok(())
}
