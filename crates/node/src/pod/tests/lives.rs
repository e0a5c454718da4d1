//! Whole lives of pods: the real workers, on a scripted runtime and an API that stores what it is sent. Time is
//! paused, so waits of minutes take none.

use std::{sync::Arc, time::Duration};

use k8s_openapi::api::core::v1::Pod;
use knarr_client::informer::Scope;
use knarr_cri::RuntimeService;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::super::{context::Context, manager::Manager};
use crate::testing::{FakeApi, FakeRuntime, context, eventually};

pub(super) const POD: &str = "/api/v1/namespaces/d/pods/p";

pub(super) struct Cluster {
    pub api: FakeApi,
    pub runtime: Arc<FakeRuntime>,
    pub ctx: Arc<Context>,
    manager: Manager,
    stop: CancellationToken,
    dir: tempfile::TempDir,
}

impl Cluster {
    pub fn new() -> Self {
        Self::on(FakeApi::new(), Arc::new(FakeRuntime::new(&["app:1", "tool:1"])), tempfile::tempdir().unwrap())
    }

    fn on(api: FakeApi, runtime: Arc<FakeRuntime>, dir: tempfile::TempDir) -> Self {
        let stop = CancellationToken::new();
        let (ctx, informers) = context(&api, &runtime, dir.path(), &stop);
        let manager = Manager::new(ctx.clone());
        let pods = informers.with_params::<Pod>(Scope::fields("spec.nodeName=n1"));
        let (follower, listener) = (manager.clone(), manager.clone());
        let events = runtime.container_events();
        let done = stop.clone();
        tokio::spawn(async move {
            tokio::select! {
                _ = async { tokio::join!(follower.follow(pods), listener.listen(events)) } => {}
                () = done.cancelled() => {}
            }
        });
        Self { api, runtime, ctx, manager, stop, dir }
    }

    /// The same machine after the agent was started again.
    pub fn restarted(self) -> Self {
        self.stop.cancel();
        self.manager.stop();
        Self::on(self.api, self.runtime, self.dir)
    }

    /// The same machine after the agent was started again, with the pod's object gone meanwhile.
    pub async fn restarted_without_the_pod(self) -> Self {
        self.stop.cancel();
        self.manager.stop();
        self.api.remove(POD);
        let cluster = self.restarted();
        cluster.manager.clear_left_overs().await.unwrap();
        cluster
    }

    pub fn create(&self, spec: Value) {
        let mut spec = spec;
        spec["nodeName"] = json!("n1");
        let meta = json!({"name": "p", "namespace": "d", "uid": "u1", "generation": 1});
        self.api.put(
            POD,
            json!({"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": spec, "status": {"phase": "Pending"}}),
        );
    }

    pub fn delete(&self, grace: i64) {
        self.api.change(POD, |pod| {
            pod["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
            pod["metadata"]["deletionGracePeriodSeconds"] = json!(grace);
        });
    }

    pub fn status(&self) -> Value {
        self.api.get(POD).map(|pod| pod["status"].clone()).unwrap_or_default()
    }

    pub async fn until(&self, what: &str, holds: impl Fn(&Value) -> bool) -> Value {
        eventually(what, || Some(self.status()).filter(|status| holds(status))).await
    }

    pub async fn until_ready(&self) -> Value {
        self.until("ready", |status| condition(status, "Ready") == "True").await
    }

    pub async fn until_gone(&self) {
        eventually("the pod is gone everywhere", || {
            (self.api.get(POD).is_none() && self.runtime.count() == (0, 0)).then_some(())
        })
        .await;
    }
}

pub(super) fn condition<'a>(status: &'a Value, kind: &str) -> &'a str {
    let conditions = status["conditions"].as_array().map_or(&[][..], Vec::as_slice);
    conditions
        .iter()
        .find(|condition| condition["type"] == kind)
        .and_then(|found| found["status"].as_str())
        .unwrap_or("")
}

pub(super) fn waiting(status: &Value) -> &str {
    status["containerStatuses"][0]["state"]["waiting"]["reason"].as_str().unwrap_or_default()
}

