//! Mounts. Container mounts are made inside the container's own mount namespace, so that they vanish with its last
//! process; only a sandbox's shared memory and its network namespace file appear in the host's table.

use std::{
    ffi::CString,
    fs,
    os::fd::{AsFd, OwnedFd},
    path::{Path, PathBuf},
};

use rustix::{
    fs::{AtFlags, CWD},
    mount::{MountFlags, MountPropagationFlags, MoveMountFlags, OpenTreeFlags, UnmountFlags},
};

use crate::{
    error::{Context, Result},
    root::magic_path,
};

/// How mounts made later on one side show up on the other (CRI `MountPropagation`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum Propagation {
    #[default]
    Private,
    HostToContainer,
    Bidirectional,
}

/// Flags of one mount.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Flags {
    pub readonly: bool,
    pub nosuid: bool,
    pub nodev: bool,
    pub noexec: bool,
}

impl Flags {
    pub const NONE: Self = Self { readonly: false, nosuid: false, nodev: false, noexec: false };
    /// Device nodes on it do not work: how a container that may `mknod` is kept from the host's disks.
    pub const NODEV: Self = Self { nodev: true, ..Self::NONE };
    /// What kernel file systems are mounted with.
    pub const KERNEL: Self = Self { readonly: false, nosuid: true, nodev: true, noexec: true };

    pub fn readonly(self, readonly: bool) -> Self {
        Self { readonly, ..self }
    }

    fn bits(self) -> MountFlags {
        let mut flags = MountFlags::empty();
        flags.set(MountFlags::RDONLY, self.readonly);
        flags.set(MountFlags::NOSUID, self.nosuid);
        flags.set(MountFlags::NODEV, self.nodev);
        flags.set(MountFlags::NOEXEC, self.noexec);
        flags
    }
}

/// Mounts a file system of a kind on a directory.
pub fn filesystem(kind: &str, target: &Path, flags: Flags, options: &str) -> Result<()> {
    let data = CString::new(options).os("read the options of", target.display())?;
    let data = (!options.is_empty()).then_some(data.as_c_str());
    rustix::mount::mount(kind, target, kind, flags.bits(), data).os("mount", format!("{kind} on {}", target.display()))
}

/// Mounts what has a name of its own, with options as people write them: those that every file system has become flags,
/// and the others are for the file system.
pub fn from(source: &str, kind: &str, target: &Path, options: &[&str]) -> Result<()> {
    let (flags, rest) = split_options(options);
    let data = CString::new(rest).os("read the options of", target.display())?;
    rustix::mount::mount(source, target, kind, flags, Some(data.as_c_str())).os("mount", format!("{kind} {source}"))
}

/// (mount(8), "filesystem-independent mount options")
fn split_options(options: &[&str]) -> (MountFlags, String) {
    let mut flags = MountFlags::empty();
    let mut rest = Vec::new();
    for option in options {
        match *option {
            "ro" => flags |= MountFlags::RDONLY,
            "rw" => flags -= MountFlags::RDONLY,
            "noatime" => flags |= MountFlags::NOATIME,
            "nodiratime" => flags |= MountFlags::NODIRATIME,
            "relatime" => flags |= MountFlags::RELATIME,
            "strictatime" => flags |= MountFlags::STRICTATIME,
            "lazytime" => flags |= MountFlags::LAZYTIME,
            "noexec" => flags |= MountFlags::NOEXEC,
            "nosuid" => flags |= MountFlags::NOSUID,
            "nodev" => flags |= MountFlags::NODEV,
            "sync" => flags |= MountFlags::SYNCHRONOUS,
            "dirsync" => flags |= MountFlags::DIRSYNC,
            // What there is anyway, and what is for other programs than the kernel.
            "defaults" | "async" | "exec" | "suid" | "dev" | "_netdev" | "auto" | "noauto" | "nofail" | "" => {}
            other => rest.push(other),
        }
    }
    (flags, rest.join(","))
}

/// As [`filesystem`], onto a directory held open, whatever its path has come to mean.
pub fn filesystem_at(kind: &str, target: impl AsFd, flags: Flags, options: &str) -> Result<()> {
    // Borrowed: the descriptor has to be open while its path is used.
    filesystem(kind, &magic_path(target.as_fd()), flags, options)
}

