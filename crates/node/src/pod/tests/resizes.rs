//! Resizes in place: agreed to where there is room, told by conditions, and kept across a restart of the agent.

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
    cluster.ctx.admitted().release("u2");
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
