//! Resizes in place: agreed to where there is room, told by conditions, and kept across a restart of the agent.

use std::sync::Arc;

use k8s_openapi::api::core::v1::Pod;
use serde_json::{Value, json};

use super::lives::{Cluster, POD, condition};
use crate::testing::eventually;

fn asking(cpu: &str, memory: &str) -> Value {
    json!({"containers": [{"name": "a", "image": "app:1",
        "resources": {"requests": {"cpu": cpu, "memory": memory}, "limits": {"cpu": cpu, "memory": memory}}}]})
}

fn wish(cluster: &Cluster, generation: i64, spec: &Value) {
    cluster.api.change(POD, |pod| {
        pod["spec"]["containers"] = spec["containers"].clone();
        pod["metadata"]["generation"] = json!(generation);
    });
}

fn told<'a>(status: &'a Value, kind: &str) -> (&'a str, &'a str, i64) {
    let conditions = status["conditions"].as_array().map_or(&[][..], Vec::as_slice);
    let Some(found) = conditions.iter().find(|condition| condition["type"] == kind) else { return ("", "", 0) };
    let text = |key: &str| found[key].as_str().unwrap_or_default();
    (text("reason"), text("message"), found["observedGeneration"].as_i64().unwrap_or_default())
}

#[tokio::test(start_paused = true)]
async fn what_there_is_no_room_for_waits_and_what_can_never_be_is_told() {
    let cluster = Cluster::new();
    cluster.create(asking("1", "64Mi"));
    cluster.until_ready().await;
    // Another pod has three of the four.
    let other = serde_json::from_value(json!({"metadata": {"uid": "u2"}, "spec": asking("3", "1Mi")})).unwrap();
    cluster.ctx.with_offer(|offer| cluster.ctx.admitted().admit(&other, offer, true)).unwrap();
    wish(&cluster, 2, &asking("2", "64Mi"));
    let status = cluster.until("deferred", |status| condition(status, "PodResizePending") == "True").await;
    let message = "Node didn't have enough resource: cpu, requested: 2000, used: 3000, capacity: 4000";
    assert_eq!(told(&status, "PodResizePending"), ("Deferred", message, 2));
    let container = &status["containerStatuses"][0];
    assert_eq!(container["resources"]["limits"]["cpu"], "1");
    assert_eq!(container["allocatedResources"]["cpu"], "1");
    let event = eventually("the event", || cluster.api.told("ResizeDeferred")).await;
    assert!(event.starts_with("Pod resize Deferred: {") && event.contains("\"generation\":2"), "{event}");

    wish(&cluster, 3, &asking("1", "64Gi"));
    let status = cluster.until("never", |status| told(status, "PodResizePending").0 == "Infeasible").await;
    let message = "Node didn't have enough capacity: memory, requested: 68719476736, capacity: 8589934592";
    assert_eq!(told(&status, "PodResizePending"), ("Infeasible", message, 3));

    wish(&cluster, 4, &asking("2", "64Mi"));
    cluster.until("deferred again", |status| told(status, "PodResizePending").0 == "Deferred").await;
    cluster.ctx.release("u2");
    let status =
        cluster.until("room", |status| status["containerStatuses"][0]["resources"]["limits"]["cpu"] == "2").await;
    assert_eq!(status["containerStatuses"][0]["allocatedResources"]["cpu"], "2");
    cluster.until("over", |status| condition(status, "PodResizePending").is_empty()).await;
    cluster.until("done", |status| condition(status, "PodResizeInProgress").is_empty()).await;
    assert!(
        eventually("the event", || cluster.api.told("ResizeCompleted")).await.starts_with("Pod resize completed: {")
    );
    assert_eq!(cluster.status()["containerStatuses"][0]["restartCount"], 0);
}

