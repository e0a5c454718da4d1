//! One container as the shim keeps it: its streams, its log, and how far along its life is.

use std::{
    io,
    os::fd::{AsFd, OwnedFd},
    path::PathBuf,
};

use knarr_os::{cgroup::Cgroups, fds, process};

use super::{
    clients::ClientId,
    launch::{Child, Streams},
    logs::{Log, Stream},
    spec::{ContainerSpec, Exit, Identity},
};

/// Each state is left by the event it names.
#[derive(Debug)]
pub enum Phase {
    /// Until the child reports that it is ready; then the client is told.
    Creating { client: ClientId },
    /// Until `Start`.
    Created,
    /// Until the report socket closes (the program runs) or carries a failure.
    Starting { client: ClientId },
    /// Until the process ends.
    Running,
    /// Until `Remove`.
    Ended(Exit),
}

#[derive(Debug)]
pub struct Container {
    pub pid: i32,
    pub pidfd: OwnedFd,
    pub phase: Phase,
    pub reports: Option<OwnedFd>,
    pub cgroup: PathBuf,
    pub terminal: bool,
    pub stdin_once: bool,
    exit_path: PathBuf,
    pub start_error: Option<String>,
    /// Zero until its program runs.
    pub started_at_ns: i64,
    pub warnings: Vec<String>,
    pub identity: Identity,
    /// The container was told to die, so that its end by SIGKILL is no sign of a lack of memory.
    pub killed: bool,
    log: Log,
    input: Option<OwnedFd>,
    /// Where output comes from; the terminal's master counts as standard output.
    outputs: [Option<OwnedFd>; 2],
    /// Clients that watch the output, by stream.
    attached: [Vec<OwnedFd>; 2],
}

/// What an attached client may fall behind before it is cut off; kernel memory, not the shim's.
const ATTACH_BUFFER_BYTES: usize = 1 << 20;

/// The shim's ends of a container's streams, next to the child's.
#[derive(Default)]
pub struct Ends {
    input: Option<OwnedFd>,
    outputs: [Option<OwnedFd>; 2],
}

/// Makes the streams of a container without a terminal.
pub fn make_streams(stdin: bool) -> io::Result<(Streams, Ends)> {
    let (child_stdin, input) = match stdin {
        true => fds::pipe().map(|(reader, writer)| (reader, Some(writer)))?,
        false => (std::fs::File::open("/dev/null")?.into(), None),
    };
    let (out_reader, stdout) = fds::pipe()?;
    let (err_reader, stderr) = fds::pipe()?;
    fds::set_nonblocking(&out_reader)?;
    fds::set_nonblocking(&err_reader)?;
    let ends = Ends { input, outputs: [Some(out_reader), Some(err_reader)] };
    Ok((Streams { stdin: child_stdin, stdout, stderr }, ends))
}

impl Container {
    pub fn new(spec: &ContainerSpec, child: Child, ends: Ends, client: ClientId) -> Result<Self, String> {
        let pidfd = process::pidfd(child.pid).map_err(|e| e.line())?;
        let log = Log::open(spec.log_path.clone());
        Ok(Self {
            pid: child.pid,
            pidfd,
            phase: Phase::Creating { client },
            reports: Some(child.reports),
            cgroup: spec.cgroup.clone(),
            terminal: spec.process.terminal,
            stdin_once: spec.stdin_once,
            exit_path: spec.exit_path.clone(),
            start_error: None,
            started_at_ns: 0,
            warnings: Vec::new(),
            identity: Identity::default(),
            killed: false,
            log: log.map_err(|e| format!("cannot open the log {:?}: {e}", spec.log_path))?,
            input: ends.input,
            outputs: ends.outputs,
            attached: [Vec::new(), Vec::new()],
        })
    }

    /// The terminal's master takes the place of pipes, for input only if input was asked for.
    pub fn set_terminal(&mut self, master: OwnedFd, stdin: bool) -> io::Result<()> {
        fds::set_nonblocking(&master)?;
        self.input = if stdin { Some(master.as_fd().try_clone_to_owned()?) } else { None };
        self.outputs = [Some(master), None];
        Ok(())
    }