pub(super) fn app() -> Value {
    json!({"containers": [{"name": "a", "image": "app:1"}]})
}

#[tokio::test(start_paused = true)]
async fn a_pod_comes_up_and_goes() {
    let cluster = Cluster::new();
    cluster.create(app());
    let status = cluster.until_ready().await;
    assert_eq!(status["phase"], "Running");
    assert_eq!(status["hostIP"], "192.0.2.1");
    assert!(status["podIP"].as_str().unwrap().starts_with("10.42.0."), "{status}");
    assert_eq!(status["podIPs"][0]["ip"], status["podIP"]);
    assert_eq!(status["observedGeneration"], 1);
    assert_eq!(status["qosClass"], "BestEffort");
    let container = &status["containerStatuses"][0];
    assert_eq!((container["ready"].as_bool(), container["started"].as_bool()), (Some(true), Some(true)));
    assert!(container["containerID"].as_str().unwrap().starts_with("knarr://c"), "{container}");
    for kind in ["PodReadyToStartContainers", "Initialized", "ContainersReady", "PodScheduled"] {
        assert_eq!(condition(&status, kind), "True", "{kind}");
    }
    // What came up at once is told at once.
    assert_eq!(cluster.api.status_patches(), 1);
    let made = cluster.runtime.running().remove("a").unwrap();
    let mounts: Vec<_> = made.mounts.iter().map(|mount| mount.container_path.as_str()).collect();
    assert_eq!(mounts, ["/etc/hosts", "/dev/termination-log"]);
    cluster.delete(30);
    cluster.until_gone().await;
    assert_eq!(cluster.runtime.stopped(), [("a".to_owned(), 30)]);
    assert_eq!(cluster.api.told("Killing").as_deref(), Some("Stopping container a"));
    assert!(!cluster.ctx.pod_dir.join("u1").exists());
}

#[tokio::test(start_paused = true)]
async fn a_crashing_container_backs_off() {
    let cluster = Cluster::new();
    cluster.create(app());
    cluster.until_ready().await;
    let log = cluster.ctx.log_dir.join("d_p_u1/a/0.log");
    std::fs::create_dir_all(log.parent().unwrap()).unwrap();
    std::fs::write(&log, "said once").unwrap();
    cluster.runtime.exit("a", 1);
    // The first restart is immediate.
    let status = cluster.until("one restart", |status| status["containerStatuses"][0]["restartCount"] == 1).await;
    assert_eq!(status["containerStatuses"][0]["lastState"]["terminated"]["exitCode"], 1);
    cluster.until_ready().await;
    cluster.runtime.exit("a", 2);
    let status = cluster.until("back-off", |status| waiting(status) == "CrashLoopBackOff").await;
    assert_eq!(status["phase"], "Running");
    assert_eq!(condition(&status, "Ready"), "False");
    assert_eq!(status["containerStatuses"][0]["lastState"]["terminated"]["exitCode"], 2);
    let message = eventually("the event", || cluster.api.told("BackOff")).await;
    assert_eq!(message, "Back-off restarting failed container a in pod p_d(u1)");
    let before = tokio::time::Instant::now();
    cluster.until("two restarts", |status| status["containerStatuses"][0]["restartCount"] == 2).await;
    assert!(before.elapsed() > Duration::from_secs(8), "{:?}", before.elapsed());
    // Only the last of the ended runs is kept, and of the others no file.
    assert_eq!(cluster.runtime.count().1, 2);
    let words = cluster.ctx.pod_dir.join("u1/containers/a");
    let mut left: Vec<_> = std::fs::read_dir(words).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    left.sort();
    assert_eq!(left, ["1", "2"]);
    assert!(!log.exists(), "the log of a run that is gone");
}

