//! What a sandbox is: the shim itself sits in the pod's network, IPC and UTS namespaces, and its children inherit
//! them. Files hold what others need: the network namespace for the pod network, shared memory for the containers.

use std::{
    fs::{self, File},
    os::fd::AsFd,
    path::Path,
};

use knarr_os::{
    Context, OsError,
    cgroup::Cgroups,
    mount::{self, Flags},
    namespace::{self, Namespace},
    process::{self, PidNamespace},
};

use super::{error::SetupError, spec::SandboxSpec, users::PodUsers};

/// The sandbox's parts that containers are started with.
#[derive(Debug, Default)]
pub struct Sandbox {
    /// The pod's own users, if it has any.
    pub users: Option<PodUsers>,
    /// The shared PID namespace, if the pod has one.
    pub pid_namespace: Option<File>,
    pub pause: Option<i32>,
}

/// Moves this process into the sandbox's namespaces, making them.
pub fn enter(spec: &SandboxSpec) -> Result<Sandbox, SetupError> {
    let mut kinds = Vec::new();
    if spec.netns.is_some() {
        kinds.extend([Namespace::Net, Namespace::Uts]);
    }
    if spec.shm.is_some() {
        kinds.push(Namespace::Ipc);
    }
    let users = spec.users.map(|ids| PodUsers::make(ids, &kinds, &spec.sysctls)).transpose()?;
    if users.is_none() {
        namespace::unshare(&kinds)?;
    }
    if let Some(path) = &spec.netns {
        namespace::hold(Namespace::Net, path)?;
        namespace::loopback_up()?;
        namespace::set_hostname(&spec.hostname)?;
    }
    if let Some(path) = &spec.shm {
        fs::create_dir_all(path).os("create", path.display())?;
        mount::filesystem("tmpfs", path, Flags::KERNEL, "mode=1777,size=65536k")?;
    }
    if users.is_none() {
        for (name, value) in &spec.sysctls {
            namespace::set_sysctl(name, value)?;
        }
    }
    if !spec.shared_pid {
        return Ok(Sandbox { users, ..Sandbox::default() });
    }
    let pause = process::fork(PidNamespace::New, || match users.as_ref().map(|users| users.enter(&[])) {
        Some(Err(_)) => 1,
        _ => pause(),
    })?;
    Ok(Sandbox { users, pid_namespace: Some(namespace::of_process(pause, Namespace::Pid)?), pause: Some(pause) })
}

/// Moves the shim out of the agent's control group, so that stopping the agent's service does not end pods. Best
/// effort: a shim works in whatever group it was started in.
///
/// The kernel may take 10 ms to move a process, so this is done once the pod has started and not before.
pub fn leave_agents_cgroup(spec: &SandboxSpec, cgroups: &Cgroups) {
    let _ = cgroups.create(&spec.shim_cgroup, &Default::default()).and_then(|_| cgroups.join(&spec.shim_cgroup));
}

/// Undoes what a sandbox left in the host's mount table.
pub fn leave(spec: &SandboxSpec) -> Result<(), OsError> {
    for path in spec.netns.iter().chain(&spec.shm) {
        mount::unmount(path)?;
        remove(path)?;
    }
    Ok(())
}

fn remove(path: &Path) -> Result<(), OsError> {
    let removed = if path.is_dir() { fs::remove_dir(path) } else { fs::remove_file(path) };
    match removed {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(e).os("remove", path.display()),
        _ => Ok(()),
    }
}

/// Process 1 of a shared PID namespace: collects orphans, and ends only when killed.
fn pause() -> i32 {
    process::close_from(3);
    process::ignore_ordinary_signals();
    let Ok(signals) = process::child_signals() else { return 1 };
    loop {
        while process::reap().is_some() {}
        if knarr_os::fds::wait_readable(&[signals.as_fd()], None).is_err() {
            return 1;
        }
        let mut discarded = [0; 128];
        while knarr_os::fds::read(&signals, &mut discarded).is_ok_and(|n| n > 0) {}
    }
}
