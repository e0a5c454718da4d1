//! User namespaces: processes whose user and group numbers are not the host's, and whose rights end where what such a
//! namespace owns ends.

use std::{
    fs,
    os::fd::{AsFd, AsRawFd, BorrowedFd},
};

use nix::libc;
use serde::{Deserialize, Serialize};

use crate::{
    caps,
    error::{Context, Result},
    mount,
    namespace::{self, Namespace},
    process,
};

/// A block of the host's user and group numbers, which the inside of a user namespace knows as those from 0 on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct IdBlock {
    pub host_id: u32,
    pub length: u32,
}

impl IdBlock {
    /// What the host calls a user or group of the inside, if there is such a one.
    pub fn on_host(self, id: u32) -> Option<u32> {
        (id < self.length).then(|| self.host_id.checked_add(id))?
    }

    /// Gives these numbers to the fresh user namespace that a process is in.
    pub fn give(self, pid: i32) -> Result<()> {
        let Self { host_id, length } = self;
        ["uid_map", "gid_map"].into_iter().try_for_each(|file| {
            let path = format!("/proc/{pid}/{file}");
            fs::write(&path, format!("0 {host_id} {length}\n")).os("write", path)
        })
    }
}

/// Makes this process, which has to be of one thread, the root of a user namespace and nobody anywhere else.
pub fn become_root_of(namespace: BorrowedFd<'_>) -> Result<()> {
    namespace::join(namespace, Namespace::User)?;
    process::set_identity(0, 0, &[])
}

/// Has what this process makes from now on belong to a user and the group of the same number, with all its rights kept:
/// where files are mapped, one can be made only by who is among those that they are mapped for.
pub fn make_files_as(id: u32) -> Result<()> {
    // These two calls tell of no error; rights over files go with the first, and come back with the last.
    nix::unistd::setfsuid(nix::unistd::Uid::from_raw(id));
    nix::unistd::setfsgid(nix::unistd::Gid::from_raw(id));
    caps::raise_permitted()
}

/// Has the files of a mount that is attached nowhere yet belong to the users of a namespace by the numbers that are on
/// the disk, and what those make belong to such numbers there (Linux 5.12, and later for many file systems).
pub fn map_mount(tree: impl AsFd, recursive: bool, namespace: BorrowedFd<'_>) -> std::io::Result<()> {
    mount::set_attributes(tree, recursive, libc::MOUNT_ATTR_IDMAP, namespace.as_raw_fd())
}

/// Whether this machine can make what is here: the number of namespaces may be limited to none, kernels before 6.3 map
/// no files in memory, and whoever is in such a namespace already has not all numbers to give.
pub fn are_possible() -> bool {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let most = read("/proc/sys/user/max_user_namespaces").trim().parse::<u32>().unwrap_or(0);
    let own = read("/proc/self/uid_map");
    most > 0
        && own.split_whitespace().eq(["0", "0", "4294967295"])
        && has_new_kernel(&read("/proc/sys/kernel/osrelease"))
}

fn has_new_kernel(release: &str) -> bool {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map_while(|part| part.parse::<u32>().ok());
    (numbers.next(), numbers.next()) >= (Some(6), Some(3))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_the_inside_are_the_hosts_in_the_block_only() {
        let block = IdBlock { host_id: 131_072, length: 65_536 };
        for (inside, host) in [(0, Some(131_072)), (65_535, Some(196_607)), (65_536, None), (u32::MAX, None)] {
            assert_eq!(block.on_host(inside), host, "{inside}");
        }
    }

    #[test]
    fn kernels_are_told_apart_by_their_numbers() {
        for (release, new) in
            [("6.18.44-x\n", true), ("6.3", true), ("6.2.16", false), ("5.15.0-1", false), ("", false)]
        {
            assert_eq!(has_new_kernel(release), new, "{release:?}");
        }
    }
}
