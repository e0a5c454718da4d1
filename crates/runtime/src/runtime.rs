//! The runtime's state and how it is found again after a restart.

use std::{
    collections::BTreeMap,
    fs, io,
    os::unix::fs::PermissionsExt,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
};

use knarr_cri::{
    CriError,
    v1::{ContainerEventResponse, ContainerEventType},
};
use knarr_os::{OsError, cgroup::Cgroups};
use tokio::sync::broadcast;
use tracing::Instrument;

use crate::{
    client::Connection,
    config::Config,
    container::{Container, EXIT_FILE, unseen_exit},
    convert,
    images::{ImageError, ImageStore},
    records::{self, ContainerMeta, SandboxMeta},
    sandbox::{Sandbox, Sandboxes},
    shim::{
        protocol::{Reply, Request},
        spec::{Exit, load},
    },
    stats::Sample,
};

/// Why a runtime cannot work on its directories.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error("cannot use the directory {path}: it has to be writable by root")]
    Directory {
        path: String,
        #[source]
        source: io::Error,
    },
    #[error(transparent)]
    Images(#[from] ImageError),
    #[error(transparent)]
    Host(#[from] OsError),
}

/// Events a slow receiver may fall behind before it has to list anew.
const EVENTS_KEPT: usize = 1024;

/// The embedded runtime; every part of CRI's services is implemented on it.
pub struct EmbeddedRuntime {
    pub(crate) config: Config,
    pub(crate) images: Arc<ImageStore>,
    pub(crate) cgroups: Cgroups,
    /// Itself, for the tasks that listen to shims.
    this: Weak<Self>,
    state: Mutex<State>,
    events: broadcast::Sender<ContainerEventResponse>,
    /// The CPU shares that groups above the sandboxes were given last.
    weights: Mutex<BTreeMap<PathBuf, u64>>,
    /// What the last readings of containers' usage found, by container.
    samples: Mutex<BTreeMap<String, Sample>>,
}

/// All that is known; locked for moments only, never across a wait.
#[derive(Default)]
pub(crate) struct State {
    pub sandboxes: Sandboxes,
    pub containers: BTreeMap<String, Container>,
}

pub(crate) fn now_ns() -> i64 {
    i64::try_from(jiff::Timestamp::now().as_nanosecond()).unwrap_or(0)
}

impl EmbeddedRuntime {
    /// Opens the runtime: reads the records, finds the shims that are still there, and takes note of what has ended
    /// meanwhile. Returns once every shim has been heard or found gone.
    pub async fn open(config: Config) -> Result<Arc<Self>, OpenError> {
        let directory = |path: PathBuf| {
            fs::create_dir_all(&path)
                .map_err(|source| OpenError::Directory { path: path.display().to_string(), source })
                .map(|()| path)
        };
        let sandboxes = directory(config.data_dir.join("sandboxes"))?;
        let containers = directory(config.data_dir.join("containers"))?;
        // The pods' shared memory is in it, which every process of theirs may write, and no other user of this host.
        let closed = directory(config.run_dir.clone())?;
        fs::set_permissions(&closed, fs::Permissions::from_mode(0o700))
            .map_err(|source| OpenError::Directory { path: closed.display().to_string(), source })?;
        directory(config.run_dir.join("sandboxes"))?;
        let images = Arc::new(ImageStore::open(&config.data_dir)?.with_registries(config.registries.clone()));
        images.add_builtin(&config.exe)?;
        let unreadable = |path: &PathBuf| {
            let path = path.display().to_string();
            move |source| OpenError::Directory { path, source }
        };
        let mut state = State::default();
        for (sandbox, meta) in records::load_all::<_, SandboxMeta>(&sandboxes).map_err(unreadable(&sandboxes))? {
            state.sandboxes.insert(meta.id.clone(), Sandbox { config: sandbox, meta });
        }
        for (container, meta) in records::load_all::<_, ContainerMeta>(&containers).map_err(unreadable(&containers))? {
            let exit = load::<Exit>(&config.container_dir(&meta.id).join(EXIT_FILE)).ok();
            state.containers.insert(meta.id.clone(), Container::new(container, meta, exit));
        }
        let ids: Vec<String> = state.sandboxes.keys().cloned().collect();
        let cgroups = Cgroups::detect()?;
        let runtime = Arc::new_cyclic(|this| Self {
            config,
            images,
            cgroups,
            this: this.clone(),
            state: Mutex::new(state),
            events: broadcast::Sender::new(EVENTS_KEPT),
            weights: Mutex::default(),
            samples: Mutex::default(),
        });
        // All at once, so that one shim that hangs is waited for once and not before all others.
        futures::future::join_all(ids.iter().map(|id| runtime.adopt(id))).await;
        runtime.weigh();
        Ok(runtime)
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn weights(&self) -> MutexGuard<'_, BTreeMap<PathBuf, u64>> {
        self.weights.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Locked after the state where both are.
    pub(crate) fn samples(&self) -> MutexGuard<'_, BTreeMap<String, Sample>> {
        self.samples.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Does work to its end even if the caller stops waiting for it: a half-made container would be no one's.
    pub(crate) async fn to_the_end<T, F>(&self, work: impl FnOnce(Arc<Self>) -> F) -> knarr_cri::Result<T>
    where
        T: Send + 'static,
        F: Future<Output = knarr_cri::Result<T>> + Send + 'static,
    {
        let Some(this) = self.this.upgrade() else {
            return Err(CriError::Unavailable { message: "the runtime is shutting down".into() });
        };
        tokio::spawn(work(this).in_current_span())
            .await
            .unwrap_or_else(|e| Err(CriError::internal("the runtime's work was cut short", e)))
    }

    /// Images, for the command line and the node.
    pub fn images(&self) -> &Arc<ImageStore> {
        &self.images
    }

    pub(crate) fn subscribe(&self) -> broadcast::Receiver<ContainerEventResponse> {
        self.events.subscribe()
    }

    /// Finds a sandbox's shim again, or takes note that it is gone.
    async fn adopt(&self, id: &str) {
        if let Err(error) = self.watch(id).await {
            tracing::warn!(
                sandbox = id,
                error = &error as &dyn std::error::Error,
                "the pod's shim was not found again"
            );
            self.shim_lost(id).await;
        }
    }

    /// Begins to listen to a sandbox's shim; its first answer brings the records up to date.
    pub(crate) async fn watch(&self, id: &str) -> Result<(), crate::client::ShimError> {
        let mut connection = Connection::open(&self.config.sandbox_run_dir(id)).await?;
        connection.send(&Request::Watch, &[]).await?;
        if let Reply::State { containers } = connection.answer().await? {
            let known: BTreeMap<String, _> = containers.into_iter().map(|c| (c.id.clone(), c)).collect();
            let recorded = self.containers_of(id);
            for stranger in known.keys().filter(|id| !recorded.contains(id)) {
                self.discard_unrecorded(id, stranger).await;
            }
            for container in recorded {
                match known.get(&container) {
                    Some(state) => match &state.exit {
                        Some(exit) => self.ended(&container, exit.clone()),
                        None if state.running => self.started(&container, state.pid, state.started_at_ns),
                        None => {}
                    },
                    // The shim never had it, or was told to forget it: it was cut short on its way in or out.
                    None => self.ended(&container, unseen_exit()),
                }
            }
        }
        let (runtime, id) = (self.this.clone(), id.to_owned());
        tokio::spawn(async move {
            while let Ok(reply) = connection.next().await {
                let Some(runtime) = runtime.upgrade() else { return };
                if let Reply::Exited { id, exit } = reply {
                    runtime.ended(&id, exit);
                }
            }
            if let Some(runtime) = runtime.upgrade() {
                runtime.shim_lost(&id).await;
            }
        });
        Ok(())
    }

    /// A container that a shim was asked for but that has no record: whoever asked was gone before it was made, so it
    /// was never started. Its folder was swept at the start, perhaps while the shim still wrote to it.
    async fn discard_unrecorded(&self, sandbox: &str, id: &str) {
        let request = Request::Remove { id: id.to_owned() };
        let removed = crate::client::tell(&self.config.sandbox_run_dir(sandbox), &request).await;
        let folder = self.config.container_dir(id);
        let swept = match fs::remove_dir_all(&folder) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        };
        if removed.is_err() || swept.is_err() {
            let path = folder.display();
            tracing::warn!(sandbox, %path, "what is left of a container that was never finished stays until its pod goes");
        }
    }

    pub(crate) fn containers_of(&self, sandbox_id: &str) -> Vec<String> {
        let state = self.state();
        state.containers.values().filter(|c| c.meta.sandbox_id == sandbox_id).map(|c| c.meta.id.clone()).collect()
    }

    /// A sandbox without a shim is not ready, and nothing of it may go on running unwatched.
    async fn shim_lost(&self, id: &str) {
        let cgroup = {
            let mut state = self.state();
            let Some(sandbox) = state.sandboxes.get_mut(id).filter(|s| s.meta.ready) else { return };
            tracing::warn!(sandbox = id, "the pod's shim is gone: ending what it held");
            sandbox.meta.ready = false;
            let _ = records::save_meta(&self.config.sandbox_dir(id), &sandbox.meta);
            sandbox.meta.cgroup.clone()
        };
        let cgroups = self.cgroups.clone();
        let _ = knarr_os::aside(move || cgroups.kill(&cgroup)).await;
        for container in self.containers_of(id) {
            let seen = load::<Exit>(&self.config.container_dir(&container).join(EXIT_FILE));
            self.ended(&container, seen.unwrap_or_else(|_| unseen_exit()));
        }
    }

    /// Notes that a container runs, since the time that its shim tells. The end of a short one may be noted before its
    /// beginning, for the two are told on connections of their own: so the time of this note would be later than the end.
    pub(crate) fn started(&self, id: &str, pid: i32, at_ns: i64) {
        {
            let mut state = self.state();
            let Some(container) = state.containers.get_mut(id) else { return };
            if container.meta.started_at_ns != 0 {
                return;
            }
            container.meta.started_at_ns = if at_ns == 0 { now_ns() } else { at_ns };
            container.meta.pid = pid;
            let _ = records::save_meta(&self.config.container_dir(id), &container.meta);
        }
        self.announce(id, ContainerEventType::ContainerStartedEvent);
    }

    /// Notes how a container ended; only the first account of it counts.
    pub(crate) fn ended(&self, id: &str, exit: Exit) {
        {
            let state = self.state();
            let Some(container) = state.containers.get(id) else { return };
            if container.exit.borrow().is_some() {
                return;
            }
            // Its shim has written it down, unless that is gone.
            let path = self.config.container_dir(id).join(EXIT_FILE);
            if load::<Exit>(&path).ok().as_ref() != Some(&exit) {
                let _ = crate::shim::spec::store(&path, &exit);
            }
            container.exit.send_replace(Some(exit));
        }
        self.announce(id, ContainerEventType::ContainerStoppedEvent);
    }

    pub(crate) fn announce(&self, id: &str, kind: ContainerEventType) {
        let event = {
            let state = self.state();
            let container = state.containers.get(id);
            let sandbox = container.and_then(|c| state.sandboxes.get(&c.meta.sandbox_id));
            ContainerEventResponse {
                container_id: id.to_owned(),
                container_event_type: kind.into(),
                created_at: now_ns(),
                pod_sandbox_status: sandbox.map(convert::sandbox_status),
                containers_statuses: container.map(convert::container_status).into_iter().collect(),
            }
        };
        // Without a receiver there is no one to tell.
        let _ = self.events.send(event);
    }
}
