//! The shim's one loop: requests from the agent, output and reports from containers, and ends of processes.

mod containers;

use std::{
    collections::BTreeMap,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    time::{Duration, Instant},
};

use knarr_os::{cgroup::Cgroups, fds, process};

use super::{
    clients::{Client, ClientId, Received},
    container::{Container, Phase},
    execs::Exec,
    logs::Stream,
    protocol::{ContainerState, Failure, Reply, Request},
    sandbox::{self, Sandbox},
    spec::SandboxSpec,
};

pub struct Server {
    spec: SandboxSpec,
    /// The sandbox, or why it could not be made: told to whoever asks, since no one else would hear it.
    pub(super) sandbox: Result<Sandbox, String>,
    pub(super) cgroups: Cgroups,
    listener: OwnedFd,
    signals: OwnedFd,
    pub(super) clients: BTreeMap<ClientId, Client>,
    next_client: ClientId,
    pub(super) containers: BTreeMap<String, Container>,
    /// By PID.
    pub(super) execs: BTreeMap<i32, Exec>,
    pub(super) scratch: Vec<u8>,
    finished: bool,
}

/// Where something happened.
enum Source {
    Listener,
    Signals,
    Client(ClientId),
    Output(String, Stream),
    ContainerReport(String),
    ExecReport(i32),
}

/// By then a pod has started, and the shim does what can wait.
const SETTLED_AFTER: Duration = Duration::from_secs(1);

type Answer = Result<Reply, (Failure, String)>;

pub(super) fn internal(error: impl ToString) -> (Failure, String) {
    (Failure::Internal, error.to_string())
}

impl Server {
    pub fn new(
        spec: SandboxSpec,
        sandbox: Result<Sandbox, String>,
        cgroups: Cgroups,
        listener: OwnedFd,
        signals: OwnedFd,
    ) -> Self {
        let _ = fds::set_nonblocking(&listener);
        Self {
            spec,
            sandbox,
            cgroups,
            listener,
            signals,
            clients: BTreeMap::new(),
            next_client: 0,
            containers: BTreeMap::new(),
            execs: BTreeMap::new(),
            scratch: vec![0; 16 << 10],
            finished: false,
        }
    }

    /// Serves until told to shut down.
    pub fn run(mut self) -> Result<(), String> {
        let mut moved_at = Some(Instant::now() + SETTLED_AFTER);
        while !self.finished {
            if moved_at.is_some_and(|at| at <= Instant::now()) {
                sandbox::leave_agents_cgroup(&self.spec, &self.cgroups);
                moved_at = None;
            }
            let (sources, descriptors) = self.sources();
            let timeout_ms = moved_at.map(|_| SETTLED_AFTER.as_millis() as u32);
            let ready =
                fds::wait_readable(&descriptors, timeout_ms).map_err(|e| format!("cannot wait for events: {e}"))?;
            let happened: Vec<Source> =
                sources.into_iter().zip(ready).filter_map(|(source, ready)| ready.then_some(source)).collect();
            for source in happened {
                self.handle(source);
            }
        }
        Ok(())
    }

    fn sources(&self) -> (Vec<Source>, Vec<BorrowedFd<'_>>) {
        let mut all = vec![(Source::Listener, self.listener.as_fd()), (Source::Signals, self.signals.as_fd())];
        all.extend(self.clients.iter().map(|(id, c)| (Source::Client(*id), c.socket.as_fd())));
        for (id, container) in &self.containers {
            all.extend(container.outputs().map(|(s, fd)| (Source::Output(id.clone(), s), fd.as_fd())));
            all.extend(container.reports.iter().map(|fd| (Source::ContainerReport(id.clone()), fd.as_fd())));
        }
        for (pid, exec) in &self.execs {
            all.extend(exec.reports.iter().map(|fd| (Source::ExecReport(*pid), fd.as_fd())));
        }
        all.into_iter().unzip()
    }

    fn handle(&mut self, source: Source) {
        match source {
            Source::Listener => {
                while let Ok(socket) = fds::accept(&self.listener) {
                    self.clients.insert(self.next_client, Client::new(socket));
                    self.next_client += 1;
                }
            }
            Source::Signals => self.reap(),
            Source::Client(id) => self.read_client(id),
            Source::Output(id, stream) => {
                if let Some(container) = self.containers.get_mut(&id) {
                    container.read_output(stream, &mut self.scratch, false);
                }
            }
            Source::ContainerReport(id) => self.container_report(&id),
            Source::ExecReport(pid) => self.exec_report(pid),
        }
    }

