//! Sandboxes and containers from beginning to end. Every step may be the last one before a crash, so records are
//! written before things are made, and every undoing succeeds on what is only half there.

mod container;

use std::{fs, path::Path, time::Duration};

use knarr_cri::{
    CriError, POD_START, Result,
    v1::{LinuxContainerResources, PodSandboxConfig},
};
use knarr_os::cgroup::Cgroups;
use tracing::Instrument;

use crate::{
    client,
    container::unseen_exit,
    convert, launch,
    records::{self, SandboxMeta},
    runtime::{EmbeddedRuntime, now_ns},
    sandbox::Sandbox,
    shim::{
        self, SANDBOX_FILE,
        protocol::{Reply, Request},
        spec as shim_spec,
    },
    spec,
};

const SIGKILL: i32 = 9;
/// How long a killed process may take to be gone; only one stuck in the kernel takes any time.
const GONE_WITHIN: Duration = Duration::from_secs(10);

/// 64 hexadecimal digits, as container engines name things.
fn new_id() -> String {
    format!("{}{}", uuid::Uuid::new_v4().simple(), uuid::Uuid::new_v4().simple())
}

impl EmbeddedRuntime {
    pub(crate) async fn run_sandbox(&self, config: PodSandboxConfig) -> Result<String> {
        let id = new_id();
        let parent = config.linux.as_ref().map(|l| l.cgroup_parent.clone()).filter(|p| !p.is_empty());
        let cgroup = self.config.cgroup(&parent.unwrap_or_else(|| format!("pod-{id}")));
        let meta = SandboxMeta { id: id.clone(), created_at_ns: now_ns(), ready: false, ips: Vec::new(), cgroup };
        let sandbox = Sandbox { config, meta };
        sandbox.check().map_err(|message| CriError::InvalidArgument { message })?;
        self.state().sandboxes.insert(id.clone(), sandbox.clone());
        match self.make_sandbox(sandbox).await {
            Ok(()) => Ok(id),
            Err(e) => {
                if let Err(cleanup) = self.remove_sandbox(&id).await {
                    tracing::warn!(sandbox = id, error = %cleanup, "a sandbox that failed to start is not removed yet");
                }
                Err(e)
            }
        }
    }

    async fn make_sandbox(&self, mut sandbox: Sandbox) -> Result<()> {
        let id = sandbox.meta.id.clone();
        let (run, record) = (self.config.sandbox_run_dir(&id), self.config.sandbox_dir(&id));
        let prepare = || -> std::io::Result<()> {
            fs::create_dir_all(&record)?;
            records::save(&record, &sandbox.config, &sandbox.meta)?;
            fs::create_dir_all(&run)?;
            sandbox.write_files(&run)?;
            shim_spec::store(&run.join(SANDBOX_FILE), &sandbox.shim_spec(&self.config))
        };
        prepare().map_err(convert::io_error("cannot write the sandbox's files"))?;
        self.start_shim(&sandbox, &run).instrument(tracing::debug_span!(target: POD_START, "shim")).await?;
        if sandbox.has_own_network() {
            let (step, request) =
                (tracing::debug_span!(target: POD_START, "network"), sandbox.network_request(&self.config));
            let address = self.config.network.add(&request).instrument(step).await?;
            sandbox.meta.ips = address.ips;
            sandbox
                .write_hosts(&run, &sandbox.meta.ips)
                .map_err(convert::io_error("cannot write the pod's hosts file"))?;
        }
        sandbox.meta.ready = true;
        records::save_meta(&record, &sandbox.meta).map_err(convert::io_error("cannot write the sandbox's record"))?;
        self.state().sandboxes.insert(id.clone(), sandbox);
        self.weigh();
        self.watch(&id).await.map_err(convert::shim_error("sandbox", &id))
    }

    async fn start_shim(&self, sandbox: &Sandbox, run: &Path) -> Result<()> {
        let id = &sandbox.meta.id;
        launch::start(&self.config.exe, run).map_err(convert::io_error("cannot start the pod's shim"))?;
        // While the shim starts, the pod's control group is made.
        let linux = sandbox.config.linux.clone().unwrap_or_default();
        let limits = spec::resources(&linux.resources.unwrap_or_default());
        let warnings = self.cgroups.create(&sandbox.meta.cgroup, &limits).map_err(convert::os_error)?;
        warnings.iter().for_each(|w| tracing::warn!(sandbox = id, warning = w.line(), "a limit is not in force"));
        match client::ask(run, &Request::Hello).await {
            Ok(Reply::Ready { .. }) => Ok(()),
            Ok(other) => Err(CriError::Internal { message: format!("the pod's shim said {other:?}"), source: None }),
            Err(client::ShimError::Closed | client::ShimError::Unreachable(_)) => {
                let message = format!("the pod's shim has ended: {}", launch::last_words(run));
                Err(CriError::Internal { message, source: None })
            }
            Err(e) => Err(convert::shim_error("sandbox", id)(e)),
        }
    }

