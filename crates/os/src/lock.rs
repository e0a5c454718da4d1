//! A file that a process holds: the kernel knows who, in the numbers of whoever asks, and lets go of it however the
//! process ends. So a holder can be found, and told from a later process of the same number (`fcntl_locking(2)`).

use std::{
    fs::{self, File, OpenOptions},
    io,
    path::Path,
};

use rustix::{
    fs::FlockOperation,
    process::{Flock, FlockType},
};

use crate::error::{Context, Result};

/// Takes hold of the file, which is made where it is missing; an error where another process has it. Ends when the
/// process closes *any* descriptor of this file, and is not handed on by fork.
pub fn hold(path: &Path) -> Result<File> {
    let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path);
    let file = file.os("open", path.display())?;
    rustix::fs::fcntl_lock(&file, FlockOperation::NonBlockingLockExclusive).os("take hold of", path.display())?;
    Ok(file)
}

/// The process that holds the file now; `None` where nobody does. A holder that this process cannot see, because it
/// is in a PID namespace beside its own, is an error.
pub fn holder(path: &Path) -> Result<Option<i32>> {
    let file = match OpenOptions::new().read(true).write(true).open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error).os("open", path.display()),
    };
    let found =
        rustix::process::fcntl_getlk(&file, &Flock::from(FlockType::WriteLock)).os("look for", path.display())?;
    match found.map(|lock| lock.pid) {
        None => Ok(None),
        Some(Some(pid)) => Ok(Some(pid.as_raw_nonzero().get())),
        Some(None) => {
            let why = "its holder is in a PID namespace that cannot be seen from here";
            Err(io::Error::other(why)).os("look for the holder of", path.display())
        }
    }
}

/// The PID namespace that this process is in: numbers of processes mean something within one only.
pub fn own_pid_namespace() -> Option<u64> {
    use std::os::unix::fs::MetadataExt;
    fs::metadata("/proc/self/ns/pid").ok().map(|namespace| namespace.ino())
}

#[cfg(test)]
mod tests {
    use std::{
        io::Read,
        process::Stdio,
        time::{Duration, Instant},
    };

    use super::*;
    use crate::process;

    const CHILD: &str = "KNARR_TEST_HOLD";

    /// The file is held by another process: this test again, which waits for the end of its input.
    #[test]
    fn the_holder_is_known_for_as_long_as_it_lives() {
        if let Some(path) = std::env::var_os(CHILD) {
            let _held = hold(Path::new(&path)).unwrap();
            let _ = io::stdin().read_to_end(&mut Vec::new());
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("held");
        assert_eq!(holder(&path).unwrap(), None);
        #[allow(clippy::disallowed_methods)]
        let mut child = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "lock::tests::the_holder_is_known_for_as_long_as_it_lives"])
            .env(CHILD, &path)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let pid = i32::try_from(child.id()).unwrap();
        let deadline = Instant::now() + Duration::from_secs(120);
        while holder(&path).unwrap().is_none() {
            assert!(Instant::now() < deadline, "the child never took hold of the file");
            std::thread::yield_now();
        }
        assert_eq!(holder(&path).unwrap(), Some(pid));
        assert!(hold(&path).is_err());
        process::kill(pid);
        child.wait().unwrap();
        assert_eq!(holder(&path).unwrap(), None);
        hold(&path).unwrap();
    }
}
