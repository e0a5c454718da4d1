//! Brings one volume onto the disk. Blocking: it runs on a thread for that.

use std::{
    fs, io,
    os::{
        fd::AsRawFd,
        unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt, PermissionsExt, fchown},
    },
    path::{Path, PathBuf},
};

use super::{Content, DEVICE, Desired, VolumeError, atomic, claims::Place, tmpfs};

/// The group that all of a pod's volumes belong to.
#[derive(Clone, Copy, Debug)]
pub struct Group {
    pub id: u32,
    /// Whether a volume that has the group at its top is left alone.
    pub only_if_root_differs: bool,
}

pub fn apply(desired: &Desired, group: Option<Group>) -> Result<(), VolumeError> {
    let disk = |(path, source): (PathBuf, io::Error)| VolumeError::Disk { volume: desired.name.clone(), path, source };
    match &desired.content {
        Content::Host { kind } => {
            host(&desired.path, kind).map_err(|cause| VolumeError::SetUp { volume: desired.name.clone(), cause })
        }
        Content::Claimed(place) => {
            let volume = desired.name.clone();
            claimed(place).map_err(|cause| match &*place.kind {
                DEVICE => VolumeError::Map { volume, cause },
                _ => VolumeError::SetUp { volume, cause },
            })?;
            link(&desired.path, &place.path).map_err(|source| disk((desired.path.clone(), source)))?;
            match group.filter(|_| place.owned) {
                Some(group) => give(&place.path, group).map_err(disk),
                None => Ok(()),
            }
        }
        Content::Image => Ok(()),
        Content::Empty { memory } => empty(&desired.path, *memory, group).map_err(disk),
        Content::Files { files, memory } => {
            let done = prepare(&desired.path, memory.then_some(0)).and_then(|()| {
                atomic::write(&desired.path, files, group.map(|group| group.id))
                    .map_err(|error| (desired.path.clone(), error))
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
fn empty(path: &Path, memory: Option<u64>, group: Option<Group>) -> Result<(), Failure> {
    let new = !path.exists();
    prepare(path, memory)?;
    if new {
        fs::set_permissions(path, fs::Permissions::from_mode(0o777)).map_err(at(path))?;
    }
    if let Some(group) = group {
        give(path, group)?;
    }
    Ok(())
}

/// What a claim's volume is made of must be there: one that is gone must not come back empty.
fn claimed(place: &Place) -> Result<(), String> {
    if place.owned && !place.path.exists() {
        return Err(format!("path {:?} does not exist", place.path.display().to_string()));
    }
    host(&place.path, &place.kind)
}

fn link(path: &Path, target: &Path) -> io::Result<()> {
    if fs::read_link(path).is_ok_and(|known| known == target) {
        return Ok(());
    }
    path.parent().map_or(Ok(()), fs::create_dir_all)?;
    atomic::symlink_anew(target, path)
}

fn give(path: &Path, group: Group) -> Result<(), Failure> {
    let root = fs::symlink_metadata(path).map_err(at(path))?;
    let is_right = root.gid() == group.id && root.mode() & 0o2770 == 0o2770;
    if group.only_if_root_differs && is_right {
        return Ok(());
    }
    own(path, path, group.id)
}

/// Gives a tree to a group: readable and writable by it, and inherited by what is made in it. Pods may be at work in
/// it meanwhile, so nothing is changed by its name: a link put there in between would lead to somebody else's file.
fn own(path: &Path, shown: &Path, group: u32) -> Result<(), Failure> {
    let metadata = fs::symlink_metadata(path).map_err(at(shown))?;
    if !metadata.is_dir() && !metadata.is_file() {
        return std::os::unix::fs::lchown(path, None, Some(group)).map_err(at(shown));
    }
    let flags = rustix::fs::OFlags::NOFOLLOW | rustix::fs::OFlags::NONBLOCK;
    let flags = i32::try_from(flags.bits()).unwrap_or_default();
    let file = fs::OpenOptions::new().read(true).custom_flags(flags).open(path).map_err(at(shown))?;
    let metadata = file.metadata().map_err(at(shown))?;
    if metadata.gid() != group {
        fchown(&file, None, Some(group)).map_err(at(shown))?;
    }
    let mask = if metadata.is_dir() { 0o2770 } else { 0o660 };
    let mode = (metadata.mode() | mask) & 0o7777;
    if mode != metadata.mode() & 0o7777 {
        file.set_permissions(fs::Permissions::from_mode(mode)).map_err(at(shown))?;
    }
    if metadata.is_dir() {
        // By what was opened, wherever its name leads by now.
        let opened = PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd()));
        for entry in fs::read_dir(&opened).map_err(at(shown))? {
            let name = entry.map_err(at(shown))?.file_name();
            own(&opened.join(&name), &shown.join(&name), group)?;
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
