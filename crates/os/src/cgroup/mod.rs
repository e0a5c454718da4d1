//! Control groups: one tree in version 2, one per controller in version 1. A hybrid host counts as version 1, since
//! its controllers are there; the version 2 tree beside them only groups processes.
//!
//! Paths given here are relative to the root of the hierarchy, such as `knarr/burstable/pod1/abc`.

mod devices;
mod freeze;
mod layout;
mod rate;
mod resources;
mod usage;
mod v1;
mod v2;

#[cfg(test)]
mod tests;

use std::{
    fs, io,
    path::{Path, PathBuf},
};

pub use layout::{Layout, Version};
pub use rate::CpuRate;
pub use resources::{HugepageLimit, Resources};
pub use usage::Usage;

use crate::{
    error::{Context, OsError, Result},
    process,
};

/// The host's control groups.
#[derive(Clone, Debug)]
pub struct Cgroups {
    layout: Layout,
}

/// A limit that could not be set, and why; the container runs without it.
pub type Warning = OsError;

impl Cgroups {
    /// Finds the hierarchies this host has mounted.
    pub fn detect() -> Result<Self> {
        Ok(Self { layout: Layout::detect()? })
    }

    /// Works on hierarchies laid out elsewhere, such as plain directories in a test.
    pub fn with_layout(layout: Layout) -> Self {
        Self { layout }
    }

    pub fn version(&self) -> Version {
        self.layout.version()
    }

    /// Makes a group, its parents where missing, and sets its limits. What the host refuses comes back as warnings;
    /// a group that cannot be made at all is an error.
    pub fn create(&self, path: &Path, resources: &Resources) -> Result<Vec<Warning>> {
        let path = relative(path)?;
        match &self.layout {
            Layout::V1(layout) => v1::create(layout, &path, resources)?,
            Layout::V2(root) => v2::create(root, &path)?,
        }
        Ok(self.update(&path, resources))
    }

    /// Sets the limits of a group that is there.
    pub fn update(&self, path: &Path, resources: &Resources) -> Vec<Warning> {
        let Ok(path) = relative(path) else { return Vec::new() };
        match &self.layout {
            Layout::V1(layout) => v1::update(layout, &path, resources),
            Layout::V2(root) => v2::update(root, &path, resources),
        }
    }

    /// Moves the calling process into a group.
    pub fn join(&self, path: &Path) -> Result<()> {
        self.move_process(path, 0)
    }

    /// Moves a process into a group. In version 1 the kernel may take 10 ms to do so (it waits for an RCU grace
    /// period), which a caller can spend on other things by moving its child instead of having it move itself.
    pub fn move_process(&self, path: &Path, pid: i32) -> Result<()> {
        let (path, pid) = (relative(path)?, pid.to_string());
        for directory in self.layout.directories(&path) {
            let file = directory.join("cgroup.procs");
            fs::write(&file, &pid).os("join", file.display())?;
        }
        for directory in self.layout.trackers(&path) {
            // Membership there only tells service managers apart; without it all still works.
            let _ = fs::create_dir_all(&directory).and_then(|()| fs::write(directory.join("cgroup.procs"), &pid));
        }
        Ok(())
    }

    pub fn exists(&self, path: &Path) -> bool {
        relative(path).is_ok_and(|path| self.layout.directories(&path).iter().any(|directory| directory.is_dir()))
    }

    /// The processes in a group and all groups below it.
    pub fn processes(&self, path: &Path) -> Vec<i32> {
        let Ok(path) = relative(path) else { return Vec::new() };
        let mut found = Vec::new();
        for directory in self.layout.directories(&path) {
            collect_processes(&directory, &mut found);
        }
        found.sort_unstable();
        found.dedup();
        found
    }

    /// Kills every process in a group and below. They end soon after, not at once.
    pub fn kill(&self, path: &Path) {
        let Ok(path) = relative(path) else { return };
        if let Layout::V2(root) = &self.layout
            && fs::write(root.join(&path).join("cgroup.kill"), "1").is_ok()
        {
            return;
        }
        // Forks race with this sweep, so it runs until a sweep finds no one new.
        let mut before = Vec::new();
        for _ in 0..32 {
            let now = self.processes(&path);
            now.iter().for_each(|pid| process::kill(*pid));
            if now.is_empty() || now == before {
                return;
            }
            before = now;
        }
    }

