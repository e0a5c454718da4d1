//! Starting processes: the children between fork and exec, and what they tell the shim about it.

use std::{
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::Path,
};

use knarr_os::{
    cgroup::Cgroups,
    fds,
    namespace::{self, Namespace},
    process::{self, PidNamespace},
    pty::{self, Pty},
};
use serde::{Deserialize, Serialize};

use super::{
    error::{SetupError, line},
    process as program, rootfs,
    spec::{ContainerSpec, Identity, ProcessSpec},
    users::PodUsers,
};

/// What a child says on its way; the socket closing by itself at exec says that the program runs.
#[derive(Debug, Serialize, Deserialize)]
pub enum Report {
    /// Comes with the terminal's master, if there is one.
    Ready {
        identity: Identity,
        warnings: Vec<String>,
    },
    Failed {
        message: String,
    },
    /// A child that is told to go on more than once has come as far as that.
    Step,
}

/// A child's streams as the child sees them.
pub struct Streams {
    pub stdin: OwnedFd,
    pub stdout: OwnedFd,
    pub stderr: OwnedFd,
}

/// A started child and the shim's end of the socket to it.
pub struct Child {
    pub pid: i32,
    pub reports: OwnedFd,
}

/// Forks a container's first process. It builds the container, reports, and waits for a byte before its program runs.
pub fn container(
    spec: &ContainerSpec,
    streams: Option<&Streams>,
    shm: Option<&Path>,
    cgroups: &Cgroups,
    namespace: PidNamespace<'_>,
    users: Option<&PodUsers>,
) -> Result<Child, SetupError> {
    let child = spawn(namespace, |socket| {
        let setup = || -> Result<(program::Prepared, Option<Pty>), SetupError> {
            process::start_session()?;
            let terminal = rootfs::enter(spec, shm, cgroups, users, &|| wait_for_go(socket))?;
            Ok((program::prepare(&spec.process)?, terminal))
        };
        let (prepared, terminal) = setup()?;
        set_streams(streams, terminal.as_ref(), owner(&prepared, users)?)?;
        if let Some(users) = users {
            // Whoever may mount in there may do so in mounts that are the pod's, and loosen none of those made above.
            let kinds = [Namespace::Mount, Namespace::Cgroup];
            users.enter(if spec.process.privileged { &kinds[..1] } else { &kinds })?;
        }
        report_ready(socket, &prepared, terminal.as_ref())?;
        drop(terminal);
        wait_for_go(socket)?;
        Err(program::become_program(&spec.process, &prepared))
    })?;
    // Moving takes the kernel as long as building the root takes the child, so both happen at once.
    let moved = cgroups.move_process(&spec.cgroup, child.pid).map_err(SetupError::from).and_then(|()| go_on(&child));
    match moved {
        Ok(()) => Ok(child),
        Err(e) => Err(end_unstarted(&child, e)),
    }
}

/// Ends a child that could not be moved or told to go on. If it had failed itself before, that is the reason.
fn end_unstarted(child: &Child, error: SetupError) -> SetupError {
    process::kill(child.pid);
    match read_report(&child.reports, &mut [0u8; 4096], &mut Vec::new()) {
        Some(Report::Failed { message }) => SetupError::Reported { message },
        _ => error,
    }
}

/// One report, or `None` once the child's end has closed.
pub fn read_report(reports: &OwnedFd, scratch: &mut [u8], carried: &mut Vec<OwnedFd>) -> Option<Report> {
    let mut received = fds::receive(reports, scratch, carried);
    // A child that failed before it read that it may go on has left that unread, which the kernel calls a reset. It
    // says so once, before it hands out what the child had said.
    if received.as_ref().is_err_and(|e| e.kind() == io::ErrorKind::ConnectionReset) {
        received = fds::receive(reports, scratch, carried);
    }
    match received {
        Ok(n) if n > 0 => serde_json::from_slice(&scratch[..n]).ok(),
        _ => None,
    }
}

/// Waits until a child has come a step further.
pub fn step(child: &Child) -> Result<(), SetupError> {
    match read_report(&child.reports, &mut [0u8; 4096], &mut Vec::new()) {
        Some(Report::Step) => Ok(()),
        Some(Report::Failed { message }) => Err(SetupError::Reported { message }),
        _ => Err(SetupError::Abandoned),
    }
}

/// Lets a child that waits go on to its next step.
pub fn go_on(child: &Child) -> Result<(), SetupError> {
    use knarr_os::Context;
    fds::send(&child.reports, b"G", &[]).os("tell the child of", child.pid)?;
    Ok(())
}

/// Waits until the shim says to go on; its end means to give up.
pub(super) fn wait_for_go(socket: BorrowedFd<'_>) -> Result<(), SetupError> {
    match fds::receive(socket, &mut [0u8; 1], &mut Vec::new()) {
        Ok(1) => Ok(()),
        _ => Err(SetupError::Abandoned),
    }
}

