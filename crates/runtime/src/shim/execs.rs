//! Further processes in containers: starting them, and telling whoever asked how they ended.

use std::{
    os::fd::{AsFd, OwnedFd},
    path::{Path, PathBuf},
};

use knarr_os::process;

use super::{
    clients::ClientId,
    container::{self, Phase},
    error::line,
    launch::{self, Report, Streams, read_report},
    protocol::{Failure, Reply},
    server::{Server, internal},
    spec::{self, ContainerSpec, ProcessSpec},
};

/// A process started by `exec`, and who waits for its end.
pub struct Exec {
    client: ClientId,
    pub(super) reports: Option<OwnedFd>,
}

impl Server {
    #[allow(clippy::too_many_arguments)]
    pub(super) fn exec(
        &mut self,
        client: ClientId,
        id: &str,
        spec: &Path,
        args: Vec<String>,
        terminal: bool,
        wanted: [bool; 3],
        carried: Vec<OwnedFd>,
    ) -> Result<(), (Failure, String)> {
        let container = self.containers.get(id).ok_or((Failure::NotFound, format!("container {id:?} is not there")))?;
        if !matches!(container.phase, Phase::Running) {
            return Err((Failure::Precondition, format!("container {id:?} is not running")));
        }
        let (pid, cgroup) = (container.pid, container.cgroup.clone());
        let loaded: ContainerSpec =
            spec::load(spec).map_err(|e| internal(format!("cannot read {}: {e}", spec.display())))?;
        let process = ProcessSpec { args, terminal, ..loaded.process };
        let streams = if terminal { None } else { Some(carried_streams(wanted, carried)?) };
        let users = self.sandbox.as_ref().ok().and_then(|sandbox| sandbox.users.as_ref());
        let child = launch::exec(&process, streams.as_ref(), pid, &cgroup, &self.cgroups, users)
            .map_err(|e| (Failure::Precondition, line(&e)))?;
        self.execs.insert(child.pid, Exec { client, reports: Some(child.reports) });
        Ok(())
    }

    pub(super) fn exec_report(&mut self, pid: i32) {
        let Some(exec) = self.execs.get_mut(&pid) else { return };
        let Some(reports) = &exec.reports else { return };
        let client = exec.client;
        let mut carried = Vec::new();
        match read_report(reports, &mut self.scratch, &mut carried) {
            // The client hears of it once the program runs, but has to have the terminal before.
            Some(Report::Ready { .. }) => {
                if let Some(master) = carried.first() {
                    let fds = [master.as_fd()];
                    self.reply(client, &Reply::Attached, &fds);
                }
            }
            Some(Report::Failed { message }) => {
                exec.reports = None;
                self.reply(client, &Reply::Failed { kind: Failure::Start, message }, &[]);
            }
            Some(Report::Step) => {}
            None => {
                exec.reports = None;
                self.reply(client, &Reply::Started { pid, at_ns: container::now_ns() }, &[]);
            }
        }
    }

    /// Kills what a client has started, and the sessions of it.
    pub(super) fn kill_execs(&self, client: ClientId) {
        for pid in self.execs.iter().filter(|(_, exec)| exec.client == client).map(|(pid, _)| *pid) {
            process::kill_group(pid);
            process::kill(pid);
        }
    }

    /// Tells the client of an ended process; false where the process is none of these.
    pub(super) fn exec_ended(&mut self, ended: process::Ended) -> bool {
        let Some(client) = self.execs.get(&ended.pid).map(|e| e.client) else { return false };
        // Reports may be waiting, and come first; their end is there, since the process is gone.
        while self.execs.get(&ended.pid).is_some_and(|e| e.reports.is_some()) {
            self.exec_report(ended.pid);
        }
        self.execs.remove(&ended.pid);
        self.reply(client, &Reply::ExecExited { code: ended.exit_code }, &[]);
        true
    }
}

/// The streams a client sent, in their places; what it did not send is `/dev/null`.
fn carried_streams(wanted: [bool; 3], carried: Vec<OwnedFd>) -> Result<Streams, (Failure, String)> {
    let mut carried = carried.into_iter();
    let mut next = |wanted: bool| -> Result<OwnedFd, (Failure, String)> {
        match wanted.then(|| carried.next()).flatten() {
            Some(fd) => Ok(fd),
            None => Ok(std::fs::File::options()
                .read(true)
                .write(true)
                .open(PathBuf::from("/dev/null"))
                .map_err(internal)?
                .into()),
        }
    };
    Ok(Streams { stdin: next(wanted[0])?, stdout: next(wanted[1])?, stderr: next(wanted[2])? })
}
