//! Memory-backed volumes.

use std::{fs, io, os::unix::fs::MetadataExt, path::Path};

use knarr_os::mount::{self as os_mount, Flags};

/// Mounts a tmpfs; 0 bytes leave its size to the kernel.
pub fn mount(path: &Path, size_bytes: u64) -> io::Result<()> {
    let size = if size_bytes == 0 { String::new() } else { format!(",size={size_bytes}") };
    let flags = Flags { nosuid: true, nodev: true, ..Flags::NONE };
    os_mount::filesystem("tmpfs", path, flags, &format!("mode=0777{size}")).map_err(io_error)
}

/// True where `path` is on another file system than its parent.
pub fn is_mount_point(path: &Path) -> io::Result<bool> {
    let Some(parent) = path.parent() else { return Ok(true) };
    Ok(fs::symlink_metadata(path)?.dev() != fs::symlink_metadata(parent)?.dev())
}

/// Unmounts everything at or below `dir`.
pub fn unmount_below(dir: &Path) -> io::Result<()> {
    // The mount table has real paths only.
    let dir = match fs::canonicalize(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        other => other?,
    };
    os_mount::unmount_below(&dir).map_err(io_error)
}

/// Keeps the kind, by which a missing right is told from a failure.
pub(super) fn io_error(error: knarr_os::OsError) -> io::Error {
    io::Error::new(error.source.kind(), error.line())
}
