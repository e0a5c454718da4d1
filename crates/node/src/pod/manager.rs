//! The workers of a node: one for each pod that the API, the manifest folder or the runtime knows of.

use std::{
    collections::{HashMap, HashSet},
    panic::AssertUnwindSafe,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use futures::FutureExt;
use k8s_openapi::api::core::v1::{Container, Pod, PodSpec};
use knarr_client::{Informer, supervise::panic_message};
use knarr_cri::v1::{ContainerEventResponse, ListContainersRequest, ListPodSandboxRequest};
use tokio::{sync::broadcast, task::JoinSet};
use tracing::Instrument;

use super::{
    context::{Context, full_name},
    labels,
    wish::{Eviction, Handle},
    worker::Worker,
};

/// The wait before a crashed worker is started again.
const CRASH_PAUSE: Duration = Duration::from_secs(1);

type Handles = Arc<Mutex<HashMap<String, Handle>>>;

/// Starts and wakes workers.
#[derive(Clone)]
pub struct Manager {
    ctx: Arc<Context>,
    handles: Handles,
    workers: Arc<Mutex<JoinSet<()>>>,
}

impl Manager {
    pub fn new(ctx: Arc<Context>) -> Self {
        Self { ctx, handles: Handles::default(), workers: Arc::default() }
    }

    fn handles(&self) -> std::sync::MutexGuard<'_, HashMap<String, Handle>> {
        self.handles.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Follows the pods that the API binds to this node. `pods` must hold no others.
    pub async fn follow(&self, pods: Informer<Pod>) {
        let mut changes = pods.subscribe();
        while let Some(change) = changes.next().await {
            let uid = |pod: &Arc<Pod>| pod.metadata.uid.clone();
            // A namesake may have taken the place of a pod whose end was not seen.
            if let Some(old) = change.old.as_ref().filter(|old| change.new.as_ref().map(uid) != Some(uid(old))) {
                self.forget(old.metadata.uid.as_deref().unwrap_or_default());
            }
            if let Some(pod) = change.new {
                self.want_unless_mirror(pod);
            }
        }
    }

    /// A mirror is only the API's picture of a static pod.
    pub fn want_unless_mirror(&self, pod: Arc<Pod>) {
        let mirror = pod.metadata.annotations.as_ref().is_some_and(|map| map.contains_key(labels::CONFIG_MIRROR));
        if !mirror {
            self.want(pod);
        }
    }

    /// Passes a pod as it is wanted now to its worker, which is begun where there is none.
    pub fn want(&self, pod: Arc<Pod>) {
        let uid = pod.metadata.uid.clone().unwrap_or_default();
        let pod = self.ctx.devices.lead(pod);
        let mut handles = self.handles();
        match handles.get(&uid) {
            Some(handle) => handle.set(|wish| wish.pod = pod),
            None => {
                let handle = Handle::new(pod, false);
                handles.insert(uid.clone(), handle.clone());
                drop(handles);
                self.begin(uid, handle);
            }
        }
    }

    /// Tells a worker that its pod is no longer wanted by anyone. What it was taken in with is free from now on, for the
    /// scheduler gives that to others as soon as the object is gone, however long the processes still take to end.
    pub fn forget(&self, uid: &str) {
        if let Some(handle) = self.handles().get(uid) {
            handle.set(|wish| wish.gone = true);
            self.ctx.release(uid);
            tracing::info!(uid, "a pod is gone from the API");
        }
    }

    /// Has a pod ended for good, if it runs.
    pub fn evict(&self, uid: &str, eviction: Eviction) {
        if let Some(handle) = self.handles().get(uid) {
            handle.set(|wish| wish.eviction = Some(eviction));
        }
    }

    /// Has a worker look again.
    pub fn wake(&self, uid: &str) {
        if let Some(handle) = self.handles().get(uid) {
            handle.wake.notify_one();
        }
    }

    pub fn knows(&self, uid: &str) -> bool {
        self.handles().contains_key(uid)
    }

    pub fn pods(&self) -> Vec<Arc<Pod>> {
        let pod = |handle: &Handle| handle.wish.lock().unwrap_or_else(PoisonError::into_inner).pod.clone();
        self.handles().values().map(pod).collect()
    }

    fn begin(&self, uid: String, handle: Handle) {
        let (ctx, handles) = (self.ctx.clone(), self.handles.clone());
        let task = async move {
            loop {
                let worker = Worker::new(ctx.clone(), handle.clone());
                let name = full_name(&worker.pod);
                let step = tracing::debug_span!(target: knarr_cri::POD_START, "pod", pod = name);
                match AssertUnwindSafe(worker.run()).catch_unwind().instrument(step).await {
                    Ok(()) => break,
                    Err(panic) => {
                        tracing::error!(
                            pod = name,
                            panic = panic_message(&*panic),
                            "a pod's worker crashed and is started again"
                        );
                        tokio::time::sleep(CRASH_PAUSE).await;
                    }
                }
            }
            ctx.release(&uid);
            handles.lock().unwrap_or_else(PoisonError::into_inner).remove(&uid);
        };
        let mut workers = self.workers.lock().unwrap_or_else(PoisonError::into_inner);
        while workers.try_join_next().is_some() {}
        workers.spawn(task);
    }

    /// Wakes the worker whose container changed; after a gap, all of them.
    pub async fn listen(&self, mut events: broadcast::Receiver<ContainerEventResponse>) {
        loop {
            match events.recv().await {
                Ok(event) => match self.owner(&event).and_then(|uid| self.handles().get(&uid).cloned()) {
                    Some(handle) => handle.wake.notify_one(),
                    None => self.wake_all(),
                },
                Err(broadcast::error::RecvError::Lagged(missed)) => {
                    tracing::debug!(missed, "the runtime's events came too fast; looking at every pod");
                    self.wake_all();
                }
                Err(broadcast::error::RecvError::Closed) => return,
            }
        }
    }

    fn owner(&self, event: &ContainerEventResponse) -> Option<String> {
        let metadata = event.pod_sandbox_status.as_ref().and_then(|status| status.metadata.as_ref());
        match metadata.map(|metadata| metadata.uid.clone()).filter(|uid| !uid.is_empty()) {
            Some(uid) => Some(uid),
            None => self.ctx.owners().get(&event.container_id).cloned(),
        }
    }

    pub fn wake_all(&self) {
        for handle in self.handles().values() {
            handle.wake.notify_one();
        }
    }

    /// Ends what the runtime still has of pods that nobody wants any more, and clears away their folders. Call
    /// it when it is known which pods are wanted.
    pub async fn clear_left_overs(&self) -> knarr_cri::Result<()> {
        let runtime = &self.ctx.runtime;
        let mut found: HashMap<String, Pod> = HashMap::new();
        for sandbox in runtime.list_pod_sandbox(ListPodSandboxRequest::default()).await?.items {
            add_left_over(&mut found, &sandbox.labels, None);
        }
        for container in runtime.list_containers(ListContainersRequest::default()).await?.containers {
            add_left_over(&mut found, &container.labels, Some(&container.annotations));
        }
        for (uid, pod) in found {
            if !self.knows(&uid) {
                tracing::info!(pod = full_name(&pod), "ending a pod that is no longer wanted");
                let handle = Handle::new(Arc::new(pod), true);
                self.handles().insert(uid.clone(), handle.clone());
                self.begin(uid, handle);
            }
        }
        let known: HashSet<String> = self.handles().keys().cloned().collect();
        self.ctx.devices.keep_only(|uid| known.contains(uid)).await;
        self.ctx.cpus.keep_only(|uid| known.contains(uid)).await;
        let (pod_dir, log_dir) = (self.ctx.pod_dir.clone(), self.ctx.log_dir.clone());
        let blocking = tokio::task::spawn_blocking(move || clear_folders(&pod_dir, &log_dir, &known));
        if let Ok(Err(error)) = blocking.await {
            tracing::warn!(%error, "folders of earlier pods could not all be removed");
        }
        Ok(())
    }

    /// Ends all workers where they stand; containers go on.
    pub fn stop(&self) {
        self.workers.lock().unwrap_or_else(PoisonError::into_inner).abort_all();
    }
}

/// What is known of a pod from the labels on its sandbox or containers: enough to end it.
fn add_left_over(
    found: &mut HashMap<String, Pod>,
    labels: &std::collections::BTreeMap<String, String>,
    annotations: Option<&std::collections::BTreeMap<String, String>>,
) {
    let Some(uid) = labels.get(labels::POD_UID) else { return };
    let pod = found.entry(uid.clone()).or_insert_with(|| {
        let mut pod = Pod::default();
        pod.metadata.uid = Some(uid.clone());
        pod.metadata.name = labels.get(labels::POD_NAME).cloned();
        pod.metadata.namespace = labels.get(labels::POD_NAMESPACE).cloned();
        pod.spec = Some(PodSpec::default());
        pod
    });
    let Some(spec) = &mut pod.spec else { return };
    let grace = annotations.and_then(|map| map.get(labels::GRACE_PERIOD)).and_then(|text| text.parse().ok());
    spec.termination_grace_period_seconds = grace.or(spec.termination_grace_period_seconds);
    if let Some(name) = labels.get(labels::CONTAINER_NAME) {
        spec.containers.push(Container { name: name.clone(), ..Container::default() });
    }
}

fn clear_folders(pod_dir: &std::path::Path, log_dir: &std::path::Path, known: &HashSet<String>) -> std::io::Result<()> {
    let missing_is_empty = |result: std::io::Result<std::fs::ReadDir>| match result {
        Ok(entries) => Ok(Some(entries)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    };
    for entry in missing_is_empty(std::fs::read_dir(pod_dir))?.into_iter().flatten() {
        let entry = entry?;
        // Volumes of drivers are theirs to take back first.
        let is_left = !known.contains(&*entry.file_name().to_string_lossy());
        if is_left && !crate::csi::has_volumes(&entry.path()) {
            crate::volume::remove_pod_folder(&entry.path())?;
        }
    }
    for entry in missing_is_empty(std::fs::read_dir(log_dir))?.into_iter().flatten() {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let uid = name.rsplit('_').next().unwrap_or_default();
        if !known.contains(uid) {
            std::fs::remove_dir_all(entry.path())?;
        }
    }
    Ok(())
}
