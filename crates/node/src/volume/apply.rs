//! Brings one volume onto the disk. Blocking: it runs on a thread for that.

use std::{
    fs, io,
    os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, chown},
    path::{Path, PathBuf},
};

use super::{Content, Desired, VolumeError, atomic, tmpfs};

pub fn apply(desired: &Desired, group: Option<u32>) -> Result<(), VolumeError> {
    let disk = |(path, source): (PathBuf, io::Error)| VolumeError::Disk { volume: desired.name.clone(), path, source };
    match &desired.content {
        Content::Host { kind } => {
            host(&desired.path, kind).map_err(|cause| VolumeError::SetUp { volume: desired.name.clone(), cause })
        }
        Content::Empty { memory } => empty(&desired.path, *memory, group).map_err(disk),
        Content::Files { files, memory } => {
            let done = prepare(&desired.path, memory.then_some(0)).and_then(|()| {
                atomic::write(&desired.path, files, group).map_err(|error| (desired.path.clone(), error))
            });
            done.map_err(disk)
        }
    }
}

type Failure = (PathBuf, io::Error);

fn at(path: &Path) -> impl Fn(io::Error) -> Failure {
    let path = path.to_owned();
    move |error| (path.clone(), error)
}

fn prepare(path: &Path, memory: Option<u64>) -> Result<(), Failure> {
    fs::create_dir_all(path).map_err(at(path))?;
    if let Some(size) = memory
        && !tmpfs::is_mount_point(path).map_err(at(path))?
        && let Err(error) = tmpfs::mount(path, size)
    {
        // Without the right to mount, a secret on the disk is still better than no pod.
        if error.kind() != io::ErrorKind::PermissionDenied {
            return Err((path.to_owned(), error));
        }
        tracing::warn!(path = %path.display(), "no right to mount a tmpfs: this volume lies on the disk");
    }
    Ok(())
}

/// Open to all of the pod's users; with a group, new files belong to it.
fn empty(path: &Path, memory: Option<u64>, group: Option<u32>) -> Result<(), Failure> {
    let new = !path.exists();
    prepare(path, memory)?;
    if new {
        fs::set_permissions(path, fs::Permissions::from_mode(0o777)).map_err(at(path))?;
    }
    if let Some(group) = group {
        own(path, group)?;
    }
    Ok(())
}

/// Gives a tree to a group: readable and writable by it, and inherited by what is made in it.
pub fn own(path: &Path, group: u32) -> Result<(), Failure> {
    let metadata = fs::symlink_metadata(path).map_err(at(path))?;
    if metadata.file_type().is_symlink() {
        return std::os::unix::fs::lchown(path, None, Some(group)).map_err(at(path));
    }
    if metadata.gid() != group {
        chown(path, None, Some(group)).map_err(at(path))?;
    }
    let mask = if metadata.is_dir() { 0o2770 } else { 0o660 };
    let mode = (metadata.mode() | mask) & 0o7777;
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).map_err(at(path))?;
    if metadata.is_dir() {
        for entry in fs::read_dir(path).map_err(at(path))? {
            own(&entry.map_err(at(path))?.path(), group)?;
        }
    }
    Ok(())
}

/// Checks that what the pod wants of the host is of the type it says, making it where the type allows that.
fn host(path: &Path, kind: &str) -> Result<(), String> {
    let found = fs::metadata(path).ok();
    let shown = path.display();
    let is = |test: fn(&fs::Metadata) -> bool| found.as_ref().is_some_and(test);
    match kind {
        "" => Ok(()),
        "DirectoryOrCreate" if found.is_none() => {
            fs::create_dir_all(path).map_err(|error| format!("hostPath {shown}: {error}"))
        }
        "FileOrCreate" if found.is_none() => fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(path)
            .map(drop)
            .map_err(|error| format!("hostPath {shown}: {error}")),
        "Directory" | "DirectoryOrCreate" if is(fs::Metadata::is_dir) => Ok(()),
        "File" | "FileOrCreate" if is(fs::Metadata::is_file) => Ok(()),
        "Socket" if is(|found| found.file_type().is_socket()) => Ok(()),
        "CharDevice" if is(|found| found.file_type().is_char_device()) => Ok(()),
        "BlockDevice" if is(|found| found.file_type().is_block_device()) => Ok(()),
        "Directory" | "DirectoryOrCreate" => Err(format!("hostPath type check failed: {shown} is not a directory")),
        "File" | "FileOrCreate" => Err(format!("hostPath type check failed: {shown} is not a file")),
        "Socket" => Err(format!("hostPath type check failed: {shown} is not a socket file")),
        "CharDevice" => Err(format!("hostPath type check failed: {shown} is not a character device")),
        "BlockDevice" => Err(format!("hostPath type check failed: {shown} is not a block device")),
        other => Err(format!("hostPath type {other:?} is not known")),
    }
}
