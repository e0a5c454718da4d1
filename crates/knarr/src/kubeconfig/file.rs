//! Reading and replacing a file that others read and replace too.

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io::{ErrorKind, Write},
    os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, chown},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};

/// How long another program may take to change the file.
const PATIENCE: Duration = Duration::from_millis(500);
/// A lock that is older was left by a program that was killed: nobody takes a moment to write this file.
const STALE_AFTER: Duration = Duration::from_secs(3);

/// A file that nobody else changes meanwhile: kubectl takes `FILE.lock` too before it writes.
pub struct Locked {
    target: PathBuf,
    lock: PathBuf,
}

impl Locked {
    /// Takes the lock, making the folder where it is missing.
    pub fn take(path: &Path) -> Result<Self> {
        // Where the file is a link, what it leads to is replaced and not the link.
        let target = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
        make_folder(&target)?;
        let lock = beside(&target, ".lock");
        let deadline = Instant::now() + PATIENCE;
        loop {
            match OpenOptions::new().write(true).create_new(true).mode(0o600).open(&lock) {
                Ok(_) => return Ok(Self { target, lock }),
                Err(error) if error.kind() != ErrorKind::AlreadyExists => {
                    return Err(error).with_context(|| format!("cannot create {}", lock.display()));
                }
                Err(_) if is_stale(&lock) => drop(fs::remove_file(&lock)),
                Err(_) if Instant::now() > deadline => {
                    bail!("another program is changing {} (where none is, remove {})", target.display(), lock.display())
                }
                Err(_) => std::thread::yield_now(),
            }
        }
    }

    /// The file's text; `None` where there is no file.
    pub fn read(&self) -> Result<Option<String>> {
        match fs::read_to_string(&self.target) {
            Ok(text) => Ok(Some(text)),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error).with_context(|| format!("cannot read {}", self.target.display())),
        }
    }

    pub fn replace(&self, text: &str) -> Result<()> {
        replace(&self.target, text)
    }

    pub fn remove(&self) -> Result<()> {
        fs::remove_file(&self.target).with_context(|| format!("cannot remove {}", self.target.display()))
    }
}

fn is_stale(lock: &Path) -> bool {
    let age = fs::metadata(lock).and_then(|lock| lock.modified()).ok().and_then(|at| at.elapsed().ok());
    age.is_some_and(|age| age > STALE_AFTER)
}

impl Drop for Locked {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.lock);
    }
}

/// Replaces a file in one step. The new one can be read by its owner only, who is that of the old one, or of the
/// folder: with `sudo` that need not be root.
pub fn replace(target: &Path, text: &str) -> Result<()> {
    // Always the same name: what a killed program leaves of it is used up by the next.
    let next = beside(target, ".next");
    let write = || -> std::io::Result<()> {
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&next)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        let old = fs::metadata(target).or_else(|_| fs::metadata(target.parent().unwrap_or(Path::new("."))))?;
        chown(&next, Some(old.uid()), Some(old.gid()))?;
        fs::rename(&next, target)
    };
    write().map_err(|error| {
        let _ = fs::remove_file(&next);
        anyhow::Error::new(error).context(format!("cannot write {}", target.display()))
    })
}

fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(ending);
    name.into()
}

/// Makes the folder of a file, for the owner of the one that it lies in.
fn make_folder(file: &Path) -> Result<()> {
    let Some(folder) = file.parent().filter(|folder| !folder.as_os_str().is_empty() && !folder.exists()) else {
        return Ok(());
    };
    let make = || -> std::io::Result<()> {
        let missing: Vec<&Path> = folder.ancestors().take_while(|folder| !folder.exists()).collect();
        let around = missing.last().and_then(|topmost| topmost.parent()).unwrap_or(Path::new("/"));
        let owner = File::open(around)?.metadata()?;
        for folder in missing.into_iter().rev() {
            DirBuilder::new().mode(0o750).create(folder)?;
            chown(folder, Some(owner.uid()), Some(owner.gid()))?;
        }
        Ok(())
    };
    make().with_context(|| format!("cannot create {}", folder.display()))
}