/// Mounts an overlay of `lower` directories, the topmost first, which may be relative to the working directory (the
/// kernel takes one page of options, and an image may have a hundred layers).
pub fn overlay(lower: &[String], upper: &Path, work: &Path, target: &Path, flags: Flags) -> Result<()> {
    let options = format!("lowerdir={},upperdir={},workdir={}", lower.join(":"), upper.display(), work.display());
    filesystem("overlay", target, flags, &options)
}

/// Mounts directories stacked as [`overlay`] does, with nothing to write to on top. The target has to be empty: it is
/// the lowest of the stack, since the kernel wants two at least.
pub fn stack(lower: &[String], target: &Path, flags: Flags) -> Result<()> {
    filesystem("overlay", target, flags, &format!("lowerdir={}:{}", lower.join(":"), target.display()))
}

/// A copy of the mount at a path, attached nowhere yet. With it a source is pinned before anything else changes.
pub fn clone_tree(source: &Path, recursive: bool) -> Result<OwnedFd> {
    let mut flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    flags.set(OpenTreeFlags::AT_RECURSIVE, recursive);
    rustix::mount::open_tree(CWD, source, flags).os("take a mount of", source.display())
}

/// Attaches such a copy onto an open file or directory.
pub fn attach(tree: impl AsFd, target: impl AsFd) -> Result<()> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    rustix::mount::move_mount(tree, "", target, "", flags).os("attach", "a mount")
}

/// Sets the flags of a mount that is there, keeping those a less privileged owner has locked.
pub fn set_flags(target: &Path, flags: Flags) -> Result<()> {
    let mut all = flags.bits();
    let current = rustix::fs::statvfs(target).os("inspect", target.display())?.f_flag;
    use rustix::fs::StatVfsMountFlags as Have;
    for (have, flag) in [
        (Have::RDONLY, MountFlags::RDONLY),
        (Have::NOSUID, MountFlags::NOSUID),
        (Have::NODEV, MountFlags::NODEV),
        (Have::NOEXEC, MountFlags::NOEXEC),
    ] {
        all.set(flag, all.contains(flag) || current.contains(have));
    }
    rustix::mount::mount_remount(target, all | MountFlags::BIND, "").os("set the flags of", target.display())
}

/// Makes a mount and all below it read-only, submounts included (`recursiveReadOnly`; Linux 5.12).
pub fn set_readonly_recursive(target: impl AsFd) -> Result<()> {
    set_attributes(target, true, nix::libc::MOUNT_ATTR_RDONLY, 0).os("make read-only", "a mount tree")
}

/// `mount_setattr(2)` on an open mount.
pub(crate) fn set_attributes(
    target: impl AsFd,
    recursive: bool,
    attributes: u64,
    user_namespace: i32,
) -> std::io::Result<()> {
    use nix::libc;
    use std::os::fd::AsRawFd;
    let attributes =
        libc::mount_attr { attr_set: attributes, attr_clr: 0, propagation: 0, userns_fd: user_namespace as u64 };
    // SAFETY: the descriptor is open, the path empty and terminated, and the structure lives through the call.
    let code = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            target.as_fd().as_raw_fd(),
            c"".as_ptr(),
            libc::AT_EMPTY_PATH | if recursive { libc::AT_RECURSIVE } else { 0 },
            &raw const attributes,
            size_of::<libc::mount_attr>(),
        )
    };
    if code == 0 { Ok(()) } else { Err(std::io::Error::last_os_error()) }
}

/// Sets how a mount, and all below it, exchanges new mounts with its copies.
pub fn set_propagation(target: &Path, propagation: Propagation) -> Result<()> {
    let flags = match propagation {
        Propagation::Private => MountPropagationFlags::PRIVATE,
        Propagation::HostToContainer => MountPropagationFlags::DOWNSTREAM,
        Propagation::Bidirectional => MountPropagationFlags::SHARED,
    };
    rustix::mount::mount_change(target, flags | MountPropagationFlags::REC)
        .os("set the propagation of", target.display())
}

/// Makes `root` the root of this mount namespace and detaches the old one.
pub fn enter_root(root: &Path) -> Result<()> {
    rustix::process::chdir(root).os("enter", root.display())?;
    // With both arguments the same, the old root is stacked on the new one and needs no directory of its own.
    rustix::process::pivot_root(".", ".").os("make the root", root.display())?;
    rustix::mount::unmount(".", UnmountFlags::DETACH).os("detach", "the old root")?;
    rustix::process::chdir("/").os("enter", "/")
}

