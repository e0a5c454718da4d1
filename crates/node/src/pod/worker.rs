//! One pod's task: a small state machine that looks at what is wanted and at what there is, does one step, and
//! waits for the next reason to look. Nothing it waits for long is waited for here: pulls, hooks and stops are
//! tasks of their own that report back, so that a deletion is heard at once.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{Pod, PodSpec, PodStatus};
use knarr_cri::{CriError, v1::LinuxContainerResources};
use tokio::sync::{Notify, mpsc};

use super::{
    backoff::Backoff,
    containers::{Containers, Entry},
    context::{Context, full_name},
    downward::Facts,
    image::Pulled,
    labels,
    observe::{self, Observed},
    plan::Waiting,
    references::{self, Held, Names, Snapshot},
    status::{self, Verdict},
    track::{ImageState, PostStart, Track},
    writer::Writer,
};
use crate::{
    probe::{self, Probes},
    volume::Volumes,
};

/// Looks again after this long even if nothing seems to happen.
const RESYNC: SignedDuration = SignedDuration::from_secs(60);
/// The wait after a runtime that does not answer.
const RUNTIME_RETRY: SignedDuration = SignedDuration::from_secs(1);

/// What the API (or the manifest folder) wants of a pod; shared with the manager.
pub struct Wish {
    pub pod: Arc<Pod>,
    /// The object is no longer there, so nobody waits for a graceful end to be reported.
    pub gone: bool,
}

/// The manager's end of a worker.
#[derive(Clone)]
pub struct Handle {
    pub wish: Arc<Mutex<Wish>>,
    pub wake: Arc<Notify>,
}

impl Handle {
    pub fn new(pod: Arc<Pod>, gone: bool) -> Self {
        Self { wish: Arc::new(Mutex::new(Wish { pod, gone })), wake: Arc::new(Notify::new()) }
    }

    pub fn set(&self, change: impl FnOnce(&mut Wish)) {
        change(&mut self.wish.lock().unwrap_or_else(PoisonError::into_inner));
        self.wake.notify_one();
    }
}

#[derive(Clone, Debug, PartialEq)]
pub enum State {
    /// New to this agent. Left for `Running`, for `Stopping` where it has ended or is being deleted already, or
    /// for `Ended` where the node refuses it.
    Admitting,
    /// Its containers are brought to what the spec wants. Left for `Stopping` when it is deleted, when its
    /// deadline has passed, or when all its containers have ended for good.
    Running,
    /// Its containers are being stopped. Left for `Releasing` when none runs.
    Stopping,
    /// Its sandbox and volumes are being taken down. Left for `Ended`.
    Releasing,
    /// Nothing of it runs; its last status is written. Left for `Removing` when it is deleted.
    Ended,
    /// The API forgets it, then the runtime. Left for `Gone`.
    Removing,
    /// The worker has nothing left to do.
    Gone,
}

/// What follows a step.
pub(super) enum Next {
    /// Another look right away.
    Again,
    /// Another look when something happens, or at this time.
    Wait(Timestamp),
}

/// What a task of the worker's says when it is through.
pub(super) enum Report {
    Pulled {
        name: String,
        result: Pulled,
    },
    PostStart {
        name: String,
        id: String,
        result: Result<(), String>,
    },
    Stopped {
        name: String,
        id: String,
    },
    /// The pod takes more of the disk than it may.
    Evicted {
        message: String,
    },
}

pub struct Worker {
    pub(super) ctx: Arc<Context>,
    handle: Handle,
    pub(super) pod: Arc<Pod>,
    pub(super) gone: bool,
    pub(super) uid: String,
    pub(super) containers: Containers,
    pub(super) state: State,
    pub(super) observed: Observed,
    pub(super) tracks: BTreeMap<String, Track>,
    pub(super) waiting: BTreeMap<String, Waiting>,
    pub(super) verdict: Option<Verdict>,
    pub(super) over: bool,
    pub(super) first_seen: Timestamp,
    pub(super) volumes: Volumes,
    pub(super) volumes_due: Option<Timestamp>,
    names: Names,
    held: Option<Held>,
    pub(super) probes: Probes,
    pub(super) writer: Option<Writer>,
    pub(super) last_status: Option<PodStatus>,
    /// Of the ConfigMaps and Secrets at the last look.
    pub(super) references_seen: u64,
    pub(super) reports: mpsc::Sender<Report>,
    reports_in: mpsc::Receiver<Report>,
    pub(super) verdicts: mpsc::Sender<probe::Report>,
    verdicts_in: mpsc::Receiver<probe::Report>,
    /// Termination messages, read once for each run.
    pub(super) messages: HashMap<String, String>,
    pub(super) sandbox_backoff: Backoff,
    pub(super) sandbox_failed: Option<Timestamp>,
    /// What which sandbox was told to allow last.
    pub(super) sandbox_given: Option<(String, LinuxContainerResources)>,
    /// When the disk is looked at next, where the pod has limits of it.
    pub(super) storage_due: Option<Timestamp>,
    /// When the pod's containers have to be gone.
    pub(super) stop_by: Option<Timestamp>,
    /// Before this moment no process is asked to end: new connections may still be on their way to it.
    pub(super) drained_at: Option<Timestamp>,
    pub(super) stopping: HashMap<String, tokio::task::AbortHandle>,
    pub(super) announced: HashSet<String>,
}

