//! A pod whose users are not the host's. The shim stays who it is: it makes the pod's user namespace by a child, takes
//! the sandbox's other namespaces from there, and so owns none of them. What it builds for a container it builds with
//! the host's rights, and the container's process gives those up as its last step before the program.

use std::{
    collections::BTreeMap,
    fs::File,
    os::fd::{AsFd, OwnedFd},
    path::Path,
};

use knarr_os::{
    namespace::{self, Namespace},
    process::{self, PidNamespace},
    users::{self, IdBlock},
};

use super::{
    error::SetupError,
    launch::{self, Report},
    spec::Identity,
};

type Result<T> = std::result::Result<T, SetupError>;

#[derive(Debug)]
pub struct PodUsers {
    ids: IdBlock,
    namespace: File,
}

impl PodUsers {
    /// Makes the namespace, and in its name those of the kinds, which this process moves into. The kernel's parameters
    /// of those can be set only by the root they belong to.
    pub fn make(ids: IdBlock, kinds: &[Namespace], sysctls: &BTreeMap<String, String>) -> Result<Self> {
        let child = launch::spawn(PidNamespace::Inherit, |socket| {
            namespace::unshare(&[Namespace::User])?;
            launch::report(socket, &Report::Step, &[])?;
            launch::wait_for_go(socket)?;
            process::set_identity(0, 0, &[])?;
            namespace::unshare(kinds)?;
            for (name, value) in sysctls {
                namespace::set_sysctl(name, value)?;
            }
            launch::report(socket, &Report::Step, &[])?;
            // Until it has been looked at.
            launch::wait_for_go(socket)?;
            Err(SetupError::Abandoned)
        })?;
        let made = launch::step(&child).and_then(|()| {
            ids.give(child.pid)?;
            launch::go_on(&child)?;
            launch::step(&child)?;
            for kind in kinds {
                namespace::join(namespace::of_process(child.pid, *kind)?.as_fd(), *kind)?;
            }
            Ok(Self { ids, namespace: namespace::of_process(child.pid, Namespace::User)? })
        });
        process::kill(child.pid);
        made
    }

    /// What the host calls the pod's root.
    pub fn root(&self) -> u32 {
        self.ids.host_id
    }

    /// What the host calls the user of a process, all of whose groups have to be the pod's as well.
    pub fn on_host(&self, identity: &Identity) -> Result<u32> {
        let host = |what, id| self.ids.on_host(id).ok_or(SetupError::Unmapped { what, id, length: self.ids.length });
        for group in identity.groups.iter().chain([&identity.gid]) {
            host("group", *group)?;
        }
        host("user", identity.uid)
    }

    /// Has the pod see the files of a mount with the owners that the disk says. `path` is for the message.
    pub fn map(&self, tree: &OwnedFd, recursive: bool, path: &Path) -> Result<()> {
        users::map_mount(tree, recursive, self.namespace.as_fd())
            .map_err(|error| SetupError::IdMap { path: path.display().to_string(), error })
    }

    /// Has what this process makes from now on be the root's of the pod.
    pub fn make_files(&self) -> Result<()> {
        Ok(users::make_files_as(self.ids.host_id)?)
    }

    /// Makes this process the pod's root, with namespaces of its own of the kinds. There is no way back.
    pub fn enter(&self, kinds: &[Namespace]) -> Result<()> {
        users::become_root_of(self.namespace.as_fd())?;
        Ok(namespace::unshare(kinds)?)
    }
}
