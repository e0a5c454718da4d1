//! A subPath: one directory or file of a volume, bound where no container can change what its name means. A path inside
//! the volume is no good to a runtime that opens it later: a container that shares the volume may have put a link in
//! its place by then (CVE-2021-25741). So the path is walked without following links, and what that leads to is mounted
//! in the pod's own folder, at the place where upstream mounts it.

use std::{
    fs, io,
    os::{fd::OwnedFd, unix::fs::MetadataExt},
    path::{Component, Path, PathBuf},
};

use knarr_os::{
    mount,
    root::{Root, magic_path},
};
use rustix::{
    fs::{FileType, Mode, OFlags},
    io::Errno,
};

use super::tmpfs::io_error;

const FOLDER: &str = "volume-subpaths";

/// What could not be done; the event says no more than that, since the cause tells of the host's files.
#[derive(Debug)]
pub enum Failure {
    Create(io::Error),
    Prepare(io::Error),
}

/// Where a container's mount is bound, by its place in the list of mounts.
pub fn target(dir: &Path, volume: &str, container: &str, index: usize) -> PathBuf {
    dir.join(FOLDER).join(volume).join(container).join(index.to_string())
}

/// Opens what a path names in a volume. Links on the way count as long as they stay inside. Directories that are missing
/// are made, with the volume's mode: where its group is inherited, theirs is the same.
pub fn open(volume: &Path, path: &Path) -> Result<OwnedFd, Failure> {
    let base = fs::canonicalize(volume).map_err(Failure::Prepare)?;
    let (real, missing) = split(&base, path).map_err(Failure::Prepare)?;
    let leaves = |_| Failure::Prepare(io::Error::new(io::ErrorKind::PermissionDenied, "it leads out of the volume"));
    let inside = real.strip_prefix(&base).map_err(leaves)?;
    walk(&base, inside, &missing)
}

/// The longest beginning of a path that is there, with links followed, and what is missing after it. By the time it is
/// walked all of that may have changed, so it is a guess.
fn split(base: &Path, path: &Path) -> io::Result<(PathBuf, PathBuf)> {
    match (fs::canonicalize(base.join(path)), path.parent(), path.file_name()) {
        (Err(error), Some(parent), Some(name)) if error.kind() == io::ErrorKind::NotFound => {
            let (real, missing) = split(base, parent)?;
            Ok((real, missing.join(name)))
        }
        (found, ..) => Ok((found?, PathBuf::new())),
    }
}

/// From the base to what is `inside`, without following any link, and on through directories that are made.
pub(super) fn walk(base: &Path, inside: &Path, missing: &Path) -> Result<OwnedFd, Failure> {
    let opened = || {
        let mode = fs::metadata(base)?.mode() & 0o7777;
        Ok((mode, Root::open(base)?.get_unlinked(inside, OFlags::PATH)?))
    };
    let (mode, mut at) = opened().map_err(Failure::Prepare)?;
    for part in missing.components() {
        if let Component::Normal(name) = part {
            at = step(&at, Path::new(name), mode).map_err(Failure::Create)?;
        }
    }
    Ok(at)
}

/// Makes one directory and opens it. Somebody else may have been faster, with a directory as good as ours.
fn step(parent: &OwnedFd, name: &Path, mode: u32) -> io::Result<OwnedFd> {
    let made = match rustix::fs::mkdirat(parent, name, Mode::from_raw_mode(mode)) {
        Ok(()) => true,
        Err(Errno::EXIST) => false,
        Err(error) => return Err(error.into()),
    };
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let opened = rustix::fs::openat(parent, name, flags, Mode::empty())?;
    if made {
        // The umask took its part of what was asked for.
        rustix::fs::fchmod(&opened, Mode::from_raw_mode(mode))?;
    }
    Ok(opened)
}

/// Mounts what was opened. What is mounted there already stays if it is the same: it serves the container's earlier
/// runs.
pub fn bind(opened: &OwnedFd, target: &Path) -> io::Result<()> {
    let source = rustix::fs::fstat(opened)?;
    if let Ok(there) = fs::symlink_metadata(target) {
        if (there.dev(), there.ino()) == (source.st_dev, source.st_ino) {
            return Ok(());
        }
        mount::unmount(target).map_err(io_error)?;
        remove(target, 0)?;
    }
    let parent = target.parent().unwrap_or(target);
    fs::create_dir_all(parent)?;
    match FileType::from_raw_mode(source.st_mode) {
        FileType::Directory => fs::create_dir(target)?,
        // Whatever it is, a socket or a device, it can be mounted on a file.
        _ => drop(fs::File::create_new(target)?),
    }
    let name = Path::new(target.file_name().unwrap_or_default());
    let on = Root::open(parent)?.get_unlinked(name, OFlags::PATH)?;
    let tree = mount::clone_tree(&magic_path(opened), false).map_err(io_error)?;
    mount::attach(&tree, &on).map_err(io_error)
}

/// Unmounts the parts of a pod's volumes.
pub fn unbind(dir: &Path) -> io::Result<()> {
    super::tmpfs::unmount_below(&dir.join(FOLDER))
}