impl Worker {
    pub fn new(ctx: Arc<Context>, handle: Handle) -> Self {
        let (pod, gone) = {
            let wish = handle.wish.lock().unwrap_or_else(PoisonError::into_inner);
            (wish.pod.clone(), wish.gone)
        };
        let uid = pod.metadata.uid.clone().unwrap_or_default();
        let (reports, reports_in) = mpsc::channel(64);
        let (verdicts, verdicts_in) = mpsc::channel(64);
        let first_seen = ctx.now();
        let volumes = Volumes::new(ctx.pod_dir.join(&uid));
        Self {
            containers: Containers::of(&pod),
            state: State::Admitting,
            observed: Observed::default(),
            tracks: BTreeMap::new(),
            waiting: BTreeMap::new(),
            verdict: None,
            over: false,
            volumes_due: None,
            names: Names::new(),
            held: None,
            probes: Probes::default(),
            writer: None,
            last_status: None,
            references_seen: 0,
            messages: HashMap::new(),
            sandbox_backoff: Backoff::default(),
            sandbox_failed: None,
            sandbox_given: None,
            storage_due: None,
            stop_by: None,
            drained_at: None,
            stopping: HashMap::new(),
            announced: HashSet::new(),
            ctx,
            handle,
            pod,
            gone,
            uid,
            first_seen,
            volumes,
            reports,
            reports_in,
            verdicts,
            verdicts_in,
        }
    }

    pub async fn run(mut self) {
        while self.state != State::Gone {
            self.take_wish();
            let before = self.state.clone();
            let next = match self.step().await {
                Ok(next) => next,
                Err(error) => {
                    tracing::warn!(pod = full_name(&self.pod), state = ?self.state, %error, "the runtime failed a pod; will retry");
                    Next::Wait(self.ctx.now() + RUNTIME_RETRY)
                }
            };
            if before != self.state {
                tracing::debug!(pod = full_name(&self.pod), from = ?before, to = ?self.state, "pod state");
                continue;
            }
            if let Next::Wait(until) = next {
                self.wait(until).await;
            }
        }
    }

    async fn step(&mut self) -> Result<Next, CriError> {
        match self.state {
            State::Admitting => self.admitting().await,
            State::Running => self.running().await,
            State::Stopping => self.stopping().await,
            State::Releasing => self.releasing().await,
            State::Ended => self.ended().await,
            State::Removing => self.removing().await,
            State::Gone => Ok(Next::Again),
        }
    }

    /// Sleeps until there is a reason to look; takes in what tasks have to say.
    async fn wait(&mut self, until: Timestamp) {
        let pause = until.duration_since(self.ctx.now()).clamp(SignedDuration::ZERO, RESYNC);
        let pause = Duration::try_from(pause).unwrap_or_default();
        tokio::select! {
            () = self.handle.wake.notified() => {}
            () = tokio::time::sleep(pause) => {}
            Some(report) = self.reports_in.recv() => self.hear(report),
            Some(verdict) = self.verdicts_in.recv() => self.hear_probe(verdict),
        }
        while let Ok(report) = self.reports_in.try_recv() {
            self.hear(report);
        }
        while let Ok(verdict) = self.verdicts_in.try_recv() {
            self.hear_probe(verdict);
        }
    }

    fn take_wish(&mut self) {
        let (pod, gone) = {
            let wish = self.handle.wish.lock().unwrap_or_else(PoisonError::into_inner);
            (wish.pod.clone(), wish.gone)
        };
        self.gone = gone;
        if !Arc::ptr_eq(&pod, &self.pod) {
            self.containers = Containers::of(&pod);
            self.pod = pod;
        }
    }