/// Forks a further process into a running container.
pub fn exec(
    spec: &ProcessSpec,
    streams: Option<&Streams>,
    init: i32,
    cgroup: &Path,
    cgroups: &Cgroups,
    users: Option<&PodUsers>,
) -> Result<Child, SetupError> {
    let pid_namespace = namespace::of_process(init, Namespace::Pid)?;
    let mount_namespace = namespace::of_process(init, Namespace::Mount)?;
    let cgroup_namespace = namespace::of_process(init, Namespace::Cgroup)?;
    spawn(PidNamespace::Join(pid_namespace.as_fd()), |socket| {
        process::start_session()?;
        cgroups.join(cgroup)?;
        namespace::join(cgroup_namespace.as_fd(), Namespace::Cgroup)?;
        namespace::join(mount_namespace.as_fd(), Namespace::Mount)?;
        let prepared = program::prepare(spec)?;
        let terminal = if spec.terminal { Some(pty::open("/dev/pts/ptmx")?) } else { None };
        set_streams(streams, terminal.as_ref(), owner(&prepared, users)?)?;
        if let Some(users) = users {
            users.enter(&[])?;
        }
        report_ready(socket, &prepared, terminal.as_ref())?;
        drop(terminal);
        Err(program::become_program(spec, &prepared))
    })
}

/// What the host calls the user that a process will run as.
fn owner(prepared: &program::Prepared, users: Option<&PodUsers>) -> Result<u32, SetupError> {
    users.map_or(Ok(prepared.identity.uid), |users| users.on_host(&prepared.identity))
}

/// Forks; a child that fails says why on the socket.
pub(super) fn spawn(
    namespace: PidNamespace<'_>,
    child: impl FnOnce(BorrowedFd<'_>) -> Result<std::convert::Infallible, SetupError>,
) -> Result<Child, SetupError> {
    let (ours, theirs) = socket_pair()?;
    // In the child the shim's end is dropped, so that the child sees the end of the shim as the end of the socket.
    // After the fork each process has a cell of its own.
    let ours = std::cell::Cell::new(Some(ours));
    let pid = process::fork(namespace, || {
        drop(ours.take());
        match child(theirs.as_fd()) {
            Ok(never) => match never {},
            Err(e) => {
                let report = Report::Failed { message: line(&e) };
                let _ = fds::send(&theirs, &serde_json::to_vec(&report).unwrap_or_default(), &[]);
                128
            }
        }
    })?;
    let reports = ours.take().ok_or(SetupError::Abandoned)?;
    Ok(Child { pid, reports })
}

fn socket_pair() -> Result<(OwnedFd, OwnedFd), SetupError> {
    use knarr_os::Context;
    Ok(fds::message_pair().os("make", "a pair of sockets")?)
}

fn report_ready(
    socket: BorrowedFd<'_>,
    prepared: &program::Prepared,
    terminal: Option<&Pty>,
) -> Result<(), SetupError> {
    let report_of = Report::Ready { identity: prepared.identity.clone(), warnings: prepared.warnings.clone() };
    let carried: Vec<BorrowedFd<'_>> = terminal.iter().map(|t| t.master.as_fd()).collect();
    report(socket, &report_of, &carried)
}

pub(super) fn report(socket: BorrowedFd<'_>, report: &Report, carried: &[BorrowedFd<'_>]) -> Result<(), SetupError> {
    use knarr_os::Context;
    let bytes = serde_json::to_vec(report).map_err(io::Error::from).os("write", "a report")?;
    fds::send(socket, &bytes, carried).os("report to", "the shim")?;
    Ok(())
}

fn set_streams(streams: Option<&Streams>, terminal: Option<&Pty>, owner: u32) -> Result<(), SetupError> {
    match (terminal, streams) {
        (Some(pty), _) => {
            let fd = pty.terminal.as_fd();
            program::set_streams(fd, fd, fd, true, owner)
        }
        (None, Some(s)) => program::set_streams(s.stdin.as_fd(), s.stdout.as_fd(), s.stderr.as_fd(), false, owner),
        (None, None) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_child_that_failed_before_it_listened_is_heard() {
        let (ours, theirs) = fds::message_pair().unwrap();
        fds::send(&ours, b"G", &[]).unwrap();
        let failed = Report::Failed { message: "why".to_owned() };
        fds::send(&theirs, &serde_json::to_vec(&failed).unwrap(), &[]).unwrap();
        drop(theirs);
        let next = || read_report(&ours, &mut [0; 4096], &mut Vec::new());
        assert!(matches!(next(), Some(Report::Failed { message }) if message == "why"));
        assert!(next().is_none());
    }
}
