//! Processes: fork, exec, wait, signals, and the attributes a child takes on before it runs a program.

use std::{
    ffi::{CString, c_int},
    fs, io,
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::fs::MetadataExt,
    },
};

use nix::{
    libc,
    sys::{
        signal::{SigSet, SigmaskHow, Signal, sigprocmask},
        signalfd::{SfdFlags, SignalFd},
    },
    unistd::ForkResult,
};
use rustix::process::{Pid, PidfdFlags, WaitOptions, WaitStatus};

use crate::error::{Context, OsError, Result};

/// The PID namespace a forked child starts in.
#[derive(Clone, Copy, Debug)]
pub enum PidNamespace<'a> {
    Inherit,
    /// A fresh one, with the child as its process 1.
    New,
    Join(BorrowedFd<'a>),
}

/// Forks; the child runs `child` and ends with the code it returns.
///
/// Only a process with one thread may fork without an exec: any other thread could hold the allocator's lock at
/// that instant. So this refuses to run in a threaded process instead of deadlocking in one.
pub fn fork(namespace: PidNamespace<'_>, child: impl FnOnce() -> i32) -> Result<i32> {
    require_single_thread()?;
    let own = match namespace {
        PidNamespace::Inherit => None,
        PidNamespace::New | PidNamespace::Join(_) => {
            Some(fs::File::open("/proc/self/ns/pid").os("open", "/proc/self/ns/pid")?)
        }
    };
    match namespace {
        PidNamespace::Inherit => {}
        PidNamespace::New => {
            nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWPID).os("create", "a PID namespace")?
        }
        PidNamespace::Join(fd) => {
            nix::sched::setns(fd, nix::sched::CloneFlags::CLONE_NEWPID).os("join", "a PID namespace")?
        }
    }
    // SAFETY: this process has one thread (checked above, and only this thread could have started another), so
    // the child is a complete copy in which every lock is free; it leaves through `_exit` and never returns.
    let forked = unsafe { nix::unistd::fork() };
    if let (Some(own), Ok(ForkResult::Parent { .. }) | Err(_)) = (&own, &forked) {
        // Later children belong where this process is, not in the namespace just used.
        nix::sched::setns(own, nix::sched::CloneFlags::CLONE_NEWPID).os("return to", "the own PID namespace")?;
    }
    match forked.os("fork", "a process")? {
        ForkResult::Parent { child } => Ok(child.as_raw()),
        ForkResult::Child => {
            drop(own);
            let code = std::panic::catch_unwind(std::panic::AssertUnwindSafe(child)).unwrap_or(127);
            // SAFETY: `_exit` has no preconditions; it skips the parent's exit handlers, which are not the child's.
            unsafe { libc::_exit(code) }
        }
    }
}

fn require_single_thread() -> Result<()> {
    // One link each for the directory, its `.` and every task in it.
    let links = fs::metadata("/proc/self/task").os("inspect", "/proc/self/task")?.nlink();
    if links > 3 {
        let why = io::Error::other(format!("{} threads are running", links - 2));
        return Err(OsError::new("fork", "a process that has several threads", why));
    }
    Ok(())
}

/// Replaces this process by a program. Returns only on failure.
pub fn exec(program: &CString, args: &[CString], env: &[CString]) -> io::Error {
    match nix::unistd::execve(program, args, env) {
        Ok(never) => match never {},
        Err(errno) => errno.into(),
    }
}

/// Ends the process at once, without running exit handlers or flushing what the parent had buffered.
pub fn exit_now(code: i32) -> ! {
    // SAFETY: `_exit` has no preconditions.
    unsafe { libc::_exit(code) }
}

/// A stable handle of a process: unlike a PID it can never come to mean another one.
pub fn pidfd(pid: i32) -> Result<OwnedFd> {
    let opened = Pid::from_raw(pid).ok_or(rustix::io::Errno::SRCH);
    opened.and_then(|pid| rustix::process::pidfd_open(pid, PidfdFlags::empty())).os("open a handle of process", pid)
}

/// Sends a signal by number (real-time signals included) to the process behind a pidfd.
/// A process that has ended already is no error.
pub fn signal(pidfd: impl AsFd, number: i32) -> Result<()> {
    use std::os::fd::AsRawFd;
    let raw = pidfd.as_fd().as_raw_fd();
    // SAFETY: the descriptor is valid for the call, and a null siginfo asks for the default one.
    let code = unsafe {
        libc::syscall(libc::SYS_pidfd_send_signal, raw, number as c_int, std::ptr::null::<libc::siginfo_t>(), 0)
    };
    match code {
        0 => Ok(()),
        _ => match io::Error::last_os_error() {
            e if e.raw_os_error() == Some(libc::ESRCH) => Ok(()),
            e => Err(OsError::new("signal", format!("a process with signal {number}"), e)),
        },
    }
}