#[tokio::test(start_paused = true)]
async fn a_job_ends() {
    for (code, phase, reason) in [(0, "Succeeded", "PodCompleted"), (3, "Failed", "PodFailed")] {
        let cluster = Cluster::new();
        cluster.create(json!({"restartPolicy": "Never", "containers": [{"name": "a", "image": "app:1"}]}));
        cluster.until_ready().await;
        cluster.runtime.exit("a", code);
        let status = cluster.until("the end", |status| status["phase"] == phase).await;
        assert_eq!(status["containerStatuses"][0]["state"]["terminated"]["exitCode"], code);
        assert_eq!(condition(&status, "Ready"), "False");
        assert!(status["conditions"].to_string().contains(reason), "{status}");
        // Its container is kept for the logs.
        assert_eq!(cluster.runtime.count(), (1, 1));
        cluster.delete(0);
        cluster.until_gone().await;
    }
}

#[tokio::test(start_paused = true)]
async fn init_containers_come_first_and_sidecars_stay() {
    let cluster = Cluster::new();
    cluster.create(json!({
        "initContainers": [{"name": "side", "image": "tool:1", "restartPolicy": "Always"}, {"name": "i", "image": "tool:1"}],
        "containers": [{"name": "a", "image": "app:1"}],
    }));
    eventually("init", || cluster.runtime.running().contains_key("i").then_some(())).await;
    let status = cluster.until("told", |status| condition(status, "Initialized") == "False").await;
    assert_eq!(waiting(&status), "PodInitializing");
    assert_eq!(status["phase"], "Pending");
    assert!(!cluster.runtime.running().contains_key("a"));
    cluster.runtime.exit("i", 0);
    cluster.until_ready().await;
    assert_eq!(cluster.runtime.running().into_keys().collect::<Vec<_>>(), ["a", "side"]);
    cluster.delete(30);
    cluster.until_gone().await;
    let order: Vec<_> = cluster.runtime.stopped().into_iter().map(|(name, _)| name).collect();
    assert_eq!(order, ["a", "side"]);
}

#[tokio::test(start_paused = true)]
async fn readiness_and_liveness() {
    let cluster = Cluster::new();
    let probe = |command: &str| json!({"exec": {"command": [command]}, "periodSeconds": 1, "failureThreshold": 2});
    cluster.runtime.answer_command("ready?", 1, "not yet");
    cluster.create(json!({"containers": [{"name": "a", "image": "app:1", "readinessProbe": probe("ready?"), "livenessProbe": probe("alive?")}]}));
    let status = cluster.until("running", |status| status["phase"] == "Running").await;
    assert_eq!(condition(&status, "Ready"), "False");
    let told = eventually("the event", || cluster.api.told("Unhealthy")).await;
    assert_eq!(told, "Readiness probe failed: not yet");
    cluster.runtime.answer_command("ready?", 0, "");
    cluster.until_ready().await;
    cluster.runtime.answer_command("alive?", 1, "dead");
    let status = cluster.until("restarted", |status| status["containerStatuses"][0]["restartCount"] == 1).await;
    assert_eq!(status["containerStatuses"][0]["lastState"]["terminated"]["exitCode"], 143);
    assert_eq!(cluster.api.told("Killing").as_deref(), Some("Container a failed liveness probe, will be restarted"));
}

#[tokio::test(start_paused = true)]
async fn images_that_cannot_be_pulled() {
    let cluster = Cluster::new();
    cluster.create(json!({"containers": [{"name": "a", "image": "far:1"}]}));
    cluster.until("the failure", |status| waiting(status) == "ErrImagePull").await;
    let status = cluster.until("the wait", |status| waiting(status) == "ImagePullBackOff").await;
    assert_eq!(status["phase"], "Pending");
    cluster.runtime.make_pullable("far:1");
    cluster.until_ready().await;
    for (image, policy, reason) in [("far:2", "Never", "ErrImageNeverPull"), ("Far:2", "Always", "InvalidImageName")] {
        let cluster = Cluster::new();
        cluster.create(json!({"containers": [{"name": "a", "image": image, "imagePullPolicy": policy}]}));
        cluster.until(reason, |status| waiting(status) == reason).await;
    }
}

