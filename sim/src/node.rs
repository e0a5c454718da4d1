//! A node without containers: it says of its pods what a real one would, some time later, and is silent while its way
//! to the server is cut.

use std::{
    collections::{HashMap, HashSet},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Node, Pod};
use knarr_client::{
    Clock, Informer, Informers, ObjectKey, Outcome, WorkQueue, call, errors, informer::Scope, meta, worker,
};
use kube::api::DeleteParams;
use serde_json::{Value, json};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::chance::Dice;

/// The most that starting, running to the end, and stopping take.
const START: Duration = Duration::from_secs(4);
const RUN: Duration = Duration::from_secs(12);
const STOP: Duration = Duration::from_secs(3);
const HEARTBEAT: Duration = Duration::from_secs(10);
/// How many of the pods that are to end fail.
const FAILS_ONE_IN: usize = 6;

pub const CPU_MILLI: i64 = 4_000;

struct Hollow {
    name: String,
    index: u32,
    client: kube::Client,
    pods: Informer<Pod>,
    clock: Clock,
    dice: Dice,
    addresses: AtomicU32,
    /// By the uid of the pod.
    running: Mutex<HashMap<String, Container>>,
}

#[derive(Clone, Default)]
struct Container {
    cpu_milli: i64,
    address: String,
    /// Where it ends by itself.
    ends_at: Option<Instant>,
    /// The phase that it left its pod in.
    ended: Option<&'static str>,
}

/// Registers the node, says that it lives, and runs what is bound to it, until cancelled.
pub async fn run(index: u32, client: kube::Client, clock: Clock, dice: Dice, cancel: CancellationToken) {
    let name = format!("n{index}");
    let informers = Informers::seeded(client.clone(), cancel.clone(), dice.seed());
    let pods = informers.with_params::<Pod>(Scope::fields(format!("spec.nodeName={name}")));
    let queue = WorkQueue::new(cancel.clone());
    pods.feed_keys(&queue);
    let (addresses, running) = (AtomicU32::new(0), Mutex::default());
    let hollow = Arc::new(Hollow { name, index, client, pods, clock, dice, addresses, running });
    let living = hollow.clone();
    let life = async move {
        loop {
            // What fails is tried again by the next beat, as a real node does it.
            living.forget();
            let pause = if living.beat().await.is_ok() { HEARTBEAT } else { HEARTBEAT / 10 };
            tokio::time::sleep(pause).await;
        }
    };
    let work = worker::run("hollow node", queue, 8, move |key| {
        let hollow = hollow.clone();
        async move { hollow.reconcile(key).await }
    });
    tokio::select! {
        () = life => {}
        () = work => {}
    }
}

impl Hollow {
    async fn beat(&self) -> Result<(), kube::Error> {
        let now = self.clock.now();
        if call::get::<Node>(&self.client, "", &self.name).await?.is_none() {
            let node = json!({"apiVersion": "v1", "kind": "Node",
                "metadata": {"name": self.name, "labels": {"kubernetes.io/hostname": self.name}}});
            call::create::<Node>(&self.client, &typed(node)).await?;
        }
        let node = json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": self.name}});
        let room = json!({"cpu": format!("{CPU_MILLI}m"), "memory": "8Gi", "pods": "110"});
        let status = json!({"status": {"allocatable": room, "capacity": room,
            "conditions": [{"type": "Ready", "status": "True", "reason": "KubeletReady", "lastHeartbeatTime": seconds(now)}]}});
        call::merge_subresource::<Node>(&self.client, &typed(node), "status", status).await.map(drop)
    }

    async fn reconcile(&self, key: ObjectKey) -> Result<Outcome, kube::Error> {
        let Some(pod) = self.pods.get(&key.namespace, &key.name) else { return Ok(Outcome::Done) };
        let uid = meta::uid(&pod.metadata).to_owned();
        if pod.metadata.deletion_timestamp.is_some() {
            return self.stop(&pod, &uid).await;
        }
        // What the cache shows may be older than what was said here; what is known here counts.
        let known = self.running().get(&uid).cloned();
        match known {
            None if phase(&pod).is_some_and(|phase| phase != "Pending") => Ok(Outcome::Done),
            None => self.start(&pod, &uid).await,
            Some(Container { ended: Some(phase), .. }) => self.say(&pod, phase, None).await.map(|()| Outcome::Done),
            Some(Container { ends_at: Some(ends_at), .. }) if ends_at <= Instant::now() => {
                let phase = if self.dice.one_in(FAILS_ONE_IN) { "Failed" } else { "Succeeded" };
                self.end(&uid, phase);
                self.say(&pod, phase, None).await.map(|()| Outcome::Done)
            }
            Some(Container { ends_at, address, .. }) => {
                self.say(&pod, "Running", Some(&address)).await?;
                Ok(ends_at.map_or(Outcome::Done, |at| Outcome::After(at.saturating_duration_since(Instant::now()))))
            }
        }
    }

