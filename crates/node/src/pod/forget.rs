//! Runs that nobody asks about any more. Of each container the newest run that ended is kept, and with it its log for
//! `kubectl logs --previous`; whatever an older one left goes with it, so that a container that crashes again and
//! again does not fill the disk.

use std::{
    io,
    path::{Path, PathBuf},
};

use knarr_cri::{
    CriError,
    v1::{RemoveContainerRequest, RemovePodSandboxRequest},
};

use super::{
    observe::{Instance, Observed, Phase},
    start::termination_file,
    worker::Worker,
};
use crate::logs;

impl Worker {
    /// Forgets all runs but the newest that ended, and one that was made but never started.
    pub(super) async fn clear_runs(&mut self, name: &str) -> Result<(), CriError> {
        let runs = self.observed.containers.get(name).map_or(&[][..], Vec::as_slice);
        let unstarted = runs.iter().filter(|run| run.phase == Phase::Created);
        let old = runs.iter().filter(|run| run.ended()).skip(1);
        let old: Vec<Instance> = unstarted.chain(old).cloned().collect();
        for run in old {
            let request = RemoveContainerRequest { container_id: run.id.clone() };
            match self.ctx.runtime.remove_container(request).await {
                Err(error) if !error.is_not_found() => return Err(error),
                _ => self.clear_files(&run).await,
            }
        }
        Ok(())
    }

    /// Forgets earlier sandboxes, once no run in them is kept: the newest of a container, or the newest that ended, which
    /// `kubectl logs --previous` asks for.
    pub(super) async fn clear_stale_sandboxes(&mut self) -> Result<(), CriError> {
        for id in self.observed.stale_sandboxes.clone() {
            if has_kept_run(&self.observed, &id) {
                continue;
            }
            let request = RemovePodSandboxRequest { pod_sandbox_id: id.clone() };
            match self.ctx.runtime.remove_pod_sandbox(request).await {
                Err(error) if !error.is_not_found() => return Err(error),
                _ => _ = self.ctx.owners().remove(&id),
            }
            // Its containers went with it.
            let lost: Vec<Instance> = self.observed.instances().filter(|run| run.sandbox_id == id).cloned().collect();
            for run in lost {
                self.clear_files(&run).await;
            }
        }
        Ok(())
    }

    /// Deletes what a run wrote beside its container: its log, also what was moved aside of it, and its last words.
    async fn clear_files(&mut self, run: &Instance) {
        self.messages.remove(&run.id);
        self.ctx.owners().remove(&run.id);
        let log = match run.log_path.as_str() {
            "" => self.ctx.log_folder(&self.pod).join(&run.name).join(format!("{}.log", run.restart_count)),
            path => PathBuf::from(path),
        };
        let message = termination_file(self.volumes.dir(), &run.name, run.restart_count);
        let remove_all = move || logs::files(&log)?.iter().chain([&message]).try_for_each(|path| remove(path));
        let done = knarr_os::aside(remove_all).await;
        if let Err(error) = done.map_err(io::Error::other).and_then(|done| done) {
            tracing::warn!(container = run.name, id = run.id, %error, "the files of an earlier run cannot be removed");
        }
    }
}

/// Whether the newest run of a container is in a sandbox, or the newest one that ended.
fn has_kept_run(observed: &Observed, sandbox_id: &str) -> bool {
    observed.containers.values().any(|runs| {
        let mut kept = runs.first().into_iter().chain(runs.iter().find(|run| run.ended()));
        kept.any(|run| run.sandbox_id == sandbox_id)
    })
}

fn remove(path: &Path) -> io::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_goes_with_its_parts_and_no_other_does() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["1.log", "1.log.20260101-000000", "1.log.20260101-000000.gz", "11.log", "1.logs", "2.log"] {
            std::fs::write(dir.path().join(name), "x").unwrap();
        }
        for log in ["1.log", "none/1.log"] {
            let files = logs::files(&dir.path().join(log)).unwrap();
            files.iter().try_for_each(|path| remove(path)).unwrap();
        }
        let mut left: Vec<_> = std::fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        left.sort();
        assert_eq!(left, ["1.logs", "11.log", "2.log"]);
    }
}
