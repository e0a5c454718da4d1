//! Containers from beginning to end.

use std::{collections::BTreeMap, fs, path::Path, time::Duration};

use knarr_cri::{
    CriError, Result,
    v1::{ContainerConfig, ContainerEventType, ContainerState, NamespaceMode},
};

use super::{GONE_WITHIN, SIGKILL, aside, end_cgroup, new_id, remove_directory};
use crate::{
    client,
    container::{Container, EXIT_FILE, SPEC_FILE},
    convert,
    records::{self, ContainerMeta},
    runtime::{EmbeddedRuntime, now_ns},
    shim::{
        protocol::{Reply, Request},
        spec::{self as shim_spec, Identity, Rootfs},
    },
    signal::{SIGTERM, stop_signal},
    spec,
};

impl EmbeddedRuntime {
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

    pub(super) async fn kill_container(&self, id: &str, signal: i32, all: bool) -> Result<()> {
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
    pub(super) async fn wait_for_end(&self, id: &str, timeout: Duration) -> bool {
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
        aside(remove).await.map_err(convert::io_error("cannot remove the container's files"))?;
        self.announce(id, ContainerEventType::ContainerDeletedEvent);
        self.state().containers.remove(id);
        Ok(())
    }
}
