//! Namespaces: making, joining, and holding them by a file.

use std::{
    fs, io,
    os::fd::{AsFd, BorrowedFd},
    path::Path,
};

use nix::sched::CloneFlags;

use crate::error::{Context, OsError, Result};

/// The kinds a container has of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Namespace {
    Mount,
    Net,
    Ipc,
    Uts,
    Cgroup,
    Pid,
    User,
}

impl Namespace {
    fn flag(self) -> CloneFlags {
        match self {
            Self::Mount => CloneFlags::CLONE_NEWNS,
            Self::Net => CloneFlags::CLONE_NEWNET,
            Self::Ipc => CloneFlags::CLONE_NEWIPC,
            Self::Uts => CloneFlags::CLONE_NEWUTS,
            Self::Cgroup => CloneFlags::CLONE_NEWCGROUP,
            Self::Pid => CloneFlags::CLONE_NEWPID,
            Self::User => CloneFlags::CLONE_NEWUSER,
        }
    }

    /// The name under `/proc/PID/ns`.
    pub fn file_name(self) -> &'static str {
        match self {
            Self::Mount => "mnt",
            Self::Net => "net",
            Self::Ipc => "ipc",
            Self::Uts => "uts",
            Self::Cgroup => "cgroup",
            Self::Pid => "pid",
            Self::User => "user",
        }
    }
}

/// Moves this process into fresh namespaces.
pub fn unshare(kinds: &[Namespace]) -> Result<()> {
    let flags = kinds.iter().fold(CloneFlags::empty(), |flags, kind| flags | kind.flag());
    nix::sched::unshare(flags).os("create namespaces", format!("{kinds:?}"))
}

/// Moves this process into the namespace behind a file.
pub fn join(fd: BorrowedFd<'_>, kind: Namespace) -> Result<()> {
    nix::sched::setns(fd, kind.flag()).os("join the namespace", kind.file_name())
}

/// Opens a namespace of a process.
pub fn of_process(pid: i32, kind: Namespace) -> Result<fs::File> {
    let path = format!("/proc/{pid}/ns/{}", kind.file_name());
    fs::File::open(&path).os("open", path)
}

/// Holds a namespace of this process open by mounting it on a file, which is made. Undone by unmounting the file.
pub fn hold(kind: Namespace, path: &Path) -> Result<()> {
    fs::File::create(path).os("create", path.display())?;
    let source = format!("/proc/self/ns/{}", kind.file_name());
    rustix::mount::mount_bind(source.as_str(), path).os("mount a namespace on", path.display())
}

/// Brings the loopback device of this process's network namespace up.
pub fn loopback_up() -> Result<()> {
    use nix::libc;
    use std::os::fd::AsRawFd;
    let socket = rustix::net::socket(rustix::net::AddressFamily::INET, rustix::net::SocketType::DGRAM, None)
        .os("open", "a socket")?;
    // SAFETY: zeroes are a valid `ifreq`.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    request.ifr_name[0] = b'l' as libc::c_char;
    request.ifr_name[1] = b'o' as libc::c_char;
    request.ifr_ifru.ifru_flags = (libc::IFF_UP | libc::IFF_RUNNING) as libc::c_short;
    // SAFETY: SIOCSIFFLAGS reads one `ifreq`, which lives through the call.
    let code = unsafe { libc::ioctl(socket.as_fd().as_raw_fd(), libc::SIOCSIFFLAGS, &raw const request) };
    match code {
        0 => Ok(()),
        _ => Err(OsError::new("bring up", "the loopback device", io::Error::last_os_error())),
    }
}

pub fn set_hostname(name: &str) -> Result<()> {
    nix::unistd::sethostname(name).os("set the host name to", name)
}

/// Writes a kernel parameter, given in dotted form, as this process's namespaces see it.
pub fn set_sysctl(name: &str, value: &str) -> Result<()> {
    let path = Path::new("/proc/sys").join(name.replace('.', "/"));
    fs::write(&path, value).os("set the kernel parameter", name)
}
