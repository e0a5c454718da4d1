//! Pods that ask for devices, from admission to their end. The plugin's socket is a real one, and so is time.

use serde_json::{Value, json};
use tokio::task::JoinHandle;

use super::lives::{Cluster, POD};
use crate::testing::{
    eventually,
    plugin::{FakePlugin, RESOURCE},
};

fn asking(amount: usize) -> Value {
    json!({"containers": [{"name": "a", "image": "app:1", "args": ["$(BERTHS)"],
        "resources": {"limits": {RESOURCE: amount.to_string()}, "requests": {RESOURCE: amount.to_string()}}}]})
}

/// A node whose plugin has two devices, and what has to be kept for it.
async fn with_two() -> (Cluster, FakePlugin, JoinHandle<()>) {
    let cluster = Cluster::new();
    let registry = tokio::spawn(cluster.ctx.devices.bind().unwrap());
    let plugins = cluster.ctx.pod_dir.parent().unwrap().join("plugins");
    let plugin = FakePlugin::start(&plugins, &[("x", true), ("y", true)], &[]).await;
    eventually("both are known", || (cluster.ctx.devices.counts().get(RESOURCE)?.healthy == 2).then_some(())).await;
    (cluster, plugin, registry)
}

#[tokio::test]
async fn a_pod_that_asks_for_too_much_is_refused_in_upstreams_words() {
    let (cluster, plugin, _registry) = with_two().await;
    cluster.create(asking(3));
    let refused = cluster.until("refused", |status| status["phase"] == "Failed").await;
    assert_eq!(refused["reason"], "UnexpectedAdmissionError");
    let why = "Allocate failed due to requested number of devices unavailable for example.com/berth. Requested: 3, \
               Available: 2, which is unexpected";
    assert_eq!(refused["message"], format!("Pod was rejected: {why}"));
    eventually("it is told", || cluster.api.told("UnexpectedAdmissionError").filter(|told| told == why)).await;
    assert!(plugin.asked().is_empty());
    assert!(cluster.ctx.devices.holders().is_empty());
}

#[tokio::test]
async fn a_pod_gets_what_it_asks_for_and_gives_it_back() {
    let (cluster, plugin, registry) = with_two().await;
    cluster.create(asking(1));
    let status = cluster.until_ready().await;
    let health = json!([{"name": RESOURCE, "resources": [{"resourceID": "x", "health": "Healthy"}]}]);
    assert_eq!(status["containerStatuses"][0]["allocatedResourcesStatus"], health);
    assert_eq!(plugin.asked(), ["prefer 1 of x y with []", "allocate x", "start x"]);
    let made = cluster.runtime.running().remove("a").unwrap();
    assert_eq!(made.args, ["x"], "a device's variables are there for arguments");
    assert_eq!((&*made.devices[0].host_path, &*made.annotations["example.com/note"]), ("/dev/null", "moored"));
    assert!(made.mounts.iter().any(|mount| mount.container_path == "/lib/berth"));

    // Another agent goes on with it, and starts it anew with the same device.
    registry.abort();
    let _ = registry.await;
    plugin.end().await;
    let cluster = cluster.restarted();
    cluster.until_ready().await;
    cluster.runtime.exit("a", 1);
    cluster.until("restarted", |status| status["containerStatuses"][0]["restartCount"] == 1).await;
    cluster.until_ready().await;
    assert_eq!(cluster.runtime.running().remove("a").unwrap().args, ["x"]);
    assert_eq!(cluster.ctx.devices.holders(), ["u1"]);
    let unknown = cluster.api.get(POD).unwrap()["status"]["containerStatuses"][0]["allocatedResourcesStatus"].clone();
    assert_eq!(unknown[0]["resources"][0]["health"], "Unknown");
    cluster.delete(0);
    cluster.until_gone().await;
    assert!(cluster.ctx.devices.holders().is_empty());
}
