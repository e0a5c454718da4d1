//! A node that runs out of things: the real evictor and workers on a scripted runtime, a machine of the test's making,
//! and paused time.

use std::{
    io,
    path::Path,
    sync::{Arc, Mutex},
    time::Duration,
};

use k8s_openapi::api::core::v1::Pod;
use knarr_client::informer::Scope;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::{Evictor, Meter, Observation, Observations, Pressure, Pressures, Signal};
use crate::{
    gc::Collector,
    pod::{context::Context, manager::Manager},
    testing::{FakeApi, FakeRuntime, context, eventually},
};

const MI: i64 = 1 << 20;

type Reading = Box<dyn Fn() -> Observations + Send>;

struct Scripted(Mutex<Reading>);

impl Meter for Scripted {
    fn observe(&self, _: &Path, _: Option<&Path>) -> io::Result<Observations> {
        Ok((self.0.lock().unwrap())())
    }
}

struct Node {
    api: FakeApi,
    runtime: Arc<FakeRuntime>,
    ctx: Arc<Context>,
    meter: Arc<Scripted>,
    _stop: tokio_util::sync::DropGuard,
    _dir: tempfile::TempDir,
}

fn left(signal: Signal, available: i64) -> Observations {
    Observations::from([(signal, Observation { available, capacity: 8192 * MI })])
}

impl Node {
    fn new(images: &[&str]) -> Self {
        let (api, runtime) = (FakeApi::new(), Arc::new(FakeRuntime::new(images)));
        let (dir, stop) = (tempfile::tempdir().unwrap(), CancellationToken::new());
        let (ctx, informers) = context(&api, &runtime, dir.path(), &stop);
        let manager = Manager::new(ctx.clone());
        let meter = Arc::new(Scripted(Mutex::new(Box::new(Observations::new))));
        let collector = Arc::new(Collector::new(ctx.clone(), manager.clone()));
        let evictor = Evictor { ctx: ctx.clone(), manager: manager.clone(), collector, meter: meter.clone() };
        let (pods, done) = (informers.with_params::<Pod>(Scope::fields("spec.nodeName=n1")), stop.clone());
        let events = knarr_cri::RuntimeService::container_events(&*runtime);
        tokio::spawn(async move {
            tokio::select! {
                _ = async { tokio::join!(manager.follow(pods), manager.listen(events), evictor.run()) } => {}
                () = done.cancelled() => {}
            }
        });
        Self { api, runtime, ctx, meter, _stop: stop.drop_guard(), _dir: dir }
    }

    fn read(&self, reading: impl Fn() -> Observations + Send + 'static) {
        *self.meter.0.lock().unwrap() = Box::new(reading);
    }

    fn create(&self, name: &str, spec: Value) {
        let mut spec = spec;
        spec["nodeName"] = json!("n1");
        if spec["containers"].is_null() {
            spec["containers"] = json!([{"name": name, "image": "app:1"}]);
        }
        let meta = json!({"name": name, "namespace": "d", "uid": name, "generation": 1});
        let pod =
            json!({"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": spec, "status": {"phase": "Pending"}});
        self.api.put(&format!("/api/v1/namespaces/d/pods/{name}"), pod);
    }

    fn status(&self, name: &str) -> Value {
        self.api.get(&format!("/api/v1/namespaces/d/pods/{name}")).map(|pod| pod["status"].clone()).unwrap_or_default()
    }

    async fn until(&self, name: &str, phase: &str) -> Value {
        let seen = || Some(self.status(name)).filter(|status| status["phase"] == phase);
        eventually(&format!("{name} is {phase}"), seen).await
    }

    async fn pressed(&self, expected: &[Pressure]) {
        let expected: Pressures = expected.iter().copied().collect();
        eventually("the node's conditions", || (*self.ctx.pressures.borrow() == expected).then_some(())).await;
    }
}

fn asking(name: &str, memory: &str) -> Value {
    json!({"containers": [{"name": name, "image": "app:1", "resources": {"requests": {"memory": memory}}}]})
}