#[tokio::test(start_paused = true)]
async fn images_that_are_volumes() {
    let cluster = Cluster::new();
    cluster.create(json!({
        "volumes": [
            {"name": "v", "image": {"reference": "far:1", "pullPolicy": "Always"}},
            {"name": "unused", "image": {"reference": "nowhere:1", "pullPolicy": "Always"}},
        ],
        "containers": [{"name": "a", "image": "app:1", "imagePullPolicy": "IfNotPresent", "volumeMounts": [
            {"name": "v", "mountPath": "/v", "subPath": "in"}]}],
    }));
    cluster.until("the failure", |status| waiting(status) == "ErrImagePull").await;
    let status = cluster.until("the wait", |status| waiting(status) == "ImagePullBackOff").await;
    let message = status["containerStatuses"][0]["state"]["waiting"]["message"].as_str().unwrap();
    assert!(message.starts_with("Back-off pulling image \"far:1\": ErrImagePull: "), "{message}");
    cluster.runtime.make_pullable("far:1");
    cluster.until_ready().await;
    let made = cluster.runtime.running().remove("a").unwrap();
    let mount = &made.mounts[0];
    assert_eq!(mount.image.as_ref().unwrap().image, "far:1");
    assert_eq!((&*mount.image_sub_path, &*mount.container_path, mount.readonly), ("in", "/v", true));
}

#[tokio::test(start_paused = true)]
async fn a_deadline_ends_a_pod() {
    let cluster = Cluster::new();
    cluster.create(json!({"activeDeadlineSeconds": 60, "containers": [{"name": "a", "image": "app:1"}]}));
    cluster.until_ready().await;
    let status = cluster.until("failed", |status| status["phase"] == "Failed").await;
    assert_eq!(status["reason"], "DeadlineExceeded");
    assert!(cluster.runtime.running().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_pod_that_does_not_fit_is_refused() {
    let cluster = Cluster::new();
    cluster.create(json!({"containers": [{"name": "a", "image": "app:1", "resources": {"requests": {"cpu": "5"}}}]}));
    let status = cluster.until("refused", |status| status["phase"] == "Failed").await;
    assert_eq!(status["reason"], "OutOfcpu");
    assert_eq!(
        status["message"],
        "Pod was rejected: Node didn't have enough resource: cpu, requested: 5000, used: 0, capacity: 4000"
    );
    assert_eq!(cluster.runtime.count(), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_failing_post_start_hook_restarts_the_container() {
    let cluster = Cluster::new();
    cluster.runtime.answer_command("hook", 1, "");
    let hook = json!({"postStart": {"exec": {"command": ["hook"]}}});
    cluster.create(json!({"containers": [{"name": "a", "image": "app:1", "lifecycle": hook}]}));
    eventually("the event", || cluster.api.told("FailedPostStartHook")).await;
    cluster.runtime.answer_command("hook", 0, "");
    let status = cluster.until_ready().await;
    assert!(status["containerStatuses"][0]["restartCount"].as_i64().unwrap() >= 1);
}

#[tokio::test(start_paused = true)]
async fn limits_change_in_place_or_by_a_new_start() {
    for (policy, restarts) in [("NotRequired", 0), ("RestartContainer", 1)] {
        let cluster = Cluster::new();
        let limited = |memory: &str| {
            json!({"containers": [{
                "name": "a", "image": "app:1",
                "resources": {"limits": {"memory": memory}},
                "resizePolicy": [{"resourceName": "memory", "restartPolicy": policy}],
            }]})
        };
        cluster.create(limited("64Mi"));
        cluster.until_ready().await;
        assert_eq!(cluster.runtime.memory_limit("a"), Some(64 << 20));
        cluster.api.change(POD, |pod| pod["spec"]["containers"] = limited("128Mi")["containers"].clone());
        eventually("the new limit", || (cluster.runtime.memory_limit("a") == Some(128 << 20)).then_some(())).await;
        let status = cluster.until_ready().await;
        assert_eq!(status["containerStatuses"][0]["restartCount"], restarts, "{policy}");
        assert_eq!(cluster.runtime.stopped().len(), restarts, "stopped once, however often it is looked at");
        // The sandbox bounds its containers, so it has to give way as well.
        eventually("the sandbox's new limit", || {
            let given = cluster.runtime.sandbox_limits();
            (!given.is_empty() && given.iter().all(|limit| *limit == 128 << 20)).then_some(())
        })
        .await;
    }
}