/// Kills one process by PID; one that is not there is no error.
pub fn kill(pid: i32) {
    if let Some(pid) = Pid::from_raw(pid) {
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
    }
}

/// An ended child: its PID and its exit code, 128 + n for one that signal n ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ended {
    pub pid: i32,
    pub exit_code: i32,
    pub signal: Option<i32>,
}

/// Collects one ended child without waiting, if there is any.
pub fn reap() -> Option<Ended> {
    let (pid, status) = rustix::process::wait(WaitOptions::NOHANG).ok().flatten()?;
    Some(ended(pid, status))
}

fn ended(pid: Pid, status: WaitStatus) -> Ended {
    let signal = status.terminating_signal();
    let exit_code = signal.map_or_else(|| status.exit_status().unwrap_or(255), |n| 128 + n);
    Ended { pid: pid.as_raw_nonzero().get(), exit_code, signal }
}

/// Makes orphans among the descendants children of this process.
pub fn become_subreaper() -> Result<()> {
    // The kernel takes any number that is not zero for "yes".
    rustix::process::set_child_subreaper(Some(rustix::process::getpid())).os("become", "a subreaper")
}

/// A descriptor that is readable when a child has ended; the signal no longer interrupts.
pub fn child_signals() -> Result<OwnedFd> {
    let mut pipe = SigSet::empty();
    // A writer learns of a closed pipe from EPIPE.
    pipe.add(Signal::SIGPIPE);
    sigprocmask(SigmaskHow::SIG_BLOCK, Some(&pipe), None).os("block", "SIGPIPE")?;
    signal_descriptor(&[Signal::SIGCHLD])
}

/// A descriptor that is readable when somebody asks this process to end; the signals no longer do so themselves.
pub fn end_signals() -> Result<OwnedFd> {
    signal_descriptor(&[Signal::SIGTERM, Signal::SIGINT])
}

fn signal_descriptor(signals: &[Signal]) -> Result<OwnedFd> {
    let set: SigSet = signals.iter().copied().collect();
    sigprocmask(SigmaskHow::SIG_BLOCK, Some(&set), None).os("block", format!("{signals:?}"))?;
    let fd = SignalFd::with_flags(&set, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK).os("open", "a signalfd")?;
    fd.as_fd().try_clone_to_owned().os("duplicate", "a signalfd")
}

/// Ignores what a terminal, a service manager or `killall` would send to a supervisor that has to live on.
pub fn ignore_ordinary_signals() {
    for signal in [Signal::SIGHUP, Signal::SIGINT, Signal::SIGQUIT, Signal::SIGTERM, Signal::SIGUSR1, Signal::SIGUSR2] {
        // SAFETY: SIG_IGN installs no handler, so no code can run in a signal context.
        let _ = unsafe { nix::sys::signal::signal(signal, nix::sys::signal::SigHandler::SigIgn) };
    }
}

/// Puts every signal back to its default action and unblocks all: what a program expects to start with.
pub fn reset_signals() {
    for number in 1..=64 {
        if number == libc::SIGKILL || number == libc::SIGSTOP || number == 32 || number == 33 {
            continue;
        }
        // SAFETY: SIG_DFL installs no handler; numbers that the C library keeps for itself are skipped.
        unsafe { libc::signal(number, libc::SIG_DFL) };
    }
    let _ = sigprocmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::empty()), None);
}

/// Marks every descriptor from `first` on to be closed at exec, so that nothing of the host leaks into a container.
pub fn close_on_exec_from(first: u32) -> Result<()> {
    // SAFETY: with CLOSE_RANGE_CLOEXEC no descriptor is closed, only a flag set.
    let code = unsafe { libc::syscall(libc::SYS_close_range, first, u32::MAX, libc::CLOSE_RANGE_CLOEXEC) };
    if code == 0 {
        return Ok(());
    }
    // Kernels before 5.11 lack the flag.
    for entry in fs::read_dir("/proc/self/fd").os("list", "/proc/self/fd")?.flatten() {
        let Some(fd) = entry.file_name().to_str().and_then(|s| s.parse::<i32>().ok()) else { continue };
        if fd >= first as i32 {
            // SAFETY: F_SETFD on a number that may have been closed meanwhile fails without effect.
            unsafe { libc::fcntl(fd, libc::F_SETFD, libc::FD_CLOEXEC) };
        }
    }
    Ok(())
}