/// Amounts of a whole pod are told as they are set aside, and as they are in force.
#[tokio::test(start_paused = true)]
async fn a_whole_pods_amounts_are_told_and_resized() {
    let cluster = Cluster::new();
    let whole =
        |memory: &str| json!({"requests": {"cpu": "2", "memory": memory}, "limits": {"cpu": "2", "memory": memory}});
    let containers = json!([{"name": "a", "image": "app:1"}, {"name": "b", "image": "app:1", "resources": {"requests": {"cpu": "1"}}}]);
    cluster.create(json!({"resources": whole("64Mi"), "containers": containers}));
    let status = cluster.until_ready().await;
    assert_eq!(status["allocatedResources"], json!({"cpu": "2", "memory": "64Mi"}));
    assert_eq!(status["resources"], whole("64Mi"));
    cluster.api.change(POD, |pod| {
        pod["spec"]["resources"] = whole("96Mi");
        pod["metadata"]["generation"] = json!(2);
    });
    let status = cluster.until("in force", |status| status["resources"] == whole("96Mi")).await;
    assert_eq!(status["allocatedResources"]["memory"], "96Mi");
    assert_eq!(cluster.runtime.sandbox_limits().last(), Some(&(96 << 20)));
}

/// What is given back goes to the pod of the highest priority that it is enough for, whoever asked first.
#[tokio::test(start_paused = true)]
async fn room_goes_to_those_that_matter_most() {
    let cluster = Cluster::new();
    let pod = |uid: &str, priority: i32, cpu: &str| -> Arc<Pod> {
        let mut spec = asking(cpu, "1Mi");
        spec["priority"] = json!(priority);
        Arc::new(serde_json::from_value(json!({"metadata": {"uid": uid}, "spec": spec})).unwrap())
    };
    let now = cluster.ctx.now();
    let wake = Arc::new(tokio::sync::Notify::new());
    let queue = &cluster.ctx.resizes;
    cluster.ctx.with_offer(|offer| {
        let mut admitted = cluster.ctx.admitted();
        for (uid, priority) in [("low", 0), ("high", 10)] {
            admitted.admit(&pod(uid, priority, "1"), offer, true).unwrap();
        }
        // Two of the four are free, and both want them.
        queue.join("low", &pod("low", 0, "3"), now, &wake);
        queue.join("high", &pod("high", 10, "3"), now + std::time::Duration::from_secs(1), &wake);
        queue.serve_before("low", &pod("low", 0, "3"), now, &mut admitted, offer);
        let left = admitted.resize(&pod("low", 0, "3"), offer).unwrap_err();
        assert_eq!(left.cause(), "Node didn't have enough resource: cpu, requested: 3000, used: 3000, capacity: 4000");
    });
    wake.notified().await;
}

#[tokio::test(start_paused = true)]
async fn a_limit_below_what_is_used_waits_until_it_is_not() {
    let cluster = Cluster::new();
    cluster.create(asking("1", "128Mi"));
    cluster.until_ready().await;
    cluster.runtime.hold_memory(100 << 20);
    wish(&cluster, 2, &asking("1", "64Mi"));
    let status = cluster.until("refused", |status| told(status, "PodResizeInProgress").0 == "Error").await;
    let message = "cannot decrease memory limits: [attempting to set pod memory limit (67108864) below current usage \
                   (104857600), attempting to set container \"a\" memory limit (67108864) below current usage (104857600)]";
    assert_eq!(told(&status, "PodResizeInProgress"), ("Error", message, 2));
    assert_eq!(cluster.runtime.memory_limit("a"), Some(128 << 20));
    let container = &status["containerStatuses"][0];
    assert_eq!(
        (&container["resources"]["limits"]["memory"], &container["allocatedResources"]["memory"]),
        (&json!("128Mi"), &json!("64Mi"))
    );
    cluster.runtime.hold_memory(10 << 20);
    cluster.until("done", |status| condition(status, "PodResizeInProgress").is_empty()).await;
    assert_eq!(cluster.runtime.memory_limit("a"), Some(64 << 20));
}

#[tokio::test(start_paused = true)]
async fn an_agent_that_is_started_again_keeps_what_was_promised() {
    let cluster = Cluster::new();
    cluster.create(asking("1", "64Mi"));
    cluster.until_ready().await;
    wish(&cluster, 2, &asking("100", "64Mi"));
    cluster.until("never", |status| told(status, "PodResizePending").0 == "Infeasible").await;
    let cluster = cluster.restarted();
    cluster.runtime.exit("a", 1);
    let status = cluster.until("a restart", |status| status["containerStatuses"][0]["restartCount"] == 1).await;
    assert_eq!(status["containerStatuses"][0]["allocatedResources"]["cpu"], "1");
    let made = cluster.runtime.running().remove("a").unwrap();
    assert_eq!(made.linux.unwrap().resources.unwrap().cpu_quota, 100_000);
}
