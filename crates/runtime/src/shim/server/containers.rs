//! What is asked of one container, and what it tells.

use std::{
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::Path,
};

use knarr_os::{
    fds,
    process::{self, PidNamespace},
};

use super::{Answer, Server, internal};
use crate::shim::{
    clients::ClientId,
    container::{self, Container, Ends, Phase},
    error::{SetupError, line},
    launch::{self, Report, read_report},
    logs::Stream,
    protocol::{Failure, Reply},
    sandbox::Sandbox,
    spec::{self, ContainerSpec, Identity, PidMode},
};

impl Server {
    pub(super) fn create(&mut self, client: ClientId, path: &Path) -> Result<(), (Failure, String)> {
        let sandbox = self.sandbox.as_ref().map_err(|message| (Failure::Internal, message.clone()))?;
        let spec: ContainerSpec =
            spec::load(path).map_err(|e| internal(format!("cannot read {}: {e}", path.display())))?;
        if self.containers.contains_key(&spec.id) {
            return Err((Failure::Precondition, format!("container {:?} exists already", spec.id)));
        }
        let warnings = self.cgroups.create(&spec.cgroup, &spec.resources).map_err(|e| internal(e.line()))?;
        let made = self.launch(sandbox, &spec, client);
        let mut container = match made {
            Ok(container) => container,
            Err(e) => {
                let _ = self.cgroups.remove(&spec.cgroup);
                return Err(e);
            }
        };
        container.warnings = warnings.iter().map(knarr_os::OsError::line).collect();
        self.containers.insert(spec.id, container);
        Ok(())
    }

    fn launch(
        &self,
        sandbox: &Sandbox,
        spec: &ContainerSpec,
        client: ClientId,
    ) -> Result<Container, (Failure, String)> {
        let failed = |e: SetupError| (Failure::Internal, line(&e));
        let (streams, ends) = match spec.process.terminal {
            true => (None, Ends::default()),
            false => container::make_streams(spec.stdin).map(|(s, e)| (Some(s), e)).map_err(internal)?,
        };
        let target;
        let namespace = match spec.pid {
            PidMode::Container => PidNamespace::New,
            PidMode::Host => PidNamespace::Inherit,
            PidMode::Sandbox => match &sandbox.pid_namespace {
                Some(file) => PidNamespace::Join(file.as_fd()),
                None => return Err(internal("the sandbox has no PID namespace to share")),
            },
            PidMode::Of(pid) => {
                target = knarr_os::namespace::of_process(pid, knarr_os::namespace::Namespace::Pid)
                    .map_err(|e| (Failure::Precondition, e.line()))?;
                PidNamespace::Join(target.as_fd())
            }
        };
        let (shm, users) = (self.spec.shm.as_deref(), sandbox.users.as_ref());
        let child = launch::container(spec, streams.as_ref(), shm, &self.cgroups, namespace, users);
        Container::new(spec, child.map_err(failed)?, ends, client).map_err(internal)
    }

    pub(super) fn start(&mut self, client: ClientId, id: &str) -> Result<(), (Failure, String)> {
        let container = self.container(id)?;
        match (&container.phase, &container.reports) {
            (Phase::Created, Some(reports)) => {
                fds::send(reports, b"S", &[]).map_err(internal)?;
                container.phase = Phase::Starting { client };
                Ok(())
            }
            _ => Err((Failure::Precondition, format!("container {id:?} is not in the state of being created"))),
        }
    }

