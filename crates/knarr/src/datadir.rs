//! The data directory: its layout, and the lock that keeps two processes out of one directory.

use std::{
    fs::{self, DirBuilder, File, OpenOptions, Permissions, TryLockError},
    io::{ErrorKind, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};

use crate::record::Record;

/// Everything that a cluster keeps here. `reset` removes these and nothing else.
pub const ENTRIES: [&str; 13] = [
    "lock",
    "cluster.json",
    "store",
    "pki",
    "admin.kubeconfig",
    "identity",
    "runtime",
    "node",
    "pods",
    "volumes",
    "net",
    "knarr.log",
    "knarr.log.1",
];
/// What file systems put into their topmost directory themselves, and where the local clusters are, which have data
/// directories of their own.
const OF_NOBODY: [&str; 2] = ["lost+found", "clusters"];
/// How long somebody who only looks may hold the lock, at most, and whoever takes it or leaves it without a note: a file
/// is emptied in 200 ms and more where the disk is busy.
const LOOKING: Duration = Duration::from_secs(5);

/// Paths under one data directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DataDir {
    root: PathBuf,
}

/// What a running process says of itself in the lock file.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize)]
pub struct Running {
    pub pid: i32,
    pub version: String,
    /// The API server's; `None` for a process that serves none.
    pub port: Option<u16>,
    /// The server that an agent belongs to.
    #[serde(default)]
    pub server: Option<String>,
    /// Where its number means something: a node of a local cluster has numbers of its own.
    #[serde(default)]
    pub pid_namespace: Option<u64>,
    /// How long its pods may take to end, where it ends them when the machine goes down.
    #[serde(default)]
    pub ends_pods_within: Option<Duration>,
}

impl Running {
    /// A command that needs the directory for itself for a while.
    pub fn command() -> Self {
        let pid = rustix::process::getpid().as_raw_nonzero().get();
        let pid_namespace = knarr_os::lock::own_pid_namespace();
        Self {
            pid,
            version: crate::version::SHORT.into(),
            port: None,
            server: None,
            pid_namespace,
            ends_pods_within: None,
        }
    }

    /// Refuses a process whose number is another's here.
    pub fn check_reachable(&self) -> Result<()> {
        if self.pid_namespace.is_some() && self.pid_namespace != knarr_os::lock::own_pid_namespace() {
            bail!("this data directory is used by a node of a local cluster, which `knarr cluster` looks after");
        }
        Ok(())
    }
}

/// Held for as long as the process uses the directory; the kernel lets go of it however the process ends.
#[derive(Debug)]
pub struct Lock {
    file: File,
}

impl DataDir {
    /// The directory at `path`, which need not exist. Links on the way are followed, so that the same directory has
    /// the same name whichever way it was called.
    pub fn at(path: &Path) -> Result<Self> {
        let absolute = std::path::absolute(path).with_context(|| format!("{} is no usable path", path.display()))?;
        for there in absolute.ancestors() {
            if let Ok(real) = fs::canonicalize(there) {
                let rest = absolute.strip_prefix(there).unwrap_or(Path::new(""));
                // Joining nothing would end the path in a slash.
                return Ok(Self { root: if rest.as_os_str().is_empty() { real } else { real.join(rest) } });
            }
        }
        Ok(Self { root: absolute })
    }

    /// Creates the directory, closed to other users. One that somebody else keeps things in is not taken.
    pub fn prepare(&self) -> Result<()> {
        let shown = self.root.display();
        let (ours, others) = self.entries()?;
        if ours.is_empty()
            && let Some(other) = others.first()
        {
            bail!("{shown} has {other} in it and is no data directory of Knarr: name an empty or a new one");
        }
        let make = || {
            DirBuilder::new().recursive(true).mode(0o700).create(&self.root)?;
            fs::set_permissions(&self.root, Permissions::from_mode(0o700))
        };
        make().with_context(|| format!("cannot create the data directory {shown}"))
    }