    pub fn outputs(&self) -> impl Iterator<Item = (Stream, &OwnedFd)> {
        let streams = [Stream::Stdout, Stream::Stderr];
        streams.into_iter().filter_map(|s| Some((s, self.outputs[s as usize].as_ref()?)))
    }

    /// Takes in what a stream has to say: once, or until it has no more.
    pub fn read_output(&mut self, stream: Stream, scratch: &mut [u8], to_the_end: bool) {
        while let Some(fd) = &self.outputs[stream as usize] {
            match fds::read(fd, scratch) {
                Ok(n) if n > 0 => self.take_output(stream, &scratch[..n]),
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                // The end; a terminal whose other side has closed says so with EIO.
                _ => self.outputs[stream as usize] = None,
            }
            if !to_the_end {
                return;
            }
        }
    }

    fn take_output(&mut self, stream: Stream, bytes: &[u8]) {
        self.log.write(stream, bytes, &now);
        // A client that does not keep up is cut off: it must hold up neither the container nor its log.
        self.attached[stream as usize].retain(|fd| fds::write(fd, bytes).is_ok_and(|n| n == bytes.len()));
    }

    /// Adds a client that watches; gives the descriptor for input if asked for.
    pub fn attach(&mut self, stdin: bool, streams: Vec<(Stream, OwnedFd)>) -> io::Result<Option<OwnedFd>> {
        for (stream, fd) in streams {
            fds::set_nonblocking(&fd)?;
            fds::set_pipe_size(&fd, ATTACH_BUFFER_BYTES);
            self.attached[stream as usize].push(fd);
        }
        let input = self.input.as_ref().filter(|_| stdin);
        input.map(|fd| fd.as_fd().try_clone_to_owned()).transpose()
    }

    /// With `stdinOnce`, the end of the first client's input is the end of the container's.
    pub fn detach_input(&mut self) {
        if self.stdin_once {
            self.input = None;
        }
    }

    pub fn resize(&self, width: u16, height: u16) -> Result<(), knarr_os::OsError> {
        match self.outputs[Stream::Stdout as usize].as_ref().filter(|_| self.terminal) {
            Some(master) => knarr_os::pty::resize(master, width, height),
            None => Ok(()),
        }
    }

    pub fn reopen_log(&mut self) -> io::Result<()> {
        self.log.reopen()
    }

    pub fn is_running(&self) -> bool {
        matches!(self.phase, Phase::Starting { .. } | Phase::Running)
    }

    /// Takes note of the end of the first process: ends the others, collects the last output, and writes down how
    /// it ended, where it can be read without the shim.
    pub fn end(&mut self, ended: process::Ended, cgroups: &Cgroups, scratch: &mut [u8]) -> Exit {
        let oom = self.was_out_of_memory(ended, cgroups);
        cgroups.kill(&self.cgroup);
        for stream in [Stream::Stdout, Stream::Stderr] {
            self.read_output(stream, scratch, true);
        }
        self.outputs = [None, None];
        self.attached = [Vec::new(), Vec::new()];
        self.input = None;
        self.reports = None;
        self.log.finish(&now);
        let code = if self.start_error.is_some() { 128 } else { ended.exit_code };
        let exit = Exit { code, finished_at_ns: now_ns(), oom, start_error: self.start_error.take() };
        let _ = super::spec::store(&self.exit_path, &exit);
        self.phase = Phase::Ended(exit.clone());
        exit
    }

    /// The count of a version 1 group may still be zero at the instant the victim is reaped, so a process that
    /// something unknown killed is looked at a few times.
    fn was_out_of_memory(&self, ended: process::Ended, cgroups: &Cgroups) -> bool {
        const SIGKILL: i32 = 9;
        let suspicious = ended.signal == Some(SIGKILL) && !self.killed;
        for _ in 0..if suspicious { 10 } else { 1 } {
            if cgroups.oom_kills(&self.cgroup) > 0 {
                return ended.exit_code != 0;
            }
            if suspicious {
                let _ = fds::wait_readable(&[], Some(1));
            }
        }
        false
    }
}

pub fn now_ns() -> i64 {
    i64::try_from(jiff::Timestamp::now().as_nanosecond()).unwrap_or(0)
}

fn now() -> String {
    format!("{:.9}", jiff::Timestamp::now())
}