/// Takes away what mounts were put on, after they were unmounted. Nothing is removed that has anything in it: a mount
/// that is still there shows somebody's files.
pub fn clear(dir: &Path) -> io::Result<()> {
    const VOLUME_CONTAINER_INDEX: usize = 3;
    match remove(&dir.join(FOLDER), VOLUME_CONTAINER_INDEX) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

fn remove(path: &Path, levels: usize) -> io::Result<()> {
    if !fs::symlink_metadata(path)?.is_dir() {
        return fs::remove_file(path);
    }
    if levels > 0 {
        for entry in fs::read_dir(path)? {
            remove(&entry?.path(), levels - 1)?;
        }
    }
    fs::remove_dir(path)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, chown, symlink};

    use super::*;

    #[test]
    fn new_directories_are_as_open_as_the_volume() {
        assert!(rustix::process::geteuid().is_root(), "this test gives files to a group; run it as root");
        let dir = tempfile::tempdir().unwrap();
        let volume = dir.path().join("v");
        fs::create_dir_all(volume.join("old")).unwrap();
        fs::set_permissions(volume.join("old"), fs::Permissions::from_mode(0o700)).unwrap();
        chown(&volume, None, Some(2345)).unwrap();
        fs::set_permissions(&volume, fs::Permissions::from_mode(0o2777)).unwrap();
        for path in ["new/deep", "old/deeper"] {
            open(&volume, Path::new(path)).unwrap();
        }
        let of = |path: &str| {
            let metadata = fs::metadata(volume.join(path)).unwrap();
            (metadata.mode() & 0o7777, metadata.gid())
        };
        assert_eq!(of("new"), (0o2777, 2345));
        assert_eq!(of("new/deep"), (0o2777, 2345));
        assert_eq!(of("old").0, 0o700, "what was there stays as it is");
        assert_eq!(of("old/deeper").0, 0o2777);
    }

    #[test]
    fn a_link_that_is_swapped_in_is_not_followed() {
        let dir = tempfile::tempdir().unwrap();
        let (volume, secret) = (dir.path().join("v"), dir.path().join("secret"));
        fs::create_dir_all(volume.join("a/b")).unwrap();
        fs::create_dir_all(secret.join("b")).unwrap();
        let base = fs::canonicalize(&volume).unwrap();
        // What a container does between the look at the path and the walk along it.
        let (real, missing) = split(&base, Path::new("a/b/c")).unwrap();
        let inside = real.strip_prefix(&base).unwrap();
        fs::rename(volume.join("a"), volume.join("moved")).unwrap();
        symlink(&secret, volume.join("a")).unwrap();
        assert!(matches!(walk(&base, inside, &missing), Err(Failure::Prepare(_))));
        fs::remove_file(volume.join("a")).unwrap();
        fs::rename(volume.join("moved"), volume.join("a")).unwrap();
        symlink(&secret, volume.join("a/b/c")).unwrap();
        assert!(matches!(walk(&base, inside, &missing), Err(Failure::Create(_))));
        assert_eq!(fs::read_dir(&secret).unwrap().count(), 1, "nothing was made outside");
    }

    #[test]
    fn what_was_bound_stays_whatever_its_name_becomes() {
        assert!(rustix::process::geteuid().is_root(), "this test mounts; run it as root");
        let dir = tempfile::tempdir().unwrap();
        let (volume, secret, pod) = (dir.path().join("v"), dir.path().join("secret"), dir.path().join("pod"));
        fs::create_dir_all(volume.join("a")).unwrap();
        fs::write(volume.join("a/f"), "own").unwrap();
        fs::create_dir(&secret).unwrap();
        fs::write(secret.join("f"), "secret").unwrap();
        let target = target(&pod, "v", "c", 0);
        bind(&open(&volume, Path::new("a")).unwrap(), &target).unwrap();
        let shown = || fs::read_to_string(target.join("f")).unwrap();
        assert_eq!(shown(), "own");
        fs::rename(volume.join("a"), volume.join("moved")).unwrap();
        symlink(&secret, volume.join("a")).unwrap();
        assert_eq!(shown(), "own");
        // The next start finds something else there, and a file where a directory was.
        fs::remove_file(volume.join("a")).unwrap();
        fs::write(volume.join("a"), "file").unwrap();
        for _ in 0..2 {
            bind(&open(&volume, Path::new("a")).unwrap(), &target).unwrap();
            assert_eq!(fs::read_to_string(&target).unwrap(), "file");
        }
        let mounts = mount::table().unwrap();
        let real = fs::canonicalize(&pod).unwrap();
        assert_eq!(mounts.iter().filter(|mount| mount.target.starts_with(&real)).count(), 1);
        // A mount that is still there is never emptied.
        assert!(clear(&pod).is_err());
        crate::volume::remove_pod_folder(&pod).unwrap();
        assert!(!pod.exists());
        assert_eq!(fs::read_to_string(volume.join("a")).unwrap(), "file");
        assert_eq!(fs::read_to_string(volume.join("moved/f")).unwrap(), "own");
    }
}