    /// The names in the directory: those of a cluster, and those of others.
    pub fn entries(&self) -> Result<(Vec<String>, Vec<String>)> {
        let entries = match fs::read_dir(&self.root) {
            Ok(entries) => entries,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok((Vec::new(), Vec::new())),
            Err(error) => return Err(error).with_context(|| self.unreadable()),
        };
        let names = entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned());
        let names = names.filter(|name| !OF_NOBODY.contains(&name.as_str()));
        Ok(names.partition(|name| ENTRIES.contains(&name.as_str())))
    }

    /// What the directory says of itself; `None` where it has had no cluster yet.
    pub fn record(&self) -> Result<Option<Record>> {
        Record::read(&self.record_file())
    }

    pub fn record_file(&self) -> PathBuf {
        self.root.join("cluster.json")
    }

    pub fn root(&self) -> &Path {
        &self.root
    }

    pub fn store(&self) -> PathBuf {
        self.root.join("store")
    }

    pub fn pki(&self) -> PathBuf {
        self.root.join("pki")
    }

    /// What an agent proves itself with.
    pub fn identity(&self) -> PathBuf {
        self.root.join("identity")
    }

    pub fn admin_kubeconfig(&self) -> PathBuf {
        self.root.join("admin.kubeconfig")
    }

    pub fn log(&self) -> PathBuf {
        self.root.join("knarr.log")
    }

    fn lock_file(&self) -> PathBuf {
        self.root.join("lock")
    }

    /// Takes the lock and leaves a note of who has it, or says who has it already.
    pub fn lock(&self, note: &Running) -> Result<Lock> {
        let path = self.lock_file();
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(&path);
        let file = file.with_context(|| format!("cannot open {}", path.display()))?;
        let patience = Instant::now() + LOOKING;
        loop {
            match file.try_lock() {
                Ok(()) => break,
                Err(TryLockError::WouldBlock) => {
                    self.check_free()?;
                    if Instant::now() > patience {
                        bail!("{} is in use by another process", self.root.display());
                    }
                    pause();
                }
                Err(TryLockError::Error(error)) => {
                    return Err(error).with_context(|| format!("cannot lock {}", path.display()));
                }
            }
        }
        let mut lock = Lock { file };
        lock.file.set_len(0)?;
        lock.file.write_all(&serde_json::to_vec(note)?).with_context(|| format!("cannot write {}", path.display()))?;
        Ok(lock)
    }

    /// Refuses a directory that a process uses.
    pub fn check_free(&self) -> Result<()> {
        if let Some(Running { pid, .. }) = self.running()? {
            bail!(
                "{} is in use by process {pid}; stop it with `knarr down --data-dir {0}`, or choose another directory",
                self.root.display(),
            );
        }
        Ok(())
    }

    /// The process that uses the directory now, if one does.
    pub fn running(&self) -> Result<Option<Running>> {
        let file = match File::open(self.lock_file()) {
            Ok(file) => file,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error).with_context(|| self.unreadable()),
        };
        let patience = Instant::now() + LOOKING;
        while let Err(TryLockError::WouldBlock) = file.try_lock_shared() {
            // It is empty for the moment between the lock and the note, and between the note and the end.
            if let Some(running) = fs::read(self.lock_file()).ok().and_then(|note| serde_json::from_slice(&note).ok()) {
                return Ok(Some(running));
            }
            if Instant::now() > patience {
                bail!("{} is in use by a process that does not say which it is", self.root.display());
            }
            pause();
        }
        Ok(None)
    }

    fn unreadable(&self) -> String {
        let hint = if rustix::process::geteuid().is_root() { "" } else { " (it is root's: use sudo)" };
        format!("cannot look into the data directory {}{hint}", self.root.display())
    }
}

/// Between two looks at a lock.
#[allow(clippy::disallowed_methods)] // before there is anybody who could wait otherwise, or in a command of one task
fn pause() {
    std::thread::sleep(Duration::from_millis(1));
}

impl Drop for Lock {
    /// A note that stayed would name a process that is no more, and perhaps one day another.
    fn drop(&mut self) {
        let _ = self.file.set_len(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn note() -> Running {
        Running {
            pid: 42,
            version: "1".into(),
            port: Some(6443),
            server: None,
            pid_namespace: None,
            ends_pods_within: None,
        }
    }

    #[test]
    fn a_second_lock_names_the_first() {
        let dir = tempfile::tempdir().unwrap();
        let data = DataDir::at(dir.path()).unwrap();
        assert_eq!(data.running().unwrap(), None);
        let lock = data.lock(&note()).unwrap();
        let refused = data.lock(&note()).unwrap_err().to_string();
        assert!(refused.contains("in use by process 42"), "{refused}");
        assert_eq!(data.running().unwrap(), Some(note()));
        drop(lock);
        assert_eq!(data.running().unwrap(), None);
        assert_eq!(fs::read(dir.path().join("lock")).unwrap(), b"");
        data.lock(&note()).unwrap();
    }

    /// As while the emptied file is on its way to a busy disk.
    #[test]
    fn who_leaves_slowly_is_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        let data = DataDir::at(dir.path()).unwrap();
        let held = File::create(data.lock_file()).unwrap();
        held.lock().unwrap();
        let left = Instant::now() + Duration::from_millis(400);
        let leaving = std::thread::spawn(move || {
            while Instant::now() < left {
                pause();
            }
            drop(held);
        });
        assert_eq!(data.running().unwrap(), None);
        assert!(Instant::now() >= left);
        leaving.join().unwrap();
    }

    #[test]
    fn a_directory_of_somebody_else_is_not_taken() {
        let dir = tempfile::tempdir().unwrap();
        let data = DataDir::at(dir.path()).unwrap();
        fs::create_dir(dir.path().join("lost+found")).unwrap();
        fs::set_permissions(dir.path(), Permissions::from_mode(0o755)).unwrap();
        data.prepare().unwrap();
        assert_eq!(fs::metadata(dir.path()).unwrap().permissions().mode() & 0o777, 0o700);
        fs::write(dir.path().join("thesis.tex"), "").unwrap();
        let refused = data.prepare().unwrap_err().to_string();
        assert!(refused.contains("has thesis.tex in it"), "{refused}");
        fs::create_dir(dir.path().join("store")).unwrap();
        data.prepare().unwrap();
    }

    #[test]
    fn links_lead_to_the_same_directory() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("real")).unwrap();
        std::os::unix::fs::symlink("real", dir.path().join("link")).unwrap();
        let at = |path: &str| DataDir::at(&dir.path().join(path)).unwrap();
        assert_eq!(at("link"), at("real"));
        assert_eq!(at("link/not/yet"), at("real/not/yet"));
    }
}
