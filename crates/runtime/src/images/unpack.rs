//! Unpacking a layer: a tar stream becomes a directory that overlayfs can stack. What the archive says to delete
//! (`.wh.` entries) becomes overlayfs' own marks.
//!
//! Archives are not trusted: every path is resolved inside the layer's directory by the kernel, nothing is followed
//! out of it, and marks that would redirect overlayfs are dropped.

use std::{
    ffi::{OsStr, OsString},
    io::{self, Read},
    os::{
        fd::{AsFd, OwnedFd},
        unix::ffi::OsStrExt,
    },
    path::{Path, PathBuf},
};

use knarr_os::root::{Root, magic_path};
use rustix::{
    fs::{AtFlags, FileType, Gid, Mode, OFlags, Timespec, Timestamps, Uid, XattrFlags, makedev},
    io::Errno,
};
use tar::{Entry, EntryType};

/// The form a layer is packed in, told by its first bytes: media types lie.
pub fn decompress<'a>(mut packed: impl io::BufRead + 'a) -> io::Result<Box<dyn Read + 'a>> {
    let magic = packed.fill_buf()?;
    Ok(match magic {
        [0x1f, 0x8b, ..] => Box::new(flate2::bufread::MultiGzDecoder::new(packed)),
        [0x28, 0xb5, 0x2f, 0xfd, ..] => Box::new(zstd::stream::read::Decoder::with_buffer(packed)?),
        _ => Box::new(packed),
    })
}

/// Unpacks a tar stream into an empty directory. Gives the number of bytes of its files.
pub fn unpack(stream: impl Read, directory: &Path) -> io::Result<u64> {
    let root = Root::open(directory)?;
    let mut archive = tar::Archive::new(stream);
    let free = free_bytes(directory)?;
    let mut size: u64 = 0;
    // A directory's time changes with what is made in it, so these are set last.
    let mut times = Vec::new();
    for entry in archive.entries()? {
        let mut entry = entry?;
        let path = entry.path()?.into_owned();
        // Sparse files claim what they like: better nothing is written than the disk filled.
        size = size.saturating_add(entry.size());
        if size > free {
            let what = format!("{}: the layer needs more room than the {free} bytes that are left", path.display());
            return Err(io::Error::new(io::ErrorKind::StorageFull, what));
        }
        let Some(name) = path.file_name().map(OsStr::to_owned) else { continue };
        if let Some(deleted) = name.as_bytes().strip_prefix(b".wh.") {
            mark_deleted(&root, &path, deleted)?;
            continue;
        }
        place(&root, &path, &mut entry).map_err(|e| io::Error::new(e.kind(), format!("{}: {e}", path.display())))?;
        if entry.header().entry_type() == EntryType::Directory {
            times.push((path, entry.header().mtime().unwrap_or(0)));
        }
    }
    for (path, mtime) in times.into_iter().rev() {
        if let Ok(fd) = root.get(&path, OFlags::RDONLY | OFlags::DIRECTORY) {
            let _ = rustix::fs::futimens(fd, &stamps(mtime));
        }
    }
    Ok(size)
}

fn free_bytes(directory: &Path) -> io::Result<u64> {
    let disk = rustix::fs::statvfs(directory)?;
    Ok(disk.f_bavail.saturating_mul(disk.f_frsize))
}