    /// Something came from a container's child, or its socket closed.
    pub(super) fn container_report(&mut self, id: &str) {
        let Some(container) = self.containers.get_mut(id) else { return };
        let Some(reports) = &container.reports else { return };
        let mut carried = Vec::new();
        let report = read_report(reports, &mut self.scratch, &mut carried);
        let (client, reply) = match (report, &container.phase) {
            (Some(Report::Ready { identity, warnings }), Phase::Creating { client }) => {
                let client = *client;
                container.warnings.extend(warnings);
                container.identity = identity;
                if let Some(master) = carried.pop() {
                    let _ = container.set_terminal(master, true);
                }
                container.phase = Phase::Created;
                (client, created(container))
            }
            // The child ends now; `reap` then writes down that it never ran.
            (Some(Report::Failed { message }), phase) => {
                let client = match phase {
                    Phase::Creating { client } | Phase::Starting { client } => Some(*client),
                    _ => None,
                };
                let kind = if matches!(phase, Phase::Starting { .. }) { Failure::Start } else { Failure::Internal };
                container.start_error = Some(message.clone());
                match client {
                    Some(client) => (client, Reply::Failed { kind, message }),
                    None => return,
                }
            }
            // The socket closed at exec: the program runs. If the child died instead, its end follows.
            (None, Phase::Starting { client }) if container.start_error.is_none() => {
                let client = *client;
                container.reports = None;
                container.phase = Phase::Running;
                container.started_at_ns = container::now_ns();
                (client, Reply::Started { pid: container.pid, at_ns: container.started_at_ns })
            }
            (None, _) => {
                container.reports = None;
                return;
            }
            (Some(Report::Ready { .. } | Report::Step), _) => return,
        };
        self.reply(client, &reply, &[]);
    }

    pub(super) fn attach(
        &mut self,
        client: ClientId,
        id: &str,
        wanted: [bool; 3],
        carried: Vec<OwnedFd>,
    ) -> Result<(), (Failure, String)> {
        let container = self.container(id)?;
        if matches!(container.phase, Phase::Ended(_)) {
            return Err((Failure::Precondition, format!("container {id:?} has ended")));
        }
        let streams = [(wanted[1], Stream::Stdout), (wanted[2], Stream::Stderr)];
        let wanted_streams = streams.into_iter().filter(|(wanted, _)| *wanted).map(|(_, s)| s);
        let input = container.attach(wanted[0], wanted_streams.zip(carried).collect()).map_err(internal)?;
        let carried: Vec<BorrowedFd<'_>> = input.iter().map(AsFd::as_fd).collect();
        self.reply(client, &Reply::Attached, &carried);
        Ok(())
    }

    pub(super) fn kill(&mut self, id: &str, signal: i32, all: bool) -> Answer {
        let container = self.container(id)?;
        container.killed |= signal == 9;
        let (pidfd, cgroup) = (&container.pidfd, container.cgroup.clone());
        let sent = process::signal(pidfd, signal).map_err(|e| internal(e.line()));
        if all {
            self.cgroups.kill(&cgroup);
        }
        sent.map(|()| Reply::Done)
    }

    pub(super) fn remove(&mut self, id: &str) -> Answer {
        let container = self.container(id)?;
        match &container.phase {
            Phase::Starting { .. } | Phase::Running => {
                return Err((Failure::Precondition, format!("container {id:?} is running: stop it first")));
            }
            Phase::Ended(_) => {}
            Phase::Creating { .. } | Phase::Created => {
                container.killed = true;
                process::signal(&container.pidfd, 9).map_err(|e| internal(e.line()))?;
                // It never ran a program, so it ends at once; its control group can go only after it.
                let _ = fds::wait_readable(&[container.pidfd.as_fd()], Some(200));
            }
        }
        let cgroup = container.cgroup.clone();
        self.containers.remove(id);
        let _ = self.cgroups.remove(&cgroup);
        Ok(Reply::Done)
    }

    pub(super) fn container_ended(&mut self, id: &str, ended: process::Ended) {
        self.container_report(id);
        let Some(container) = self.containers.get_mut(id) else { return };
        let waiting = match &container.phase {
            Phase::Creating { client } | Phase::Starting { client } if container.start_error.is_none() => Some(*client),
            _ => None,
        };
        let cgroup = container.cgroup.clone();
        let exit = container.end(ended, &self.cgroups, &mut self.scratch);
        // Killed processes may take a moment to leave; what cannot be removed now is removed with the container.
        let _ = self.cgroups.remove(&cgroup);
        if let Some(client) = waiting {
            let message = format!("the process ended before its program ran (code {})", ended.exit_code);
            self.reply(client, &Reply::Failed { kind: Failure::Internal, message }, &[]);
        }
        let reply = Reply::Exited { id: id.to_owned(), exit };
        self.clients.values().filter(|c| c.watches).for_each(|c| c.send(&reply, &[]));
    }
}

fn created(container: &mut Container) -> Reply {
    Reply::Created {
        pid: container.pid,
        identity: std::mem::take::<Identity>(&mut container.identity),
        warnings: std::mem::take(&mut container.warnings),
    }
}