    /// Removes a group and the groups below it; one that is not there is no error, one in use is.
    pub fn remove(&self, path: &Path) -> Result<()> {
        let path = relative(path)?;
        for directory in self.layout.directories(&path).into_iter().chain(self.layout.optional_directories(&path)) {
            remove_tree(&directory)?;
        }
        Ok(())
    }

    /// Removes the grouping-only directories of [`Cgroups::join`] for a whole root, once nothing is in it any more.
    pub fn remove_root(&self, root: &Path) -> Result<()> {
        self.remove(root)?;
        let root = relative(root)?;
        for directory in self.layout.trackers(&root) {
            remove_tree(&directory)?;
        }
        Ok(())
    }

    /// How many processes of a group the kernel has killed for want of memory.
    pub fn oom_kills(&self, path: &Path) -> u64 {
        let Ok(path) = relative(path) else { return 0 };
        match &self.layout {
            Layout::V1(layout) => v1::oom_kills(layout, &path),
            Layout::V2(root) => v2::oom_kills(root, &path),
        }
    }

    /// What a group has used.
    pub fn usage(&self, path: &Path) -> Usage {
        let Ok(path) = relative(path) else { return Usage::default() };
        match &self.layout {
            Layout::V1(layout) => v1::usage(layout, &path),
            Layout::V2(root) => v2::usage(root, &path),
        }
    }

    /// The hierarchies as a container should see them: (mount point below `/sys/fs/cgroup`, kind, options).
    pub fn views(&self) -> Vec<(PathBuf, &'static str, String)> {
        self.layout.views()
    }
}

/// Refuses what would lead out of the hierarchy, and the root itself.
fn relative(path: &Path) -> Result<PathBuf> {
    let stripped = path.strip_prefix("/").unwrap_or(path);
    let plain = stripped.components().all(|c| matches!(c, std::path::Component::Normal(_)));
    if !plain || stripped.as_os_str().is_empty() {
        let why = io::Error::new(io::ErrorKind::InvalidInput, "a group is named by a path without dots, never empty");
        return Err(OsError::new("use the control group", path.display(), why));
    }
    Ok(stripped.to_owned())
}

fn collect_processes(directory: &Path, found: &mut Vec<i32>) {
    if let Ok(text) = fs::read_to_string(directory.join("cgroup.procs")) {
        // Zero stands for a process outside the PID namespace this one can see.
        found.extend(text.lines().filter_map(|l| l.parse::<i32>().ok()).filter(|pid| *pid > 0));
    }
    for child in child_groups(directory) {
        collect_processes(&child, found);
    }
}

fn child_groups(directory: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(directory) else { return Vec::new() };
    entries.flatten().filter(|e| e.file_type().is_ok_and(|t| t.is_dir())).map(|e| e.path()).collect()
}

fn remove_tree(directory: &Path) -> Result<()> {
    for child in child_groups(directory) {
        remove_tree(&child)?;
    }
    match fs::remove_dir(directory) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e).os("remove the control group", directory.display()),
        _ => Ok(()),
    }
}

/// Writes a limit; the failure becomes a warning that names the file.
fn set(directory: &Path, file: &str, value: impl AsRef<str>, warnings: &mut Vec<Warning>) {
    let path = directory.join(file);
    if let Err(e) = fs::write(&path, value.as_ref()) {
        warnings.push(OsError::new("set", format!("{} to {}", path.display(), value.as_ref()), e));
    }
}

/// The number after `key` in a file of `key value` lines.
fn keyed(path: &Path, key: &str) -> Option<u64> {
    value_of(&fs::read_to_string(path).ok()?, key)
}

/// The number after `key` among `key value` lines.
fn value_of(text: &str, key: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(' ')?.trim().parse().ok())
}

/// The number a file holds.
fn number(path: &Path) -> Option<u64> {
    fs::read_to_string(path).ok()?.trim().parse().ok()
}