    fn running(&self) -> MutexGuard<'_, HashMap<String, Container>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn end(&self, uid: &str, phase: &'static str) {
        let mut running = self.running();
        running.entry(uid.to_owned()).or_default().ended.get_or_insert(phase);
    }

    async fn start(&self, pod: &Pod, uid: &str) -> Result<Outcome, kube::Error> {
        tokio::time::sleep(self.dice.time(START)).await;
        let number = self.addresses.fetch_add(1, Ordering::Relaxed);
        let mut container = Container {
            cpu_milli: cpu_milli(pod),
            address: format!("10.{}.{}.{}", self.index + 1, number / 250, number % 250 + 1),
            ends_at: ends(pod).then(|| Instant::now() + self.dice.time(RUN)),
            ended: None,
        };
        let taken: i64 = self.running().values().filter(|one| one.ended.is_none()).map(|one| one.cpu_milli).sum();
        if taken + container.cpu_milli > CPU_MILLI {
            // A scheduler that was killed had placed more here than its successor knew of.
            container.ended = Some("Failed");
        }
        self.running().insert(uid.to_owned(), container);
        Ok(Outcome::After(Duration::from_millis(1)))
    }

    async fn stop(&self, pod: &Pod, uid: &str) -> Result<Outcome, kube::Error> {
        tokio::time::sleep(self.dice.time(STOP)).await;
        self.end(uid, "Failed");
        let ended = self.running().get(uid).and_then(|container| container.ended).unwrap_or("Failed");
        if !matches!(phase(pod), Some("Succeeded" | "Failed")) {
            self.say(pod, ended, None).await?;
        }
        let now = DeleteParams { grace_period_seconds: Some(0), ..DeleteParams::default() };
        call::delete(&self.client, pod, now).await?;
        Ok(Outcome::Done)
    }

    /// Forgets containers whose pods are gone.
    fn forget(&self) {
        let pods = self.pods.list();
        let uids: HashSet<&str> = pods.iter().map(|pod| meta::uid(&pod.metadata)).collect();
        self.running().retain(|uid, _| uids.contains(uid.as_str()));
    }

    /// Writes the pod's status where it says something else.
    async fn say(&self, pod: &Pod, phase: &str, address: Option<&str>) -> Result<(), kube::Error> {
        let ready = if phase == "Running" { "True" } else { "False" };
        if self::phase(pod) == Some(phase) && is_ready(pod) == (ready == "True") {
            return Ok(());
        }
        let mut status = json!({"phase": phase, "conditions": [
            {"type": "PodScheduled", "status": "True"},
            {"type": "Ready", "status": ready, "lastTransitionTime": seconds(self.clock.now())},
        ]});
        if let Some(address) = address {
            status["podIP"] = address.into();
            status["podIPs"] = json!([{"ip": address}]);
        }
        let patch = json!({"metadata": {"uid": pod.metadata.uid}, "status": status});
        let said = call::merge_subresource(&self.client, pod, "status", patch).await;
        match said {
            // Another pod has the name now; its own turn comes.
            Err(error) if errors::is_conflict(&error) || errors::is_invalid(&error) => Ok(()),
            said => errors::optional(said).map(drop),
        }
    }
}

fn cpu_milli(pod: &Pod) -> i64 {
    let containers = pod.spec.iter().flat_map(|spec| &spec.containers);
    let requests = containers.filter_map(|container| container.resources.as_ref()?.requests.as_ref()?.get("cpu"));
    requests.filter_map(|cpu| cpu.0.strip_suffix('m')?.parse::<i64>().ok()).sum()
}

/// Pods of Jobs end by themselves.
fn ends(pod: &Pod) -> bool {
    meta::controller_of(&pod.metadata).is_some_and(|owner| owner.kind == "Job")
}

fn phase(pod: &Pod) -> Option<&str> {
    pod.status.as_ref()?.phase.as_deref()
}

fn is_ready(pod: &Pod) -> bool {
    let conditions = pod.status.iter().flat_map(|status| status.conditions.iter().flatten());
    conditions.into_iter().any(|condition| condition.type_ == "Ready" && condition.status == "True")
}

fn seconds(time: Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

fn typed<K: serde::de::DeserializeOwned>(object: Value) -> K {
    serde_json::from_value(object).expect("an object that this file spells out")
}
