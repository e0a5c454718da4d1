//! Freezing: every process of a group stands still until it is thawed, and none of them notices.
//! Sources: the kernel's `cgroup-v1/freezer-subsystem.rst` and `cgroup-v2.rst`.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use super::{Cgroups, Layout, keyed, relative};
use crate::error::{Context, OsError, Result};

impl Cgroups {
    /// Makes a group whose processes can be frozen. In version 1 those that they start are frozen with them in
    /// whatever other group they are, because nobody moves them within the freezer's own tree; in version 2 the groups
    /// of those have to be frozen each.
    pub fn create_freezable(&self, path: &Path) -> Result<()> {
        self.create(path, &Default::default())?;
        match &self.layout {
            Layout::V1(_) => {
                let directory = self.freezer(path)?;
                fs::create_dir_all(&directory).os("make the control group", directory.display())
            }
            Layout::V2(_) => Ok(()),
        }
    }

    /// Freezes or thaws a group and all below it; it takes hold soon after, not at once.
    pub fn set_frozen(&self, path: &Path, frozen: bool) -> Result<()> {
        let (file, text) = match (&self.layout, frozen) {
            (Layout::V1(_), true) => ("freezer.state", "FROZEN"),
            (Layout::V1(_), false) => ("freezer.state", "THAWED"),
            (Layout::V2(_), true) => ("cgroup.freeze", "1"),
            (Layout::V2(_), false) => ("cgroup.freeze", "0"),
        };
        let file = self.freezer(path)?.join(file);
        fs::write(&file, text).os(if frozen { "freeze" } else { "thaw" }, file.display())
    }

    /// Whether all processes of a group stand still.
    pub fn is_frozen(&self, path: &Path) -> bool {
        let Ok(directory) = self.freezer(path) else { return false };
        match &self.layout {
            Layout::V1(_) => {
                fs::read_to_string(directory.join("freezer.state")).is_ok_and(|state| state.trim() == "FROZEN")
            }
            Layout::V2(_) => keyed(&directory.join("cgroup.events"), "frozen") == Some(1),
        }
    }

    fn freezer(&self, path: &Path) -> Result<PathBuf> {
        let path = relative(path)?;
        match &self.layout {
            Layout::V2(root) => Ok(root.join(path)),
            Layout::V1(layout) => layout.controller("freezer").map(|root| root.join(&path)).ok_or_else(|| {
                let why = "this host has no freezer: mount the controller at /sys/fs/cgroup/freezer";
                OsError::new("freeze", path.display(), io::Error::new(io::ErrorKind::Unsupported, why))
            }),
        }
    }
}