/// Unmounts what is on top at `target`, now or when its last user ends; succeeds where nothing is mounted.
pub fn unmount(target: &Path) -> Result<()> {
    use rustix::io::Errno;
    match rustix::mount::unmount(target, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW) {
        Ok(()) | Err(Errno::INVAL | Errno::NOENT) => Ok(()),
        Err(e) => Err(e).os("unmount", target.display()),
    }
}

/// One row of this process's mount table (`/proc/self/mountinfo`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mount {
    pub target: PathBuf,
    pub kind: String,
    /// Options of the file system itself, such as the controllers of a version 1 cgroup hierarchy.
    pub options: String,
}

/// The mount table, in the order the mounts were made.
pub fn table() -> Result<Vec<Mount>> {
    let text = fs::read_to_string("/proc/self/mountinfo").os("read", "/proc/self/mountinfo")?;
    Ok(text.lines().filter_map(parse_row).collect())
}

/// `36 35 98:0 / /target opts shared:1 - kind source superopts`
fn parse_row(row: &str) -> Option<Mount> {
    let (left, right) = row.split_once(" - ")?;
    let target = PathBuf::from(unescape(left.split(' ').nth(4)?));
    let mut right = right.split(' ');
    let (kind, _source, options) = (right.next()?, right.next()?, right.next().unwrap_or(""));
    Some(Mount { target, kind: kind.to_owned(), options: options.to_owned() })
}

/// The kernel writes space, tab, newline and backslash as octal escapes.
fn unescape(field: &str) -> String {
    let mut out = Vec::with_capacity(field.len());
    let bytes = field.as_bytes();
    let mut at = 0;
    while at < bytes.len() {
        let octal = bytes.get(at + 1..at + 4).filter(|_| bytes[at] == b'\\');
        match octal.and_then(|o| std::str::from_utf8(o).ok()).and_then(|o| u8::from_str_radix(o, 8).ok()) {
            Some(byte) => {
                out.push(byte);
                at += 4;
            }
            None => {
                out.push(bytes[at]);
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// Unmounts everything at and below a directory, the newest first.
pub fn unmount_below(directory: &Path) -> Result<()> {
    for mount in table()?.iter().rev().filter(|m| m.target.starts_with(directory)) {
        unmount(&mount.target)?;
    }
    Ok(())
}

/// True where something is mounted exactly at `target`.
pub fn is_mounted(target: &Path) -> Result<bool> {
    Ok(table()?.iter().any(|m| m.target == target))
}

/// Makes a device node, with the mode given whatever the umask.
pub fn device_node(
    directory: impl AsFd,
    name: &str,
    kind: DeviceKind,
    major: u32,
    minor: u32,
    mode: u32,
) -> Result<()> {
    use rustix::fs::{FileType, Mode, makedev};
    let file_type = match kind {
        DeviceKind::Character => FileType::CharacterDevice,
        DeviceKind::Block => FileType::BlockDevice,
    };
    let mode = Mode::from_raw_mode(mode);
    rustix::fs::mknodat(directory.as_fd(), name, file_type, mode, makedev(major, minor)).os("make the device", name)?;
    rustix::fs::chmodat(directory.as_fd(), name, mode, AtFlags::empty()).os("set the mode of", name)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum DeviceKind {
    Character,
    Block,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_the_kernels_or_the_file_systems() {
        let (flags, rest) = split_options(&["ro", "hard", "noatime", "_netdev", "rw", "addr=192.0.2.1"]);
        assert_eq!((flags, rest.as_str()), (MountFlags::NOATIME, "hard,addr=192.0.2.1"));
    }

    #[test]
    fn rows_of_the_table_are_read() {
        let row = r"41 31 0:38 / /mnt/with\040space rw,relatime shared:7 master:2 - cgroup2 cgroup2 rw,nsdelegate";
        let expected =
            Mount { target: "/mnt/with space".into(), kind: "cgroup2".into(), options: "rw,nsdelegate".into() };
        assert_eq!(parse_row(row), Some(expected));
        assert_eq!(parse_row("nonsense"), None);
    }
}
