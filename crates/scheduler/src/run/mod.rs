//! The loop: one pod after another is decided about, and what was decided is written.

mod changes;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use k8s_openapi::api::core::v1::Node;
use knarr_client::{Clock, Informers, Recorder, call, errors, lean::Pod, meta};
use kube::api::DeleteParams;
use rand::{SeedableRng as _, rngs::SmallRng};
use tokio::{
    sync::{Notify, Semaphore},
    task::JoinSet,
    time::{Duration, Instant},
};
use tokio_util::sync::CancellationToken;
use tracing::Instrument;

use crate::{
    around::Caches,
    bind,
    cluster::Cluster,
    decide::{self, Decision, Nowhere},
    device,
    pod::PodInfo,
    queue::{Happening, Queue, Turn},
    volume::{self, bind::Volumes},
};

/// Also the name that pods ask for in `spec.schedulerName`.
pub const NAME: &str = "default-scheduler";
/// Bindings under way at once; deciding waits for one to end.
const MAX_BINDINGS: usize = 256;
/// Explanations that are written at once. They are the least of what the API server has to do: a thousand pods that
/// have no node must not keep others from being made and bound.
const EXPLAINING_AT_ONCE: usize = 8;
/// For so long no further pod has come before the ones without a node are told why. Pods that are made in large numbers
/// are all made before the API server has the work of that; and many find a node, when what they lack comes after them.
const SETTLING: Duration = Duration::from_millis(100);
/// Pods may come without end: after this long the explanation is written anyway.
const UNSETTLED: Duration = Duration::from_secs(1);
/// Explanations that wait to be written; deciding waits for one to end.
const MAX_EXPLANATIONS: usize = 1024;
/// How often pods that were set aside are looked at for having waited too long.
const TICK: Duration = Duration::from_secs(30);

pub struct Config {
    /// Writes bindings, conditions and events, as `system:kube-scheduler`.
    pub client: kube::Client,
    pub informers: Informers,
    pub clock: Clock,
    pub cancel: CancellationToken,
    /// Decides among nodes that are equally good.
    pub seed: u64,
}

struct Scheduler {
    client: kube::Client,
    recorder: Recorder,
    around: Caches,
    clock: Clock,
    state: Mutex<State>,
    wake: Notify,
    /// Writes what pods' volumes need; those that wait for theirs wait there.
    volumes: Volumes,
    explaining: Semaphore,
}

/// What is being written. Pods that wait for their volumes wait apart: the others must not wait for them.
#[derive(Default)]
struct Writes {
    bindings: JoinSet<()>,
    patient_bindings: JoinSet<()>,
    explanations: JoinSet<()>,
}

impl Writes {
    async fn make_room(&mut self) {
        for (set, most) in [
            (&mut self.bindings, MAX_BINDINGS),
            (&mut self.explanations, MAX_EXPLANATIONS),
            (&mut self.patient_bindings, usize::MAX),
        ] {
            while set.try_join_next().is_some() {}
            while set.len() >= most {
                set.join_next().await;
            }
        }
    }

    fn of(&mut self, outcome: &Outcome) -> &mut JoinSet<()> {
        match outcome {
            Outcome::Explain(_) => &mut self.explanations,
            Outcome::Bind { needs, .. } if needs.volumes.is_empty() => &mut self.bindings,
            Outcome::Bind { .. } => &mut self.patient_bindings,
        }
    }
}

struct State {
    cluster: Cluster,
    queue: Queue,
    /// Where the next pod begins to look.
    start: usize,
    random: SmallRng,
    /// When the last pod came that was not known before.
    last_arrival: Option<Instant>,
}

