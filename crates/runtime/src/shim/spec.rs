//! What a shim is told: the sandbox it serves and the containers in it, written as JSON by the runtime. Everything
//! is decided there already (paths, identities, limits, the seccomp program), so that the shim needs to know neither
//! CRI nor images.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
};

use knarr_os::{
    caps::Capabilities,
    cgroup::Resources,
    mount::{DeviceKind, Propagation},
    users::IdBlock,
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

/// The sandbox a shim serves.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SandboxSpec {
    pub id: String,
    pub hostname: String,
    /// Where to hold the sandbox's own network namespace open; `None` means the host's network.
    pub netns: Option<PathBuf>,
    /// Where to mount the sandbox's shared memory; `None` means the host's IPC namespace.
    pub shm: Option<PathBuf>,
    /// Containers share one PID namespace, with a process of the shim's as its first.
    pub shared_pid: bool,
    pub sysctls: BTreeMap<String, String>,
    /// Which of the host's users are the sandbox's; `None` means that they are the same.
    #[serde(default)]
    pub users: Option<IdBlock>,
    /// The control group shims live in, so that stopping Knarr's service does not take them along.
    pub shim_cgroup: PathBuf,
}

/// One container.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ContainerSpec {
    pub id: String,
    pub rootfs: Rootfs,
    pub mounts: Vec<BindMount>,
    pub devices: Vec<Device>,
    pub pid: PidMode,
    pub cgroup: PathBuf,
    pub resources: Resources,
    pub masked_paths: Vec<String>,
    pub readonly_paths: Vec<String>,
    pub process: ProcessSpec,
    pub stdin: bool,
    /// Standard input ends with the first client that was attached to it.
    pub stdin_once: bool,
    pub log_path: Option<PathBuf>,
    /// Where to write how the container ended.
    pub exit_path: PathBuf,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Rootfs {
    /// The directory the names in `layers` are relative to.
    pub store: PathBuf,
    /// The topmost first.
    pub layers: Vec<String>,
    pub upper: PathBuf,
    pub work: PathBuf,
    /// An empty directory to mount on, in the container's own mount namespace only.
    pub mountpoint: PathBuf,
    pub readonly: bool,
}

/// A path of the host, or of an image, shown in the container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BindMount {
    pub source: PathBuf,
    pub target: PathBuf,
    pub readonly: bool,
    pub recursive_readonly: bool,
    pub propagation: Propagation,
    /// The layers of the image that `source` is a path of, the topmost first; their names are relative to the store of
    /// the container's own.
    #[serde(default)]
    pub layers: Option<Vec<String>>,
    #[serde(default)]
    pub nosuid: bool,
    #[serde(default)]
    pub noexec: bool,
    /// Files belong to the sandbox's own users by the numbers that are on the disk.
    #[serde(default)]
    pub mapped: bool,
}

impl BindMount {
    /// To read and write, and what is mounted below later stays where it was mounted.
    pub fn new(source: impl Into<PathBuf>, target: impl Into<PathBuf>) -> Self {
        Self {
            source: source.into(),
            target: target.into(),
            readonly: false,
            recursive_readonly: false,
            propagation: Propagation::Private,
            layers: None,
            nosuid: false,
            noexec: false,
            mapped: false,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Device {
    /// Below `/dev`.
    pub target: PathBuf,
    pub kind: DeviceKind,
    pub major: u32,
    pub minor: u32,
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum PidMode {
    Container,
    Sandbox,
    Host,
    /// The namespace of another process, for a container that inspects it.
    Of(i32),
}

/// A program and everything about the process it runs in. `exec` runs with the container's own, other arguments.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct ProcessSpec {
    pub args: Vec<String>,
    /// `NAME=value`.
    pub env: Vec<String>,
    pub cwd: String,
    pub user: UserSpec,
    pub terminal: bool,
    pub capabilities: Capabilities,
    pub ambient: Capabilities,
    /// Programs of packed instructions (`knarr_os::seccomp`), of which the strictest verdict counts; none: unconfined.
    pub seccomp: Vec<Vec<u64>>,
    pub apparmor: Option<String>,
    pub no_new_privileges: bool,
    pub oom_score_adj: i32,
    pub privileged: bool,
}

/// Who to run as, in the terms of an image: names are looked up in the container's own `/etc/passwd` and `/etc/group`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct UserSpec {
    /// `user`, `uid`, `user:group`, ...; empty for root.
    pub user: String,
    pub group: Option<u32>,
    pub supplemental: Vec<u32>,
    /// Add the groups that `/etc/group` lists the user in (`supplementalGroupsPolicy: Merge`).
    pub merge_groups: bool,
}

/// Who a process runs as, looked up.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    pub uid: u32,
    pub gid: u32,
    pub groups: Vec<u32>,
}

/// How a container ended.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exit {
    pub code: i32,
    pub finished_at_ns: i64,
    pub oom: bool,
    /// Why the program could not be started, if it could not.
    pub start_error: Option<String>,
}

pub fn load<T: DeserializeOwned>(path: &Path) -> io::Result<T> {
    Ok(serde_json::from_slice(&fs::read(path)?)?)
}

/// Writes a file whole or not at all.
pub fn store<T: Serialize>(path: &Path, value: &T) -> io::Result<()> {
    replace(path, &serde_json::to_vec(value)?)
}

/// The same with bytes as they are.
pub fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let temporary = path.with_extension("new");
    fs::write(&temporary, bytes)?;
    fs::rename(&temporary, path)
}