    pub(crate) fn sandbox(&self, id: &str) -> Result<Sandbox> {
        let missing = || CriError::NotFound { what: "sandbox", id: id.to_owned() };
        self.state().sandboxes.get(id).cloned().ok_or_else(missing)
    }

    /// Ends everything in a sandbox and gives back what it holds of the host. Running it again does no harm.
    pub(crate) async fn stop_sandbox(&self, id: &str) -> Result<()> {
        let Ok(mut sandbox) = self.sandbox(id) else { return Ok(()) };
        let run = self.config.sandbox_run_dir(id);
        let containers = self.containers_of(id);
        for container in &containers {
            let _ = self.kill_container(container, SIGKILL, true).await;
        }
        for container in &containers {
            self.wait_for_end(container, GONE_WITHIN).await;
        }
        // Not ready from here on, so that the end of the shim is no surprise.
        if sandbox.meta.ready {
            sandbox.meta.ready = false;
            let (record, meta) = (self.config.sandbox_dir(id), sandbox.meta.clone());
            let _ = aside(move || records::save_meta(&record, &meta)).await;
            self.state().sandboxes.insert(id.to_owned(), sandbox.clone());
            self.weigh();
        }
        if sandbox.has_own_network() {
            self.config.network.del(&sandbox.network_request(&self.config)).await?;
        }
        if let Err(e) = client::tell(&run, &Request::Shutdown).await {
            tracing::debug!(sandbox = id, error = %e, "the pod's shim is gone already");
        }
        for container in containers {
            self.ended(&container, unseen_exit());
        }
        let shim = sandbox.shim_spec(&self.config);
        aside(move || shim::leave_sandbox(&shim)).await.map_err(convert::os_error)?;
        // A pod keeps its control group when its sandbox is replaced, after a cut of power say: what the newer one runs
        // in it is not this one's to end.
        let is_shared = {
            let state = self.state();
            state.sandboxes.values().any(|other| other.meta.id != id && other.meta.cgroup == sandbox.meta.cgroup)
        };
        if is_shared {
            return Ok(());
        }
        end_cgroup(&self.cgroups, &sandbox.meta.cgroup).await.map_err(convert::os_error)
    }

    /// Changes what a whole sandbox may use.
    pub(crate) fn resize_sandbox(&self, id: &str, resources: &LinuxContainerResources) -> Result<()> {
        let cgroup = {
            let mut state = self.state();
            let missing = || CriError::NotFound { what: "sandbox", id: id.to_owned() };
            let sandbox = state.sandboxes.get_mut(id).ok_or_else(missing)?;
            let linux = sandbox.config.linux.get_or_insert_default();
            // Whoever takes a pod over says the same again, for each of them.
            if linux.resources.as_ref() != Some(resources) {
                linux.resources = Some(resources.clone());
                records::save(&self.config.sandbox_dir(id), &sandbox.config, &sandbox.meta)
                    .map_err(convert::io_error("cannot write the sandbox's record"))?;
            }
            sandbox.meta.cgroup.clone()
        };
        let refused = self.cgroups.update(&cgroup, &spec::resources(resources)).into_iter().next();
        self.weigh();
        refused.map_or(Ok(()), |refused| Err(convert::os_error(refused)))
    }

    pub(crate) async fn remove_sandbox(&self, id: &str) -> Result<()> {
        if self.sandbox(id).is_err() {
            return Ok(());
        }
        self.stop_sandbox(id).await?;
        for container in self.containers_of(id) {
            self.remove_container(&container).await?;
        }
        for directory in [self.config.sandbox_run_dir(id), self.config.sandbox_dir(id)] {
            let failed = convert::io_error(format!("cannot remove {}", directory.display()));
            aside(move || remove_directory(&directory)).await.map_err(failed)?;
        }
        self.state().sandboxes.remove(id);
        Ok(())
    }
}

/// Does what waits for the kernel on a thread of its own, where it keeps no other pod waiting: a file system that tells
/// its disk of every block that is free again takes milliseconds for each file.
async fn aside<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    let done = knarr_os::aside(work).await;
    done.unwrap_or_else(|lost| std::panic::resume_unwind(Box::new(lost)))
}

/// Removes a directory. What a crash leaves of it is swept away at the next start, or is still known and removed again.
fn remove_directory(path: &Path) -> std::io::Result<()> {
    match fs::remove_dir_all(path) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(e),
        _ => Ok(()),
    }
}

/// Kills what is left in a control group and removes it; killed processes take a moment to leave.
pub(crate) async fn end_cgroup(cgroups: &Cgroups, path: &Path) -> knarr_os::Result<()> {
    let deadline = tokio::time::Instant::now() + GONE_WITHIN;
    let mut pause = Duration::from_millis(1);
    loop {
        let (all, group) = (cgroups.clone(), path.to_owned());
        let removed = aside(move || all.remove(&group).inspect_err(|_| all.kill(&group))).await;
        let Err(e) = removed else { return Ok(()) };
        if tokio::time::Instant::now() > deadline {
            return Err(e);
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(Duration::from_millis(100));
    }
}
