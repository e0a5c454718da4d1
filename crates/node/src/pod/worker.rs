//! One pod's task: a small state machine that looks at what is wanted and at what there is, does one step, and
//! waits for the next reason to look. Nothing it waits for long is waited for here: pulls, hooks and stops are
//! tasks of their own that report back, so that a deletion is heard at once.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::{Arc, PoisonError},
    time::Duration,
};

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{Pod, PodStatus};
use knarr_cri::{CriError, v1::LinuxContainerResources};
use tokio::sync::mpsc;

use super::{
    backoff::Backoff,
    containers::Containers,
    context::{Context, full_name},
    hear::Report,
    observe::Observed,
    plan::Waiting,
    references::{Held, Names},
    resize::{Allocation, Resize},
    status::Verdict,
    track::Track,
    volumes::Told,
    wish::Handle,
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

pub struct Worker {
    pub(super) ctx: Arc<Context>,
    pub(super) handle: Handle,
    /// As the API has it, but with the amounts that it was promised.
    pub(super) pod: Arc<Pod>,
    /// As the API has it.
    pub(super) wished: Arc<Pod>,
    pub(super) allocated: Option<Allocation>,
    pub(super) resize: Resize,
    /// After a resize that could not be brought about.
    pub(super) resize_retry: Option<Timestamp>,
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
    pub(super) volumes_told: Told,
    pub(super) names: Names,
    pub(super) held: Option<Held>,
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
    /// What an evicted pod has to end in.
    pub(super) eviction_grace: Option<SignedDuration>,
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
        let volumes = Volumes::new(ctx.pod_dir.join(&uid), ctx.csi.clone(), handle.wake.clone());
        Self {
            containers: Containers::of(&pod),
            wished: pod.clone(),
            allocated: None,
            resize: Resize::default(),
            resize_retry: None,
            state: State::Admitting,
            observed: Observed::default(),
            tracks: BTreeMap::new(),
            waiting: BTreeMap::new(),
            verdict: None,
            over: false,
            volumes_due: None,
            volumes_told: Told::default(),
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
            eviction_grace: None,
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
        let (pod, gone, eviction) = {
            let mut wish = self.handle.wish.lock().unwrap_or_else(PoisonError::into_inner);
            (wish.pod.clone(), wish.gone, wish.eviction.take())
        };
        self.gone = gone;
        if !Arc::ptr_eq(&pod, &self.wished) {
            self.wished = pod;
            self.adopt_allocation();
        }
        if let Some(eviction) = eviction {
            self.evict(eviction);
        }
    }

    /// Takes the pod as it is wished for, with the amounts that it was promised.
    pub(super) fn adopt_allocation(&mut self) {
        self.pod = self.allocated.as_ref().map_or(self.wished.clone(), |allocated| allocated.apply(&self.wished));
        self.containers = Containers::of(&self.pod);
    }
}