fn mark_deleted(root: &Root, path: &Path, deleted: &[u8]) -> io::Result<()> {
    let (parent, _) = root.parent(path, 0o755)?;
    if deleted == b".wh..opq" {
        let directory = rustix::fs::openat(&parent, ".", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
        return Ok(rustix::fs::fsetxattr(directory, "trusted.overlay.opaque", b"y", XattrFlags::empty())?);
    }
    // Other names of this form are the packer's own notes.
    if deleted.starts_with(b".wh.") {
        return Ok(());
    }
    let name = OsStr::from_bytes(deleted);
    match rustix::fs::mknodat(&parent, name, FileType::CharacterDevice, Mode::empty(), makedev(0, 0)) {
        // What this layer itself has put there is not what it deletes.
        Ok(()) | Err(Errno::EXIST) => Ok(()),
        Err(e) => Err(e.into()),
    }
}

fn place<R: Read>(root: &Root, path: &Path, entry: &mut Entry<'_, R>) -> io::Result<()> {
    let (parent, name) = root.parent(path, 0o755)?;
    let kind = entry.header().entry_type();
    if kind == EntryType::Directory {
        return place_directory(&parent, &name, entry);
    }
    match rustix::fs::unlinkat(&parent, &name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => {}
        Err(Errno::ISDIR | Errno::PERM) => std::fs::remove_dir_all(magic_path(&parent).join(&name))?,
        Err(e) => return Err(e.into()),
    }
    let device = || -> io::Result<u64> {
        let header = entry.header();
        Ok(makedev(header.device_major()?.unwrap_or(0), header.device_minor()?.unwrap_or(0)))
    };
    match kind {
        EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => return place_file(&parent, &name, entry),
        EntryType::Link => {
            let target = entry.link_name()?.ok_or_else(|| invalid("a hard link without a target"))?;
            let (from, from_name) = root.parent(&target, 0o755)?;
            return Ok(rustix::fs::linkat(from, &from_name, &parent, &name, AtFlags::empty())?);
        }
        EntryType::Symlink => {
            let target = entry.link_name()?.ok_or_else(|| invalid("a symbolic link without a target"))?;
            rustix::fs::symlinkat(&*target, &parent, &name)?;
        }
        EntryType::Char => rustix::fs::mknodat(&parent, &name, FileType::CharacterDevice, Mode::empty(), device()?)?,
        EntryType::Block => rustix::fs::mknodat(&parent, &name, FileType::BlockDevice, Mode::empty(), device()?)?,
        EntryType::Fifo => rustix::fs::mknodat(&parent, &name, FileType::Fifo, Mode::empty(), 0)?,
        // Headers that only describe others are taken in by the reader; anything else is not a file.
        _ => return Ok(()),
    }
    let (uid, gid) = owner(entry)?;
    rustix::fs::chownat(&parent, &name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)?;
    if kind != EntryType::Symlink {
        rustix::fs::chmodat(&parent, &name, mode(entry)?, AtFlags::empty())?;
    }
    let mtime = entry.header().mtime().unwrap_or(0);
    rustix::fs::utimensat(&parent, &name, &stamps(mtime), AtFlags::SYMLINK_NOFOLLOW)?;
    Ok(())
}

fn place_directory<R: Read>(parent: &OwnedFd, name: &OsString, entry: &mut Entry<'_, R>) -> io::Result<()> {
    let open = || {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        rustix::fs::openat(parent, name, flags, Mode::empty())
    };
    let directory = match open() {
        Ok(fd) => fd,
        Err(e) => {
            if e != Errno::NOENT {
                rustix::fs::unlinkat(parent, name, AtFlags::empty())?;
            }
            rustix::fs::mkdirat(parent, name, Mode::from_raw_mode(0o755))?;
            open()?
        }
    };
    set_attributes(&directory, entry)
}

fn place_file<R: Read>(parent: &OwnedFd, name: &OsString, entry: &mut Entry<'_, R>) -> io::Result<()> {
    let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let fd = rustix::fs::openat(parent, name, flags, Mode::from_raw_mode(0o600))?;
    let mut file = std::fs::File::from(fd);
    io::copy(entry, &mut file)?;
    set_attributes(&file, entry)?;
    rustix::fs::futimens(&file, &stamps(entry.header().mtime().unwrap_or(0)))?;
    Ok(())
}

/// Owner, then extended attributes (a change of owner drops file capabilities), then mode (it drops set-user-ID).
fn set_attributes<R: Read>(fd: impl AsFd, entry: &mut Entry<'_, R>) -> io::Result<()> {
    let (uid, gid) = owner(entry)?;
    rustix::fs::fchown(&fd, Some(uid), Some(gid))?;
    if let Some(extensions) = entry.pax_extensions()? {
        for extension in extensions.flatten() {
            let key = extension.key().unwrap_or_default();
            let Some(name) = key.strip_prefix("SCHILY.xattr.").filter(|n| !n.starts_with("trusted.overlay.")) else {
                continue;
            };
            match rustix::fs::fsetxattr(&fd, name, extension.value_bytes(), XattrFlags::empty()) {
                // A file system without such attributes still holds the file.
                Ok(()) | Err(Errno::OPNOTSUPP | Errno::PERM) => {}
                Err(e) => return Err(e.into()),
            }
        }
    }
    Ok(rustix::fs::fchmod(fd, mode(entry)?)?)
}

/// Fields left empty mean root, as other readers take them.
fn owner<R: Read>(entry: &Entry<'_, R>) -> io::Result<(Uid, Gid)> {
    let id = |n: u64| u32::try_from(n).map_err(|_| invalid("an owner whose number is out of range"));
    let header = entry.header();
    let empty = |field: &[u8]| field.iter().all(|b| matches!(b, 0 | b' '));
    let uid = if empty(&header.as_old().uid) { 0 } else { header.uid()? };
    let gid = if empty(&header.as_old().gid) { 0 } else { header.gid()? };
    Ok((Uid::from_raw(id(uid)?), Gid::from_raw(id(gid)?)))
}

fn mode<R: Read>(entry: &Entry<'_, R>) -> io::Result<Mode> {
    Ok(Mode::from_raw_mode(entry.header().mode()? & 0o7777))
}

fn stamps(mtime: u64) -> Timestamps {
    let time = Timespec { tv_sec: i64::try_from(mtime).unwrap_or(0), tv_nsec: 0 };
    Timestamps { last_access: time, last_modification: time }
}

fn invalid(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

/// Where a path inside an archive is, for sources that name files.
pub fn clean(path: &str) -> PathBuf {
    Path::new(path).components().filter(|c| matches!(c, std::path::Component::Normal(_))).collect()
}