    fn hear(&mut self, report: Report) {
        let now = self.ctx.now();
        match report {
            Report::Pulled { name, result } => self.pulled(&name, result, now),
            Report::PostStart { name, id, result } => {
                if !self.tracks.get(&name).is_some_and(|track| track.post_start_running(&id)) {
                    return;
                }
                let after = match result {
                    Ok(()) => PostStart::None,
                    Err(message) => {
                        self.event(&name, true, "FailedPostStartHook", "PostStartHook failed".to_owned());
                        PostStart::Failed { id, message }
                    }
                };
                self.track(&name).post_start = after;
            }
            Report::Evicted { message } => self.evict(message),
            Report::Stopped { name, id } => {
                self.stopping.remove(&id);
                let track = self.tracks.entry(name).or_default();
                if track.killing.as_deref() == Some(&id) {
                    track.killing = None;
                }
            }
        }
    }

    fn hear_probe(&mut self, report: probe::Report) {
        let good = report.verdict == probe::Verdict::Good;
        let health = self.tracks.entry(report.container).or_default().health_mut(&report.container_id);
        match report.kind {
            probe::Kind::Startup => health.startup = Some(good),
            probe::Kind::Liveness => health.liveness = Some(good),
            probe::Kind::Readiness => health.readiness = Some(good),
        }
    }

    /// Takes the pod in, unless its time is over already or the node has no room for it.
    async fn admitting(&mut self) -> Result<Next, CriError> {
        self.look().await?;
        self.adopt_health();
        let phase = self.pod.status.as_ref().and_then(|status| status.phase.as_deref());
        if matches!(phase, Some("Succeeded" | "Failed")) {
            self.over = true;
            self.state = State::Stopping;
            return Ok(Next::Again);
        }
        if self.deleted() && self.observed.running().next().is_none() {
            self.state = State::Stopping;
            return Ok(Next::Again);
        }
        let runs_already = !self.observed.is_empty();
        let node = self.ctx.node.get("", &self.ctx.node_name);
        let none = BTreeMap::new();
        let labels = node.as_ref().and_then(|node| node.metadata.labels.as_ref()).unwrap_or(&none);
        let offer = super::admit::Offer {
            cpu_milli: self.ctx.allocatable.cpu_milli,
            memory_bytes: self.ctx.allocatable.memory_bytes,
            ephemeral_bytes: self.ctx.allocatable.ephemeral_bytes,
            pods: self.ctx.max_pods,
            node_name: &self.ctx.node_name,
            labels,
            unsafe_sysctls: &self.ctx.unsafe_sysctls,
        };
        let answer = self.ctx.admitted().admit(&self.pod, &offer, runs_already);
        match answer {
            Ok(()) => self.state = State::Running,
            Err(verdict) => {
                let message = verdict.message.trim_start_matches("Pod was rejected: ").to_owned();
                self.ctx.warning(&self.pod, &verdict.reason, message);
                self.verdict = Some(verdict);
                self.over = true;
                self.state = State::Ended;
                self.publish();
            }
        }
        Ok(Next::Again)
    }

    /// A restarted agent believes what the API says of a run's probes until they answer anew: a ready pod must
    /// not drop out of its services because its node was upgraded.
    fn adopt_health(&mut self) {
        let Some(status) = &self.pod.status else { return };
        let lists = [&status.container_statuses, &status.init_container_statuses];
        for known in lists.into_iter().flatten().flatten() {
            let Some(run) = self.observed.newest(&known.name).filter(|run| run.running()) else { continue };
            let same = known.container_id.as_deref().is_some_and(|id| id.ends_with(&run.id));
            if same {
                let health = self.tracks.entry(known.name.clone()).or_default().health_mut(&run.id);
                health.startup = known.started.filter(|started| *started);
                health.readiness = Some(known.ready);
            }
        }
    }

    /// Asks the runtime what there is of this pod.
    pub(super) async fn look(&mut self) -> Result<(), CriError> {
        self.observed = observe::observe(&*self.ctx.runtime, &self.uid).await?;
        self.read_messages().await;
        let sandboxes = self.observed.sandbox.iter().map(|sandbox| &sandbox.id).chain(&self.observed.stale_sandboxes);
        let ids = sandboxes.chain(self.observed.instances().map(|run| &run.id));
        let mut owners = self.ctx.owners();
        for id in ids {
            if !owners.contains_key(id) {
                owners.insert(id.clone(), self.uid.clone());
            }
        }
        drop(owners);
        Ok(())
    }

    pub(super) fn deleted(&self) -> bool {
        self.gone || self.pod.metadata.deletion_timestamp.is_some()
    }

    /// Static pods are told of by their mirror, and the API never deletes them.
    pub(super) fn is_static(&self) -> bool {
        let annotations = self.pod.metadata.annotations.as_ref();
        annotations.is_some_and(|map| map.get(labels::CONFIG_SOURCE).is_some_and(|source| source == "file"))
    }

