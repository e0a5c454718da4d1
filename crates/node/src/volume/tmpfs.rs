//! Memory-backed volumes.

use std::{fs, io, os::unix::fs::MetadataExt, path::Path};

use rustix::mount::{MountFlags, UnmountFlags};

/// Mounts a tmpfs; 0 bytes leave its size to the kernel.
pub fn mount(path: &Path, size_bytes: u64) -> io::Result<()> {
    let size = if size_bytes == 0 { String::new() } else { format!(",size={size_bytes}") };
    let options = std::ffi::CString::new(format!("mode=0777{size}")).map_err(io::Error::other)?;
    let flags = MountFlags::NOSUID | MountFlags::NODEV;
    Ok(rustix::mount::mount("knarr", path, "tmpfs", flags, options.as_c_str())?)
}

/// True where `path` is on another file system than its parent.
pub fn is_mount_point(path: &Path) -> io::Result<bool> {
    let Some(parent) = path.parent() else { return Ok(true) };
    Ok(fs::symlink_metadata(path)?.dev() != fs::symlink_metadata(parent)?.dev())
}

/// Unmounts everything at or below `dir`, the deepest first.
pub fn unmount_below(dir: &Path) -> io::Result<()> {
    let table = fs::read_to_string("/proc/self/mountinfo")?;
    let dir = fs::canonicalize(dir).unwrap_or_else(|_| dir.to_owned());
    let points = table.lines().filter_map(|line| line.split(' ').nth(4)).map(unescape);
    let mut below: Vec<String> = points.filter(|point| Path::new(point).starts_with(&dir)).collect();
    below.sort_by_key(|point| std::cmp::Reverse(point.len()));
    for point in below {
        rustix::mount::unmount(&point, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW)?;
    }
    Ok(())
}

/// The kernel writes spaces, tabs, newlines and backslashes as octal escapes.
fn unescape(text: &str) -> String {
    text.replace("\\040", " ").replace("\\011", "\t").replace("\\012", "\n").replace("\\134", "\\")
}
