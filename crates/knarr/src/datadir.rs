//! The data directory: its layout, and the lock that keeps two processes out of one directory.

use std::{
    fs::{self, DirBuilder, File, OpenOptions, TryLockError},
    io::Write,
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};

const INTRODUCTION: Duration = Duration::from_secs(1);

/// Paths under one data directory.
#[derive(Clone, Debug)]
pub struct DataDir {
    root: PathBuf,
}

/// What a running process says of itself in the lock file.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize)]
pub struct Running {
    pub pid: i32,
    pub port: u16,
    pub node_name: String,
}

/// Held for as long as the process uses the directory; the kernel lets go of it however the process ends.
#[derive(Debug)]
pub struct Lock {
    file: File,
}

impl DataDir {
    /// The directory at `path`, which need not exist.
    pub fn at(path: &Path) -> Result<Self> {
        let root = std::path::absolute(path).with_context(|| format!("{} is no usable path", path.display()))?;
        Ok(Self { root })
    }

    /// Creates the directory, closed to other users.
    pub fn create(&self) -> Result<()> {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&self.root)
            .with_context(|| format!("cannot create the data directory {}", self.root.display()))
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

    pub fn admin_kubeconfig(&self) -> PathBuf {
        self.root.join("admin.kubeconfig")
    }

    pub fn log(&self) -> PathBuf {
        self.root.join("knarr.log")
    }

    fn lock_file(&self) -> PathBuf {
        self.root.join("lock")
    }

    /// Takes the lock, or says who has it.
    pub fn lock(&self) -> Result<Lock> {
        let path = self.lock_file();
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(&path);
        let file = file.with_context(|| format!("cannot open {}", path.display()))?;
        match file.try_lock() {
            Ok(()) => {
                // What a killed process said of itself must not be taken for this one.
                file.set_len(0).with_context(|| format!("cannot write {}", path.display()))?;
                Ok(Lock { file })
            }
            Err(TryLockError::WouldBlock) => match self.running() {
                Some(running) => bail!(
                    "{} is in use by process {}; stop it with `knarr down --data-dir {0}`, or choose another directory",
                    self.root.display(),
                    running.pid,
                ),
                None => bail!("{} is in use by another process", self.root.display()),
            },
            Err(TryLockError::Error(error)) => Err(error).with_context(|| format!("cannot lock {}", path.display())),
        }
    }

    /// The process that uses the directory now, if one does. One that has only just taken the lock is given a moment
    /// to say who it is.
    pub fn running(&self) -> Option<Running> {
        let deadline = Instant::now() + INTRODUCTION;
        loop {
            let file = File::open(self.lock_file()).ok()?;
            let Err(TryLockError::WouldBlock) = file.try_lock_shared() else { return None };
            let said = serde_json::from_slice(&fs::read(self.lock_file()).ok()?).ok();
            if said.is_some() || Instant::now() > deadline {
                return said;
            }
            std::thread::yield_now();
        }
    }
}

impl Lock {
    /// Tells others who runs here.
    pub fn describe(&mut self, running: &Running) -> Result<()> {
        let text = serde_json::to_vec(running)?;
        self.file.set_len(0)?;
        self.file.write_all(&text).context("cannot write the lock file")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_lock_names_the_first() {
        let dir = tempfile::tempdir().unwrap();
        let data = DataDir::at(dir.path()).unwrap();
        assert_eq!(data.running(), None);
        let mut lock = data.lock().unwrap();
        let running = Running { pid: 42, port: 6443, node_name: "n".into() };
        lock.describe(&running).unwrap();
        let refused = data.lock().unwrap_err().to_string();
        assert!(refused.contains("in use by process 42"), "{refused}");
        assert_eq!(data.running(), Some(running));
        drop(lock);
        assert_eq!(data.running(), None);
        data.lock().unwrap();
    }
}