#[tokio::test(start_paused = true)]
async fn the_pod_that_takes_too_much_memory_is_ended_and_no_other() {
    let node = Node::new(&["app:1"]);
    node.runtime.hold_memory_in("modest", 90 << 20);
    node.runtime.hold_memory_in("greedy", 900 << 20);
    node.create("modest", asking("modest", "100Mi"));
    node.create("greedy", asking("greedy", "64Mi"));
    node.until("modest", "Running").await;
    node.until("greedy", "Running").await;
    let runtime = node.runtime.clone();
    // The memory comes back with the end of who had it.
    node.read(move || {
        let held = if runtime.running().contains_key("greedy") { 99 } else { 1000 };
        left(Signal::MemoryAvailable, held * MI)
    });
    let status = node.until("greedy", "Failed").await;
    let message = "The node was low on resource: memory. Threshold quantity: 100Mi, available: 99Mi. Container greedy was \
                   using 900Mi, request is 64Mi, has larger consumption of memory. ";
    assert_eq!((status["reason"].as_str(), status["message"].as_str()), (Some("Evicted"), Some(message)));
    let conditions = status["conditions"].as_array().unwrap();
    let disturbed = conditions.iter().find(|one| one["type"] == "DisruptionTarget").unwrap();
    assert_eq!((&disturbed["status"], &disturbed["reason"]), (&json!("True"), &json!("TerminationByKubelet")));
    assert_eq!(disturbed["message"], message);
    assert_eq!(node.api.told("EvictionThresholdMet").as_deref(), Some("Attempting to reclaim memory"));
    let event = node.api.event("Evicted").unwrap();
    assert_eq!(event["message"], message);
    assert_eq!(event["metadata"]["annotations"]["offending_containers"], "greedy");
    let about = node.api.event("EvictionThresholdMet").unwrap()["involvedObject"].clone();
    assert_eq!(about, json!({"kind": "Node", "name": "n1", "uid": "n1"}));
    assert_eq!(node.runtime.stopped(), [("greedy".to_owned(), 1)]);
    // For five minutes the node takes in only who says how much it needs.
    node.pressed(&[Pressure::Memory]).await;
    node.create("late", json!({}));
    let refused = node.until("late", "Failed").await;
    assert_eq!(refused["reason"], "Evicted");
    assert_eq!(refused["message"], "Pod was rejected: The node had condition: [MemoryPressure]. ");
    let none =
        refused["conditions"].as_array().is_none_or(|all| all.iter().all(|one| one["type"] != "DisruptionTarget"));
    assert!(none, "who was never there was not disturbed: {refused}");
    node.pressed(&[]).await;
    node.create("later", json!({}));
    node.until("later", "Running").await;
    assert_eq!(node.status("modest")["phase"], "Running");
}

#[tokio::test(start_paused = true)]
async fn what_nobody_needs_goes_before_any_pod_does() {
    let node = Node::new(&["app:1", "old:1"]);
    node.create("done", json!({"restartPolicy": "Never"}));
    node.create("app", json!({}));
    node.until("done", "Running").await;
    node.until("app", "Running").await;
    node.runtime.exit("done", 0);
    node.until("done", "Succeeded").await;
    let runtime = node.runtime.clone();
    node.read(move || {
        let full = runtime.has_image("old:1") || runtime.count() != (1, 1);
        left(Signal::NodefsAvailable, if full { MI } else { 1000 * MI })
    });
    eventually("the unused image is gone", || (!node.runtime.has_image("old:1")).then_some(())).await;
    eventually("nothing is left of the pod that is done", || (node.runtime.count() == (1, 1)).then_some(())).await;
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!((node.status("app")["phase"].as_str(), node.api.told("Evicted")), (Some("Running"), None));
    assert!(node.runtime.has_image("app:1"));
    assert_eq!(node.status("done")["containerStatuses"][0]["state"]["terminated"]["exitCode"], 0);
    // Then there is nothing else to give.
    node.read(|| left(Signal::NodefsAvailable, MI));
    let status = node.until("app", "Failed").await;
    let message = status["message"].as_str().unwrap();
    assert!(message.starts_with("The node was low on resource: ephemeral-storage. Threshold quantity: "), "{message}");
    node.pressed(&[Pressure::Disk]).await;
}

#[tokio::test(start_paused = true)]
async fn a_soft_threshold_waits_and_lets_pods_end() {
    let node = Node::new(&["app:1"]);
    node.create("app", json!({"terminationGracePeriodSeconds": 60}));
    node.until("app", "Running").await;
    node.read(|| left(Signal::MemoryAvailable, 150 * MI));
    node.pressed(&[Pressure::Memory]).await;
    tokio::time::sleep(Duration::from_secs(45)).await;
    assert_eq!(node.runtime.stopped(), []);
    node.until("app", "Failed").await;
    assert_eq!(node.runtime.stopped(), [("app".to_owned(), 5)]);
}

#[tokio::test(start_paused = true)]
async fn what_the_cluster_cannot_do_without_stays() {
    let node = Node::new(&["app:1"]);
    node.create("dns", json!({"priority": 2_000_001_000}));
    node.until("dns", "Running").await;
    node.read(|| left(Signal::MemoryAvailable, MI));
    eventually("the event", || node.api.told("EvictionThresholdMet")).await;
    tokio::time::sleep(Duration::from_secs(120)).await;
    assert_eq!((node.status("dns")["phase"].as_str(), node.runtime.stopped().len()), (Some("Running"), 0));
}
