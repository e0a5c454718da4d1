//! What pods leave on a machine: kernel objects, processes, files. A cluster whose pods are gone has what it had before.

use std::{collections::BTreeSet, fs, path::Path};

use anyhow::{Context, Result};

use crate::{Cluster, host::Footprint};

/// Where the store keeps its files; how many there are depends on its own work.
const STORE: &str = "store";

#[derive(Clone, Debug)]
pub struct Traces {
    host: Footprint,
    files: BTreeSet<String>,
}

impl Traces {
    pub fn take(cluster: &Cluster) -> Result<Self> {
        let mut files = BTreeSet::new();
        for dir in [cluster.data_dir(), cluster.run_dir()?] {
            walk(&dir, &mut |path| {
                files.insert(path.display().to_string());
                !path.ends_with(STORE)
            });
        }
        files.extend(shims(cluster)?);
        let run_dir = cluster.run_dir()?;
        let digest = run_dir.file_name().context("no digest")?.to_string_lossy();
        Ok(Self { host: Footprint::take()?.of_one(&digest), files })
    }

    /// What one has and the other has not.
    pub fn difference(&self, after: &Self) -> Vec<String> {
        let gone = self.files.difference(&after.files).map(|line| format!("- {line}"));
        let files = gone.chain(after.files.difference(&self.files).map(|line| format!("+ {line}")));
        self.host.difference(&after.host).into_iter().chain(files).collect()
    }
}

/// The command lines of a cluster's shims: one for each pod.
pub fn shims(cluster: &Cluster) -> Result<Vec<String>> {
    let run_dir = cluster.run_dir()?;
    let own = processes().filter(|words| words.get(1).is_some_and(|word| word == "shim"));
    let own = own.filter(|words| words.get(2).is_some_and(|dir| Path::new(dir).starts_with(&run_dir)));
    Ok(own.map(|words| words.join(" ")).collect())
}

/// The words of every process that this one sees.
pub fn processes() -> impl Iterator<Item = Vec<String>> {
    let all = fs::read_dir("/proc").into_iter().flatten().flatten();
    let words = all.filter_map(|entry| fs::read(entry.path().join("cmdline")).ok());
    words.map(|bytes| {
        let text = String::from_utf8_lossy(&bytes).into_owned();
        text.trim_end_matches('\0').split('\0').map(str::to_owned).collect()
    })
}

/// What a process holds: open files, threads, and bytes of memory that are its own.
#[derive(Clone, Copy, Debug)]
pub struct Held {
    pub files: usize,
    pub threads: usize,
    pub memory_kib: u64,
}

impl Held {
    pub fn by(pid: u32) -> Result<Self> {
        let dir = Path::new("/proc").join(pid.to_string());
        let memory = fs::read_to_string(dir.join("smaps_rollup"))?;
        let private = memory.lines().filter(|line| line.starts_with("Private_"));
        let kib = private.filter_map(|line| line.split_whitespace().nth(1)?.parse::<u64>().ok());
        let count = |name: &str| -> Result<usize> { Ok(fs::read_dir(dir.join(name)).context("no process")?.count()) };
        Ok(Self { files: count("fd")?, threads: count("task")?, memory_kib: kib.sum() })
    }
}

/// Bytes on disk below a directory.
pub fn bytes_below(dir: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt;
    let mut bytes = 0;
    walk(dir, &mut |path| {
        bytes += path.symlink_metadata().map_or(0, |meta| meta.blocks() * 512);
        true
    });
    bytes
}

/// Visits everything below a directory; into a directory only where `visit` says so.
fn walk(dir: &Path, visit: &mut impl FnMut(&Path) -> bool) {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let into = visit(&entry.path());
        if into && entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            walk(&entry.path(), visit);
        }
    }
}