/// Runs until cancelled.
pub async fn run(config: Config) {
    let Config { client, informers, clock, cancel, seed } = config;
    // Whatever ends a run, its handlers end with it.
    let cancel = cancel.child_token();
    let _ends = cancel.clone().drop_guard();
    let random = SmallRng::seed_from_u64(seed);
    let scheduler = Arc::new(Scheduler {
        recorder: Recorder::new(client.clone(), NAME, "", clock, cancel.clone()),
        around: Caches::of(&informers),
        state: Mutex::new(State {
            cluster: Cluster::default(),
            queue: Queue::default(),
            start: 0,
            random,
            last_arrival: None,
        }),
        wake: Notify::new(),
        volumes: Volumes::new(client.clone()),
        explaining: Semaphore::new(EXPLAINING_AT_ONCE),
        client,
        clock,
    });
    let (nodes, pods) = (informers.of::<Node>(), informers.of::<Pod>());
    if !(nodes.synced().await && pods.synced().await && scheduler.around.synced().await) {
        return;
    }
    if !(scheduler.follow_storage(&informers, &cancel).await && scheduler.follow_devices(&informers, &cancel).await) {
        return;
    }
    let watcher = scheduler.clone();
    nodes.on_change_until(&cancel, move |change| watcher.node_changed(change));
    let watcher = scheduler.clone();
    pods.on_change_until(&cancel, move |change| watcher.pod_changed(change));
    // Dropped with the run, and what is under way with it: the next run must not be surprised by it.
    let mut writes = Writes::default();
    let mut tick = tokio::time::interval(TICK);
    loop {
        tokio::select! {
            () = scheduler.clone().work(&mut writes) => {}
            () = cancel.cancelled() => return,
        }
        let next_retry = scheduler.state().queue.next_retry();
        let retry = async {
            match next_retry {
                Some(at) => tokio::time::sleep_until(at).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = scheduler.wake.notified() => {}
            () = retry => {}
            _ = tick.tick() => scheduler.state().queue.wake_overdue(Instant::now()),
            () = cancel.cancelled() => return,
        }
    }
}

impl Scheduler {
    /// Decides about pods until none is left to try.
    async fn work(self: Arc<Self>, writes: &mut Writes) {
        loop {
            // Room before a pod: what is taken from the queue is decided and written without a wait between.
            writes.make_room().await;
            let Some((pod, outcome, turn)) = self.next() else { return };
            let this = self.clone();
            writes.of(&outcome).spawn(async move { this.write(pod, outcome, turn).await });
            tokio::task::yield_now().await;
        }
    }

    fn next(&self) -> Option<(Arc<PodInfo>, Outcome, Turn)> {
        let mut state = self.state();
        let State { cluster, queue, start, random, .. } = &mut *state;
        let pod = queue.take(Instant::now())?;
        let outcome = match decide::decide(&pod, cluster, start, random, &self.around) {
            Decision::Place(index) => {
                let node_name = cluster.nodes[index].name.clone();
                cluster.nominate(&pod, None);
                let volumes = volume::reserve(&pod, cluster, index);
                let devices = device::reserve(&pod, cluster, index);
                cluster.assume(&pod, index);
                Outcome::Bind { node_name, needs: Needs { volumes, devices } }
            }
            Decision::Nowhere(nowhere) => {
                match &nowhere.preemption {
                    // What is promised counts at once, before the API server has heard of it.
                    Some(preemption) => cluster.nominate(&pod, Some(&preemption.node_name)),
                    None if !nowhere.keeps_nomination => cluster.nominate(&pod, None),
                    None => {}
                }
                queue.set_aside(&pod.uid, nowhere.refused_by.clone(), Instant::now());
                Outcome::Explain(nowhere)
            }
        };
        let turn = queue.turn(&pod.uid);
        Some((pod, outcome, turn))
    }

    async fn write(&self, pod: Arc<PodInfo>, outcome: Outcome, mut turn: Turn) {
        match outcome {
            Outcome::Bind { node_name, needs } => {
                turn.begin().await;
                self.bind(&pod, &node_name, &needs).await;
            }
            Outcome::Explain(nowhere) => {
                let makes_room = nowhere.preemption.is_some();
                if !makes_room {
                    self.settled().await;
                }
                let left = turn.begin().await;
                let _permit = self.explaining.acquire().await;
                if turn.is_superseded() && !makes_room {
                    return turn.end(left);
                }
                self.recorder.warning(&*pod.object, "FailedScheduling", nowhere.message.clone());
                // The watch may not have shown yet what the writer before left.
                let shown = meta::version(&pod.object.metadata);
                let newest = left.filter(|left| meta::version(&left.metadata) > shown);
                let newest = newest.unwrap_or_else(|| pod.object.clone());
                turn.end(self.explain(&newest, &nowhere).await);
            }
        }
    }

    /// Pods have stopped coming, or go on for too long.
    async fn settled(&self) {
        let end = Instant::now() + UNSETTLED;
        loop {
            let quiet = self.state().last_arrival.map_or(end, |arrival| arrival + SETTLING).min(end);
            if quiet <= Instant::now() {
                return;
            }
            tokio::time::sleep_until(quiet).await;
        }
    }

    async fn bind(&self, pod: &Arc<PodInfo>, node_name: &str, needs: &Needs) {
        let name = format!("{}/{}", pod.namespace, pod.name);
        let progress = |written: &volume::bind::Written| {
            let state = self.state();
            // A pod that went away meanwhile needs nothing any more.
            let node = state.cluster.node_of(pod).filter(|_| state.cluster.is_assumed(&pod.uid));
            node.map(|node| written.progress(&state.cluster.volumes, &node.name, &node.labels))
        };
        if let Err(error) = self.volumes.bind(&needs.volumes, node_name, progress).await {
            let message = format!("running PreBind plugin \"VolumeBinding\": {error}");
            self.recorder.warning(&*pod.object, "FailedScheduling", message);
            self.state().cluster.devices.release_all(&needs.devices);
            return self.not_bound(pod, needs, false);
        }
        if let Err(error) = self.hand_out(pod, &needs.devices).await {
            let message = format!("running PreBind plugin \"DynamicResources\": {error}");
            self.recorder.warning(&*pod.object, "FailedScheduling", message);
            return self.not_bound(pod, needs, false);
        }
        // Of the target that the node's steps have.
        let step = tracing::debug_span!(target: "pod_start", "bind", pod = format!("{}_{}({})", pod.name, pod.namespace, pod.uid));
        match bind::bind(&self.client, pod, node_name).instrument(step).await {
            Ok(()) => {
                let message = format!("Successfully assigned {name} to {node_name}");
                self.recorder.normal(&*pod.object, "Scheduled", message);
                self.state().queue.remove(&pod.uid);
            }
            Err(error) => {
                self.not_bound(pod, needs, errors::is_not_found(&error));
                tracing::debug!(pod = name, node = node_name, error = &error as &dyn std::error::Error, "not bound");
            }
        }
    }

    /// Writes who gets which devices. What was not written is free again; of what may have been, the watch will tell.
    async fn hand_out(&self, pod: &PodInfo, plan: &device::Plan) -> Result<(), device::bind::BindError> {
        let mut failed = None;
        for step in &plan.steps {
            let written = match &failed {
                None => device::bind::write(&self.client, pod, step).await,
                Some(_) => {
                    self.state().cluster.devices.release(step);
                    continue;
                }
            };
            match written {
                Ok(claim) => self.state().cluster.devices.written(step, meta::version(&claim.metadata)),
                Err(error) => {
                    self.not_handed_out(step, error.doubt());
                    failed = Some(error);
                }
            }
        }
        failed.map_or(Ok(()), Err)
    }

    fn not_handed_out(&self, step: &device::Step, doubt: Option<u64>) {
        let devices = &mut self.state().cluster.devices;
        match doubt {
            Some(version) => devices.doubt(step, version),
            None => devices.release(step),
        }
    }

    /// Takes the decision back. A claim keeps the devices that were written down for it: nobody else gets them, and the
    /// pod finds them when it is tried again.
    fn not_bound(&self, pod: &PodInfo, needs: &Needs, is_gone: bool) {
        let mut state = self.state();
        let State { cluster, queue, .. } = &mut *state;
        cluster.forget(&pod.uid);
        cluster.volumes.release(&needs.volumes);
        if is_gone {
            // Its deletion is on its way here.
            queue.remove(&pod.uid);
        } else {
            queue.retry(&pod.uid, Instant::now());
        }
        queue.notice(Happening::PodGone, Instant::now());
        queue.notice(Happening::Storage, Instant::now());
        queue.notice(Happening::Devices, Instant::now());
        drop(state);
        self.wake.notify_one();
    }

    /// Answers with the pod as it is then, where that is known.
    async fn explain(&self, pod: &Arc<Pod>, nowhere: &Nowhere) -> Option<Arc<Pod>> {
        let nominated = nowhere.preemption.as_ref().map(|preemption| preemption.node_name.as_str());
        let promise = match nominated {
            None if nowhere.keeps_nomination => bind::Promise::Stands,
            None => bind::Promise::Void,
            Some(node) => bind::Promise::Of(node),
        };
        let written = bind::explain(&self.client, pod, &nowhere.message, promise, self.clock.now()).await;
        let left = errors::optional(written).unwrap_or_else(|error| {
            let name = meta::name(&pod.metadata);
            tracing::debug!(pod = name, error = &error as &dyn std::error::Error, "condition not written");
            None
        });
        if let Some(claim) = &nowhere.idle_claim
            && let Err(error) = device::bind::give_up(&self.client, claim).await
        {
            let name = meta::name(&claim.metadata);
            tracing::debug!(claim = name, error = &error as &dyn std::error::Error, "devices were not given back");
        }
        for victim in nowhere.preemption.iter().flat_map(|preemption| &preemption.victims) {
            let message =
                format!("Preempted by pod {} on node {}", meta::uid(&pod.metadata), nominated.unwrap_or_default());
            self.recorder.normal(&*victim.object, "Preempted", message);
            let marked = bind::mark_preempted(&self.client, &victim.object, self.clock.now()).await;
            if let Err(error) = errors::optional(marked) {
                tracing::debug!(pod = victim.name, error = &error as &dyn std::error::Error, "condition not written");
            }
            let evicted = call::delete(&self.client, &*victim.object, DeleteParams::default()).await;
            if let Err(error) = evicted {
                tracing::warn!(pod = victim.name, error = &error as &dyn std::error::Error, "could not be preempted");
            }
        }
        left
    }

    fn wake_for(&self, state: &State) {
        if state.queue.has_work() {
            self.wake.notify_one();
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a pod needs on its node beside room.
struct Needs {
    volumes: volume::Plan,
    devices: device::Plan,
}

enum Outcome {
    Bind { node_name: String, needs: Needs },
    Explain(Box<Nowhere>),
}