    pub(super) fn spec(&self) -> Option<&PodSpec> {
        self.pod.spec.as_ref()
    }

    pub(super) fn entry(&self, name: &str) -> Option<&Entry> {
        self.containers.get(name)
    }

    pub(super) fn pod_ips(&self) -> Vec<String> {
        let host_network = self.spec().and_then(|spec| spec.host_network).unwrap_or(false);
        if host_network {
            return self.ctx.node_ips.clone();
        }
        self.observed.sandbox.as_ref().map(|sandbox| sandbox.ips.clone()).unwrap_or_default()
    }

    /// ConfigMaps and Secrets as they are now.
    pub(super) async fn snapshot(&mut self) -> Snapshot {
        let names = references::names(&self.pod);
        if self.held.is_none() || names != self.names {
            let namespace = self.pod.metadata.namespace.clone().unwrap_or_default();
            self.held = Some(self.ctx.references.hold(&namespace, &names, &self.handle.wake));
            self.names = names;
        }
        match &self.held {
            Some(held) => held.snapshot().await,
            None => Snapshot::default(),
        }
    }

    pub(super) fn facts<'a>(&'a self, pod_ips: &'a [String]) -> Facts<'a> {
        Facts {
            pod: &self.pod,
            containers: &self.containers,
            pod_ips,
            host_ips: &self.ctx.node_ips,
            allocatable: self.ctx.allocatable,
        }
    }

    /// Hands the present status to the writer.
    pub(super) fn publish(&mut self) {
        if self.gone {
            return;
        }
        let input = status::Input {
            pod: &self.pod,
            previous: self.last_status.as_ref(),
            containers: &self.containers,
            observed: &self.observed,
            tracks: &self.tracks,
            waiting: &self.waiting,
            verdict: self.verdict.as_ref(),
            over: self.over,
            runtime_name: &self.ctx.runtime_name,
            host_ips: &self.ctx.node_ips,
            generation: self.pod.metadata.generation,
            start_time: self.first_seen,
            now: self.ctx.now(),
        };
        let status = status::build(&input);
        self.last_status = Some(status.clone());
        // A static pod is written to its mirror, once there is one; a new mirror gets a writer of its own.
        let target = if self.is_static() { self.ctx.mirror(&self.uid) } else { Some(self.pod.clone()) };
        let uid = target.as_ref().and_then(|target| target.metadata.uid.as_deref());
        if self.writer.as_ref().is_none_or(|writer| uid.is_some_and(|uid| writer.uid() != uid)) {
            self.writer = target.map(|target| Writer::new(self.ctx.clone(), &target));
        }
        if let Some(writer) = &self.writer {
            writer.submit(status);
        }
    }

    /// An event about one of the pod's containers.
    pub(super) fn event(&self, name: &str, warning: bool, reason: &str, message: String) {
        use knarr_client::events::EventType;
        let kind = if warning { EventType::Warning } else { EventType::Normal };
        match self.entry(name) {
            Some(entry) => {
                self.ctx.container_event(&self.pod, &super::context::field_path(entry), kind, reason, message);
            }
            None if warning => self.ctx.warning(&self.pod, reason, message),
            None => self.ctx.normal(&self.pod, reason, message),
        }
    }

    /// Events for containers that have begun to wait, once for each time they do.
    pub(super) fn announce_waits(&mut self) {
        let mut present = HashSet::new();
        let mut news = Vec::new();
        for (name, waiting) in &self.waiting {
            if !matches!(waiting.reason, "CrashLoopBackOff" | "ImagePullBackOff") {
                continue;
            }
            let restarts = self.observed.newest(name).map_or(0, |run| run.restart_count);
            let key = format!("{name}/{}/{restarts}/{}", waiting.reason, waiting.message);
            if !self.announced.contains(&key) {
                news.push((name.clone(), waiting.clone()));
            }
            present.insert(key);
        }
        self.announced = present;
        for (name, waiting) in news {
            if waiting.reason == "CrashLoopBackOff" {
                let pod = full_name(&self.pod);
                self.event(&name, true, "BackOff", format!("Back-off restarting failed container {name} in pod {pod}"));
            } else {
                self.event(&name, false, "BackOff", waiting.message.clone());
                self.event(&name, true, "Failed", "Error: ImagePullBackOff".to_owned());
            }
        }
    }

    /// Images are looked for anew before each start, and failures are forgotten when what they refer to changes.
    pub(super) fn forget_failures(&mut self) {
        for track in self.tracks.values_mut() {
            if track.failure.as_ref().is_some_and(|failure| failure.reason == "CreateContainerConfigError") {
                track.failure = None;
                track.image = ImageState::Unknown;
            }
        }
    }
}
