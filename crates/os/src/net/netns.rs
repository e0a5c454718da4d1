//! Work inside another network namespace. The namespace belongs to a thread, so the work gets a thread of its
//! own: a worker of the runtime that failed to come back would do the next task in the wrong place.

use std::{fs::File, io, path::Path, thread};

use nix::sched::{CloneFlags, setns, unshare};

use super::{NetError, Result};

/// Runs `work` in the network namespace that the file at `path` holds.
pub fn in_namespace<T: Send>(path: &Path, work: impl FnOnce() -> T + Send) -> Result<T> {
    let enter = || {
        let namespace = File::open(path)?;
        setns(&namespace, CloneFlags::CLONE_NEWNET).map_err(io::Error::from)
    };
    on_own_thread(|| enter().map(|()| work())).map_err(|source| NetError::Namespace { path: path.into(), source })
}

/// Runs `work` in a network namespace of its own, which ends with it (and with what was started inside).
pub fn in_new_namespace<T: Send>(work: impl FnOnce() -> T + Send) -> Result<T> {
    on_own_thread(|| unshare(CloneFlags::CLONE_NEWNET).map_err(io::Error::from).map(|()| work()))
        .map_err(|source| NetError::Namespace { path: "(new)".into(), source })
}

fn on_own_thread<T: Send>(work: impl FnOnce() -> io::Result<T> + Send) -> io::Result<T> {
    thread::scope(|scope| {
        let worker = thread::Builder::new().name("knarr-netns".into()).spawn_scoped(scope, work)?;
        worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}
