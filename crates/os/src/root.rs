//! Paths inside a directory that is not trusted: a container's root or an image layer, whose symbolic links must
//! never lead out of it. The kernel does the resolving (`openat2` with `RESOLVE_IN_ROOT`), so nothing can be swapped
//! between a check and its use.

use std::{
    ffi::{OsStr, OsString},
    io,
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
    path::{Component, Path, PathBuf},
};

use rustix::{
    fs::{CWD, Mode, OFlags, ResolveFlags},
    io::Errno,
};

/// A directory that all paths given to it stay within.
#[derive(Debug)]
pub struct Root(OwnedFd);

impl Root {
    pub fn open(path: &Path) -> io::Result<Self> {
        Ok(Self(rustix::fs::openat(CWD, path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?))
    }

    /// Opens what `path` names, following links within the root only.
    pub fn get(&self, path: &Path, flags: OFlags) -> io::Result<OwnedFd> {
        let relative = clean(path);
        let relative = if relative.as_os_str().is_empty() { Path::new(".") } else { &relative };
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        loop {
            match rustix::fs::openat2(&self.0, relative, flags | OFlags::CLOEXEC, Mode::empty(), resolve) {
                // A rename elsewhere on the path's way made the answer uncertain; the kernel asks to try again.
                Err(Errno::AGAIN) => continue,
                other => return Ok(other?),
            }
        }
    }

    /// Opens what `path` names where no part of it is a link, the last one included, and none leads up.
    pub fn get_unlinked(&self, path: &Path, flags: OFlags) -> io::Result<OwnedFd> {
        let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
        Ok(rustix::fs::openat2(&self.0, path, flags | OFlags::CLOEXEC, Mode::empty(), resolve)?)
    }

    /// The directory at `path`, made with its parents where missing.
    pub fn directory(&self, path: &Path, mode: u32) -> io::Result<OwnedFd> {
        match self.get(path, OFlags::PATH | OFlags::DIRECTORY) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            other => return other,
        }
        let (parent, name) = self.parent(path, mode)?;
        match rustix::fs::mkdirat(&parent, &name, Mode::from_raw_mode(mode)) {
            Ok(()) | Err(Errno::EXIST) => self.get(path, OFlags::PATH | OFlags::DIRECTORY),
            Err(e) => Err(e.into()),
        }
    }

    /// The file at `path`, made empty with its parents where missing; something to mount a file on.
    pub fn file(&self, path: &Path) -> io::Result<OwnedFd> {
        match self.get(path, OFlags::PATH) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            other => return other,
        }
        let (parent, name) = self.parent(path, 0o755)?;
        let create = OFlags::CREATE | OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        rustix::fs::openat(&parent, &name, create, Mode::from_raw_mode(0o644))?;
        self.get(path, OFlags::PATH)
    }

    /// The directory that holds `path` (made where missing) and the last name of `path`.
    pub fn parent(&self, path: &Path, mode: u32) -> io::Result<(OwnedFd, OsString)> {
        let path = clean(path);
        let name = path.file_name().map(OsStr::to_owned);
        let name = name.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "the path names the root itself"))?;
        let parent = self.directory(path.parent().unwrap_or(Path::new("")), mode)?;
        Ok((parent, name))
    }
}

impl AsFd for Root {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// A path that names an open descriptor, for the calls that take paths only.
pub fn magic_path(fd: impl AsFd) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", fd.as_fd().as_raw_fd()))
}

/// The path without its leading slash, `.` and, taken by their text, `..`.
fn clean(path: &Path) -> PathBuf {
    let mut out = PathBuf::new();
    for part in path.components() {
        match part {
            Component::Normal(name) => out.push(name),
            Component::ParentDir => {
                out.pop();
            }
            Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::symlink};

    use super::*;

    #[test]
    fn links_never_lead_out() {
        let outside = tempfile::tempdir().unwrap();
        let dir = tempfile::tempdir().unwrap();
        symlink(outside.path(), dir.path().join("abs")).unwrap();
        symlink("../../../../../../../../..", dir.path().join("up")).unwrap();
        let root = Root::open(dir.path()).unwrap();
        root.directory(Path::new("up/made/here"), 0o755).unwrap();
        assert!(dir.path().join("made/here").is_dir());
        root.file(Path::new("/../../etc/deep/file")).unwrap();
        assert!(dir.path().join("etc/deep/file").is_file());
        // The absolute link is read from the root: its target does not exist there, and is not made outside.
        assert!(root.file(Path::new("abs/x")).is_err());
        assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 0);
    }

    #[test]
    fn where_no_link_is_allowed_none_is_followed() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("a/b")).unwrap();
        symlink("a", dir.path().join("link")).unwrap();
        symlink("b", dir.path().join("a/last")).unwrap();
        let root = Root::open(dir.path()).unwrap();
        for (path, opens) in [("", true), ("a/b", true), ("link/b", false), ("a/last", false), ("a/../..", false)] {
            assert_eq!(root.get_unlinked(Path::new(path), OFlags::PATH).is_ok(), opens, "{path}");
        }
    }

    #[test]
    fn paths_are_cleaned_by_their_text() {
        for (path, expected) in [("/a/./b/../c", "a/c"), ("../..", ""), ("/", ""), ("a//b/", "a/b")] {
            assert_eq!(clean(Path::new(path)), Path::new(expected), "{path}");
        }
    }
}