/// Closes every descriptor from `first` on, whoever owns it: for a child that lives on without a program of its own
/// and must hold nothing of its parent's. The caller may use none of its files afterwards.
pub fn close_from(first: u32) {
    // SAFETY: closing descriptors breaks no memory; owners that would use one later get an error, as documented.
    unsafe { libc::syscall(libc::SYS_close_range, first, u32::MAX, 0) };
}

/// Duplicates three descriptors onto standard input, output and error. Those given must be above 2.
pub fn set_stdio(stdin: BorrowedFd<'_>, stdout: BorrowedFd<'_>, stderr: BorrowedFd<'_>) -> Result<()> {
    nix::unistd::dup2_stdin(stdin).os("set", "standard input")?;
    nix::unistd::dup2_stdout(stdout).os("set", "standard output")?;
    nix::unistd::dup2_stderr(stderr).os("set", "standard error")
}

/// Takes the descriptor a parent left as standard input and puts `/dev/null` in its place.
pub fn take_stdin() -> Result<OwnedFd> {
    let taken = io::stdin().as_fd().try_clone_to_owned().os("duplicate", "standard input")?;
    let null = fs::File::open("/dev/null").os("open", "/dev/null")?;
    nix::unistd::dup2_stdin(&null).os("set", "standard input")?;
    Ok(taken)
}

/// Becomes another user for good: groups, then group, then user.
pub fn set_identity(uid: u32, gid: u32, groups: &[u32]) -> Result<()> {
    use nix::unistd::{Gid, Uid};
    let groups: Vec<Gid> = groups.iter().map(|g| Gid::from_raw(*g)).collect();
    let (uid, gid) = (Uid::from_raw(uid), Gid::from_raw(gid));
    nix::unistd::setgroups(&groups).os("set", "supplementary groups")?;
    nix::unistd::setresgid(gid, gid, gid).os("become group", gid)?;
    nix::unistd::setresuid(uid, uid, uid).os("become user", uid)
}

/// Writes the OOM score adjustment of this process. The error is the caller's to degrade: lowering needs
/// `CAP_SYS_RESOURCE`, which not every host gives.
pub fn set_oom_score_adj(score: i32) -> Result<()> {
    fs::write("/proc/self/oom_score_adj", score.to_string()).os("set", format!("the OOM score to {score}"))
}

/// Which permission bits new files of this process lack.
pub fn set_umask(mask: u32) {
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(mask));
}

/// Gives up for good, also for all programs started later, the way to rights through set-user-ID files.
pub fn set_no_new_privileges() -> Result<()> {
    rustix::thread::set_no_new_privs(true).os("set", "no_new_privs")
}

/// Keeps others from tracing this process or reading its `/proc` entries; ends at exec.
pub fn hide_from_tracing() -> Result<()> {
    use rustix::process::{DumpableBehavior, set_dumpable_behavior};
    set_dumpable_behavior(DumpableBehavior::NotDumpable).os("hide", "the process from tracing")
}

/// Starts a session of its own, without a terminal.
pub fn start_session() -> Result<()> {
    rustix::process::setsid().map(|_| ()).os("start", "a session")
}

/// Leaves the session keyring that came from the parent for a new, empty one, so that what the parent keeps there (and
/// whoever else came from it) stays out of reach. True where this kernel has keyrings at all.
pub fn start_session_keyring() -> Result<bool> {
    // SAFETY: a null name asks for a keyring without one; the kernel reads no memory of ours.
    let code = unsafe { libc::syscall(libc::SYS_keyctl, libc::KEYCTL_JOIN_SESSION_KEYRING, std::ptr::null::<u8>()) };
    match io::Error::last_os_error() {
        _ if code >= 0 => Ok(true),
        error if error.raw_os_error() == Some(libc::ENOSYS) => Ok(false),
        error => Err(error).os("start", "a session keyring"),
    }
}

/// Kills every process of a group; one that has ended is no error.
pub fn kill_group(leader: i32) {
    if let Some(pid) = Pid::from_raw(leader) {
        let _ = rustix::process::kill_process_group(pid, rustix::process::Signal::KILL);
    }
}

pub fn own_pid() -> i32 {
    rustix::process::getpid().as_raw_nonzero().get()
}
