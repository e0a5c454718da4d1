//! One node, seen from the host: whether it runs, and its power switch.

use std::{
    fs, io,
    os::{fd::AsFd, unix::process::CommandExt},
    path::{Path, PathBuf},
    process::Stdio,
    time::{Duration, Instant},
};

use knarr_os::{
    cgroup::{Cgroups, Version},
    fds, lock, process,
};

use crate::{LocalError, NodeRecord, Result, error::At, record, supervisor};

const SIGKILL: i32 = 9;
/// How long the kernel may take to end or to freeze all of a node's processes.
const PATIENCE: Duration = Duration::from_secs(10);
/// What of the environment of whoever starts a node is meant for the program in it.
const PASSED: [&str; 8] =
    ["RUST_LOG", "KNARR_LOG_FORMAT", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy"];

#[derive(Clone, Debug)]
pub struct Node {
    pub name: String,
    pub directory: PathBuf,
    /// The control group that the program makes those of its pods in.
    pub pods_group: PathBuf,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    Stopped,
    /// Process 1 of the node, as the host numbers it.
    Running {
        pid: i32,
    },
    Paused {
        pid: i32,
    },
}

impl Node {
    pub fn record(&self) -> Result<Option<NodeRecord>> {
        record::read(&self.record_file())
    }

    pub(crate) fn record_file(&self) -> PathBuf {
        self.directory.join(supervisor::RECORD)
    }

    /// What the node keeps; at the same path inside and outside.
    pub fn data_dir(&self) -> PathBuf {
        self.directory.join(supervisor::DATA)
    }

    /// What the node shows as `/`, seen from the host. Pods may have put links into it.
    pub fn root(&self) -> PathBuf {
        self.directory.join(supervisor::ROOT)
    }

    pub fn log(&self) -> PathBuf {
        self.directory.join(supervisor::LOG)
    }

    /// Whether the node runs, as the kernel knows it.
    pub fn state(&self) -> Result<State> {
        let Some(pid) = lock::holder(&self.directory.join(supervisor::LOCK))? else { return Ok(State::Stopped) };
        let paused = Cgroups::detect()?.is_frozen(&self.own_group());
        Ok(if paused { State::Paused { pid } } else { State::Running { pid } })
    }

    /// Starts the node by running `program` as its process 1; returns when that runs, which is before the node is of
    /// any use.
    pub fn start(&self, program: &Path) -> Result<()> {
        if self.state()? != State::Stopped {
            return Err(LocalError::Runs { node: self.name.clone() });
        }
        // What a cut of power left.
        self.remove_groups()?;
        // The same program with another task is not another program.
        #[allow(clippy::disallowed_methods)]
        let mut command = std::process::Command::new(program);
        command.arg(supervisor::COMMAND).arg(&self.directory).arg(self.own_group());
        command.env_clear().envs(PASSED.into_iter().filter_map(|name| Some((name, std::env::var_os(name)?))));
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).process_group(0).current_dir("/");
        let said = last_words(&mut command).at("run", program)?;
        match said {
            None => Ok(()),
            Some(said) => {
                // It may have come half the way.
                self.stop()?;
                Err(LocalError::NoStart { node: self.name.clone(), said })
            }
        }
    }

    /// Cuts the power: nothing of the node is told, and nothing of it is left but its disk.
    pub fn stop(&self) -> Result<()> {
        let path = self.directory.join(supervisor::LOCK);
        if let Some(pid) = lock::holder(&path)? {
            let handle = process::pidfd(pid);
            // Only now is it sure that the number still means whom it meant before.
            if lock::holder(&path)? == Some(pid) {
                let handle = handle?;
                process::signal(&handle, SIGKILL)?;
                self.thaw();
                let ended = fds::wait_readable(&[handle.as_fd()], Some(PATIENCE.as_millis() as u32));
                if !ended.is_ok_and(|ended| ended == [true]) {
                    return Err(LocalError::NoEnd { node: self.name.clone() });
                }
            }
        }
        self.remove_groups()
    }

    /// Makes all of the node stand still, as a machine that hangs.
    pub fn pause(&self) -> Result<()> {
        let cgroups = Cgroups::detect()?;
        for group in self.frozen_groups(&cgroups) {
            cgroups.set_frozen(&group, true)?;
        }
        let frozen = until(|| self.frozen_groups(&cgroups).iter().all(|group| cgroups.is_frozen(group)));
        if !frozen {
            self.thaw();
            return Err(LocalError::NotFrozen { node: self.name.clone() });
        }
        Ok(())
    }

    pub fn resume(&self) -> Result<()> {
        let cgroups = Cgroups::detect()?;
        self.frozen_groups(&cgroups).iter().try_for_each(|group| Ok(cgroups.set_frozen(group, false)?))
    }

    /// Stops the node and removes its disk.
    pub fn remove(&self) -> Result<()> {
        self.stop()?;
        match fs::remove_dir_all(&self.directory) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error).at("remove", &self.directory),
            _ => Ok(()),
        }
    }

    /// The control group of the program itself, and in version 1 for freezing all that it starts.
    fn own_group(&self) -> PathBuf {
        let mut name = self.pods_group.as_os_str().to_owned();
        name.push("-node");
        name.into()
    }

    fn frozen_groups(&self, cgroups: &Cgroups) -> Vec<PathBuf> {
        match cgroups.version() {
            Version::V1 => vec![self.own_group()],
            Version::V2 if cgroups.exists(&self.pods_group) => vec![self.own_group(), self.pods_group.clone()],
            Version::V2 => vec![self.own_group()],
        }
    }

    /// What is not frozen need not be thawed, so nothing is lost where this fails.
    fn thaw(&self) {
        let _ = self.resume();
    }

    /// Removes the control groups that the dead left, the pods' and the node's own.
    fn remove_groups(&self) -> Result<()> {
        let cgroups = Cgroups::detect()?;
        for group in [&self.pods_group, &self.own_group()] {
            // The kernel counts the dead for a moment longer than it takes them to die.
            until(|| cgroups.remove_root(group).is_ok());
            cgroups.remove_root(group)?;
        }
        Ok(())
    }
}

/// Runs a program until it has ended and nobody holds its standard error any more; what it said where it failed.
fn last_words(command: &mut std::process::Command) -> io::Result<Option<String>> {
    let mut child = command.spawn()?;
    let (mut said, deadline) = (Vec::new(), Instant::now() + PATIENCE);
    if let Some(stream) = child.stderr.take() {
        let mut part = [0; 4096];
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if !fds::wait_readable(&[stream.as_fd()], Some(left.as_millis() as u32))?[0] {
                child.kill()?;
                said.extend_from_slice(b"it takes too long");
                break;
            }
            match fds::read(&stream, &mut part)? {
                0 => break,
                length => said.extend_from_slice(&part[..length]),
            }
        }
    }
    let succeeded = child.wait()?.success();
    Ok((!succeeded).then(|| String::from_utf8_lossy(&said).trim().to_owned()))
}

/// Whether something came to hold within the time there is; a matter of a few milliseconds.
fn until(mut check: impl FnMut() -> bool) -> bool {
    let deadline = Instant::now() + PATIENCE;
    while !check() {
        if Instant::now() > deadline {
            return false;
        }
        // Waiting for no descriptor is waiting.
        let _ = fds::wait_readable(&[], Some(1));
    }
    true
}