    fn read_client(&mut self, id: ClientId) {
        let Some(client) = self.clients.get_mut(&id) else { return };
        match client.receive(&mut self.scratch) {
            Received::Gone => {
                self.clients.remove(&id);
            }
            Received::Requests(requests) => {
                for request in requests {
                    let carried = self.clients.get_mut(&id).map(|c| std::mem::take(&mut c.carried)).unwrap_or_default();
                    self.serve(id, request, carried);
                }
            }
        }
    }

    pub(super) fn reply(&self, client: ClientId, reply: &Reply, carried: &[BorrowedFd<'_>]) {
        if let Some(client) = self.clients.get(&client) {
            client.send(reply, carried);
        }
    }

    fn serve(&mut self, client: ClientId, request: Request, carried: Vec<OwnedFd>) {
        let answer = match request {
            Request::Hello => match &self.sandbox {
                Ok(_) => Ok(Reply::Ready { pid: process::own_pid() }),
                Err(message) => Err((Failure::Internal, message.clone())),
            },
            // These are answered when the child reports.
            Request::Create { spec } => match self.create(client, &spec) {
                Ok(()) => return,
                Err(e) => Err(e),
            },
            Request::Start { id } => match self.start(client, &id) {
                Ok(()) => return,
                Err(e) => Err(e),
            },
            Request::Exec { id, spec, args, terminal, stdin, stdout, stderr } => {
                let wanted = [stdin, stdout, stderr];
                match self.exec(client, &id, &spec, args, terminal, wanted, carried) {
                    Ok(()) => return,
                    Err(e) => Err(e),
                }
            }
            Request::KillExec => return self.kill_execs(client),
            Request::Attach { id, stdin, stdout, stderr } => {
                match self.attach(client, &id, [stdin, stdout, stderr], carried) {
                    Ok(()) => return,
                    Err(e) => Err(e),
                }
            }
            Request::Kill { id, signal, all } => self.kill(&id, signal, all),
            Request::Remove { id } => self.remove(&id),
            Request::DetachInput { id } => self.container(&id).map(|c| {
                c.detach_input();
                Reply::Done
            }),
            Request::Resize { id, width, height } => self
                .container(&id)
                .and_then(|c| c.resize(width, height).map_err(|e| internal(e.line())))
                .map(|()| Reply::Done),
            Request::ReopenLog { id } => {
                self.container(&id).and_then(|c| c.reopen_log().map_err(internal)).map(|()| Reply::Done)
            }
            Request::Connect { port, v6 } => match fds::connect_loopback(port, v6) {
                Ok(socket) => return self.reply(client, &Reply::Connecting, &[socket.as_fd()]),
                Err(e) => Err(internal(e)),
            },
            Request::Watch => {
                if let Some(client) = self.clients.get_mut(&client) {
                    client.watches = true;
                }
                Ok(Reply::State { containers: self.state() })
            }
            Request::Shutdown => self.shut_down(),
        };
        let reply = answer.unwrap_or_else(|(kind, message)| Reply::Failed { kind, message });
        self.reply(client, &reply, &[]);
    }

    fn container(&mut self, id: &str) -> Result<&mut Container, (Failure, String)> {
        self.containers.get_mut(id).ok_or_else(|| (Failure::NotFound, format!("container {id:?} is not there")))
    }

    fn state(&self) -> Vec<ContainerState> {
        let state = |(id, c): (&String, &Container)| ContainerState {
            id: id.clone(),
            pid: c.pid,
            running: c.is_running(),
            started_at_ns: c.started_at_ns,
            exit: if let Phase::Ended(exit) = &c.phase { Some(exit.clone()) } else { None },
        };
        self.containers.iter().map(state).collect()
    }

    fn shut_down(&mut self) -> Answer {
        for container in self.containers.values_mut() {
            container.killed = true;
            let _ = process::signal(&container.pidfd, 9);
            self.cgroups.kill(&container.cgroup);
        }
        if let Ok(Sandbox { pause: Some(pid), .. }) = &self.sandbox {
            process::kill(*pid);
        }
        self.finished = true;
        Ok(Reply::Done)
    }

    /// Collects all that have ended. Orphans adopted from containers are collected and otherwise ignored.
    fn reap(&mut self) {
        while fds::read(&self.signals, &mut self.scratch).is_ok_and(|n| n > 0) {}
        while let Some(ended) = process::reap() {
            if self.exec_ended(ended) {
                continue;
            }
            let Some(id) = self.containers.iter().find(|(_, c)| c.pid == ended.pid).map(|(id, _)| id.clone()) else {
                continue;
            };
            self.container_ended(&id, ended);
        }
    }
}
