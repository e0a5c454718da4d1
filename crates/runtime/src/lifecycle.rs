//! Sandboxes and containers from beginning to end. Every step may be the last one before a crash, so records are
//! written before things are made, and every undoing succeeds on what is only half there.

use std::{collections::BTreeMap, fs, path::Path, time::Duration};

use knarr_cri::{
    CriError, Result,
    v1::{
        ContainerConfig, ContainerEventType, ContainerState, LinuxContainerResources, NamespaceMode, PodSandboxConfig,
    },
};
use knarr_os::cgroup::Cgroups;

use crate::{
    client,
    container::{Container, EXIT_FILE, SPEC_FILE, unseen_exit},
    convert, launch,
    records::{self, ContainerMeta, SandboxMeta},
    runtime::{EmbeddedRuntime, now_ns},
    sandbox::Sandbox,
    shim::{
        self, SANDBOX_FILE,
        protocol::{Reply, Request},
        spec::{self as shim_spec, Identity, Rootfs},
    },
    signal::{SIGTERM, stop_signal},
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
        launch::start(&self.config.exe, &run).map_err(convert::io_error("cannot start the pod's shim"))?;
        // While the shim starts, the pod's control group is made.
        let linux = sandbox.config.linux.clone().unwrap_or_default();
        let limits = spec::resources(&linux.resources.unwrap_or_default());
        let warnings = self.cgroups.create(&sandbox.meta.cgroup, &limits).map_err(convert::os_error)?;
        warnings.iter().for_each(|w| tracing::warn!(sandbox = id, warning = w.line(), "a limit is not in force"));
        match client::ask(&run, &Request::Hello).await {
            Ok(Reply::Ready { .. }) => {}
            Ok(other) => {
                return Err(CriError::Internal { message: format!("the pod's shim said {other:?}"), source: None });
            }
            Err(client::ShimError::Closed | client::ShimError::Unreachable(_)) => {
                let message = format!("the pod's shim has ended: {}", launch::last_words(&run));
                return Err(CriError::Internal { message, source: None });
            }
            Err(e) => return Err(convert::shim_error("sandbox", &id)(e)),
        }
        if sandbox.has_own_network() {
            let address = self.config.network.add(&sandbox.network_request(&self.config)).await?;
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
            let _ = records::save_meta(&self.config.sandbox_dir(id), &sandbox.meta);
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
        shim::leave_sandbox(&sandbox.shim_spec(&self.config)).map_err(convert::os_error)?;
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
            remove_directory(&directory)
                .map_err(convert::io_error(format!("cannot remove {}", directory.display())))?;
        }
        self.state().sandboxes.remove(id);
        Ok(())
    }

    pub(crate) async fn create_container(&self, sandbox_id: &str, config: ContainerConfig) -> Result<String> {
        let sandbox = self.sandbox(sandbox_id)?;
        if !sandbox.meta.ready {
            return Err(CriError::FailedPrecondition { message: format!("sandbox {sandbox_id:?} is not running") });
        }
        let name = config.image.as_ref().map(|i| i.image.clone()).unwrap_or_default();
        let image = self.images.find(&name).map_err(convert::image_error)?;
        let image = image.ok_or_else(|| CriError::NotFound { what: "image", id: name })?;
        let id = new_id();
        let directory = self.config.container_dir(&id);
        let rootfs = Rootfs {
            store: self.images.layer_root(),
            layers: self.images.layer_names(&image).map_err(convert::image_error)?,
            upper: directory.join("upper"),
            work: directory.join("work"),
            mountpoint: directory.join("rootfs"),
            readonly: false,
        };
        let namespaces = config.linux.as_ref().and_then(|l| l.security_context.as_ref()?.namespace_options.clone());
        let target = namespaces.filter(|n| n.pid() == NamespaceMode::Target).map(|n| n.target_id);
        let target_pid = target.map(|id| self.running(&id).map(|(_, pid)| pid)).transpose()?;
        let inputs = spec::Inputs {
            id: &id,
            config: &config,
            sandbox: &sandbox.config,
            image: &image.config,
            rootfs,
            cgroup: sandbox.meta.cgroup.join(&id),
            exit_path: directory.join(EXIT_FILE),
            sandbox_mounts: sandbox.mounts(&self.config),
            mounted_images: self.mounted_images(&config)?,
            target_pid,
        };
        let spec = spec::container(inputs).map_err(convert::spec_error)?;
        let mut meta = ContainerMeta {
            id: id.clone(),
            sandbox_id: sandbox_id.to_owned(),
            created_at_ns: now_ns(),
            started_at_ns: 0,
            image_ref: image.digests.iter().next().unwrap_or(&image.id).clone(),
            image_id: image.id.clone(),
            pid: 0,
            identity: Identity::default(),
            cgroup: spec.cgroup.clone(),
            stop_signal: stop_signal(&config, &image.config.stop_signal),
            log_path: spec.log_path.clone(),
        };
        let prepare = || -> std::io::Result<()> {
            for part in ["upper", "work", "rootfs"] {
                fs::create_dir_all(directory.join(part))?;
            }
            for mount in spec.mounts.iter().filter(|mount| mount.layers.is_none()) {
                // As kubelets expect: a host path that is not there becomes a directory.
                if !mount.source.exists() {
                    fs::create_dir_all(&mount.source)?;
                }
            }
            shim_spec::store(&directory.join(SPEC_FILE), &spec)
        };
        let made = match prepare() {
            Ok(()) => self.make_container(sandbox_id, &directory).await,
            Err(e) => Err(convert::io_error("cannot write the container's files")(e)),
        };
        let saved = made.and_then(|identity| {
            meta.identity = identity;
            records::save(&directory, &config, &meta).map_err(convert::io_error("cannot write the container's record"))
        });
        if let Err(e) = saved {
            let _ = client::tell(&self.config.sandbox_run_dir(sandbox_id), &Request::Remove { id: id.clone() }).await;
            let _ = remove_directory(&directory);
            return Err(e);
        }
        self.state().containers.insert(id.clone(), Container::new(config, meta, None));
        self.announce(&id, ContainerEventType::ContainerCreatedEvent);
        Ok(id)
    }

    /// The layers of the images that a container mounts.
    fn mounted_images(&self, config: &ContainerConfig) -> Result<BTreeMap<String, Vec<String>>> {
        let names = config.mounts.iter().filter_map(|mount| Some(&mount.image.as_ref()?.image));
        let found = names.filter(|name| !name.is_empty()).map(|name| {
            let image = self.images.find(name).map_err(convert::image_error)?;
            let image = image.ok_or_else(|| CriError::NotFound { what: "image", id: name.clone() })?;
            Ok((name.clone(), self.images.layer_names(&image).map_err(convert::image_error)?))
        });
        found.collect()
    }

    async fn make_container(&self, sandbox_id: &str, directory: &Path) -> Result<Identity> {
        let request = Request::Create { spec: directory.join(SPEC_FILE) };
        match client::ask(&self.config.sandbox_run_dir(sandbox_id), &request).await {
            Ok(Reply::Created { identity, warnings, .. }) => {
                warnings
                    .iter()
                    .for_each(|w| tracing::warn!(sandbox = sandbox_id, warning = w, "a limit is not in force"));
                Ok(identity)
            }
            Ok(other) => Err(CriError::Internal { message: format!("the pod's shim said {other:?}"), source: None }),
            Err(e) => Err(convert::shim_error("container", &directory.display().to_string())(e)),
        }
    }

    /// The sandbox and state of a container.
    pub(crate) fn locate(&self, id: &str) -> Result<(String, ContainerState)> {
        let state = self.state();
        let container =
            state.containers.get(id).ok_or_else(|| CriError::NotFound { what: "container", id: id.to_owned() })?;
        Ok((container.meta.sandbox_id.clone(), container.state()))
    }

    /// The sandbox and first process of a container, which has to be running.
    pub(crate) fn running(&self, id: &str) -> Result<(String, i32)> {
        let (sandbox, state) = self.locate(id)?;
        if state != ContainerState::ContainerRunning {
            return Err(CriError::FailedPrecondition { message: format!("container {id:?} is not running") });
        }
        let pid = self.state().containers.get(id).map_or(0, |c| c.meta.pid);
        Ok((sandbox, pid))
    }

    pub(crate) async fn start_container(&self, id: &str) -> Result<()> {
        let (sandbox, state) = self.locate(id)?;
        if state != ContainerState::ContainerCreated {
            let message = format!("container {id:?} is {state:?}: only a created one can be started");
            return Err(CriError::FailedPrecondition { message });
        }
        match client::ask(&self.config.sandbox_run_dir(&sandbox), &Request::Start { id: id.to_owned() }).await {
            Ok(Reply::Started { pid, at_ns }) => {
                self.started(id, pid, at_ns);
                Ok(())
            }
            Ok(other) => Err(CriError::Internal { message: format!("the pod's shim said {other:?}"), source: None }),
            Err(e) => Err(convert::shim_error("container", id)(e)),
        }
    }

    /// Asks a container to end, and makes it end after a while. One that is not there has ended.
    pub(crate) async fn stop_container(&self, id: &str, timeout: Duration) -> Result<()> {
        let Ok((_, state)) = self.locate(id) else { return Ok(()) };
        if state == ContainerState::ContainerExited {
            return Ok(());
        }
        let signal = self.state().containers.get(id).map_or(SIGTERM, |c| c.meta.stop_signal);
        if timeout > Duration::ZERO && state == ContainerState::ContainerRunning {
            self.kill_container(id, signal, false).await?;
            if self.wait_for_end(id, timeout).await {
                return Ok(());
            }
        }
        self.kill_container(id, SIGKILL, true).await?;
        match self.wait_for_end(id, GONE_WITHIN).await {
            true => Ok(()),
            false => Err(CriError::DeadlineExceeded {
                what: format!("killing container {id}"),
                seconds: GONE_WITHIN.as_secs(),
            }),
        }
    }

    async fn kill_container(&self, id: &str, signal: i32, all: bool) -> Result<()> {
        let (sandbox, state) = self.locate(id)?;
        if state == ContainerState::ContainerExited {
            return Ok(());
        }
        let request = Request::Kill { id: id.to_owned(), signal, all };
        client::tell(&self.config.sandbox_run_dir(&sandbox), &request)
            .await
            .map_err(convert::shim_error("container", id))
    }

    /// True once the container has ended; false when that took too long.
    async fn wait_for_end(&self, id: &str, timeout: Duration) -> bool {
        let Some(mut exit) = self.state().containers.get(id).map(|c| c.exit.subscribe()) else { return true };
        let ended = exit.wait_for(Option::is_some);
        tokio::time::timeout(timeout, ended).await.is_ok()
    }

    /// Removes a container that has ended, or was never started. One that is not there is removed.
    pub(crate) async fn remove_container(&self, id: &str) -> Result<()> {
        let Ok((sandbox, state)) = self.locate(id) else { return Ok(()) };
        if state == ContainerState::ContainerRunning {
            self.stop_container(id, Duration::ZERO).await?;
        }
        // The shim may be gone, or have forgotten it already.
        let _ = client::tell(&self.config.sandbox_run_dir(&sandbox), &Request::Remove { id: id.to_owned() }).await;
        let cgroup = self.state().containers.get(id).map(|c| c.meta.cgroup.clone());
        if let Some(cgroup) = cgroup {
            end_cgroup(&self.cgroups, &cgroup).await.map_err(convert::os_error)?;
        }
        let directory = self.config.container_dir(id);
        let image = self.state().containers.get(id).map(|c| c.meta.image_id.clone()).unwrap_or_default();
        let images = self.images.clone();
        let remove = move || {
            if let Err(error) = images.note_use(&image) {
                tracing::warn!(image, %error, "when an image was used last cannot be written down");
            }
            remove_directory(&directory)
        };
        let removed = tokio::task::spawn_blocking(remove).await;
        removed.unwrap_or(Ok(())).map_err(convert::io_error("cannot remove the container's files"))?;
        self.announce(id, ContainerEventType::ContainerDeletedEvent);
        self.state().containers.remove(id);
        Ok(())
    }
}

/// Removes a directory, records first: what is cut short then has none and is swept away at the next start.
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
        let Err(e) = cgroups.remove(path) else { return Ok(()) };
        if tokio::time::Instant::now() > deadline {
            return Err(e);
        }
        cgroups.kill(path);
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(Duration::from_millis(100));
    }
}
