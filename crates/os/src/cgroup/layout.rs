use std::path::{Path, PathBuf};

use crate::{error::Result, mount};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// Also hybrid hosts, whose controllers are in version 1 hierarchies.
    V1,
    V2,
}

/// Where the hierarchies are mounted.
#[derive(Clone, Debug)]
pub enum Layout {
    V1(V1Layout),
    V2(PathBuf),
}

#[derive(Clone, Debug, Default)]
pub struct V1Layout {
    /// Each mounted hierarchy: the controllers in it, and where.
    pub hierarchies: Vec<(Vec<String>, PathBuf)>,
    /// Hierarchies without controllers (`name=systemd`, the hybrid's version 2 tree).
    pub trackers: Vec<PathBuf>,
}

/// Controllers a group is made in always; the others only where a limit asks for them.
const ALWAYS: [&str; 5] = ["cpu", "cpuacct", "memory", "pids", "devices"];

impl V1Layout {
    pub fn controller(&self, name: &str) -> Option<&Path> {
        self.hierarchies.iter().find(|(names, _)| names.iter().any(|n| n == name)).map(|(_, path)| path.as_path())
    }
}

impl Layout {
    pub(super) fn detect() -> Result<Self> {
        let table = mount::table()?;
        let mut v1 = V1Layout::default();
        let mut v2 = Vec::new();
        for mount in table {
            match mount.kind.as_str() {
                "cgroup2" => v2.push(mount.target),
                "cgroup" => {
                    let names: Vec<String> = controllers(&mount.options).map(str::to_owned).collect();
                    match names.is_empty() {
                        true => v1.trackers.push(mount.target),
                        false if v1.controller(&names[0]).is_none() => v1.hierarchies.push((names, mount.target)),
                        false => {}
                    }
                }
                _ => {}
            }
        }
        if v1.controller("memory").is_none() && v1.controller("cpu").is_none() && !v2.is_empty() {
            return Ok(Self::V2(v2.remove(0)));
        }
        v1.trackers.extend(v2);
        Ok(Self::V1(v1))
    }

    pub fn version(&self) -> Version {
        match self {
            Self::V1(_) => Version::V1,
            Self::V2(_) => Version::V2,
        }
    }

    /// The directories a group consists of.
    pub(super) fn directories(&self, path: &Path) -> Vec<PathBuf> {
        match self {
            Self::V2(root) => vec![root.join(path)],
            Self::V1(v1) => v1
                .hierarchies
                .iter()
                .filter(|(names, root)| names.iter().any(|n| ALWAYS.contains(&n.as_str())) || root.join(path).is_dir())
                .map(|(_, root)| root.join(path))
                .collect(),
        }
    }

    /// Directories a group has only where a limit asked for them.
    pub(super) fn optional_directories(&self, path: &Path) -> Vec<PathBuf> {
        match self {
            Self::V2(_) => Vec::new(),
            Self::V1(v1) => v1.hierarchies.iter().map(|(_, root)| root.join(path)).filter(|p| p.is_dir()).collect(),
        }
    }

    /// Directories that only say whose a process is: one for all of the path's root.
    pub(super) fn trackers(&self, path: &Path) -> Vec<PathBuf> {
        let top: PathBuf = path.components().take(1).collect();
        match self {
            Self::V2(_) => Vec::new(),
            Self::V1(v1) => v1.trackers.iter().map(|root| root.join(&top)).collect(),
        }
    }

    pub(super) fn views(&self) -> Vec<(PathBuf, &'static str, String)> {
        match self {
            Self::V2(_) => vec![(PathBuf::new(), "cgroup2", String::new())],
            Self::V1(v1) => v1
                .hierarchies
                .iter()
                // In the others a container is in its supervisor's group, whose view is not the container's to see.
                .filter(|(names, _)| names.iter().any(|n| ALWAYS.contains(&n.as_str())))
                .filter_map(|(names, root)| Some((PathBuf::from(root.file_name()?), "cgroup", names.join(","))))
                .collect(),
        }
    }
}

/// The controllers among the options of a version 1 mount.
fn controllers(options: &str) -> impl Iterator<Item = &str> {
    const KNOWN: [&str; 14] = [
        "cpu",
        "cpuacct",
        "cpuset",
        "memory",
        "devices",
        "freezer",
        "blkio",
        "pids",
        "hugetlb",
        "net_cls",
        "net_prio",
        "perf_event",
        "rdma",
        "misc",
    ];
    options.split(',').filter(|o| KNOWN.contains(o))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn controllers_are_told_from_other_options() {
        for (options, expected) in [
            ("rw,cpu,cpuacct", vec!["cpu", "cpuacct"]),
            ("rw,name=systemd", vec![]),
            ("rw,memory,release_agent=/x", vec!["memory"]),
        ] {
            assert_eq!(controllers(options).collect::<Vec<_>>(), expected, "{options}");
        }
    }
}
