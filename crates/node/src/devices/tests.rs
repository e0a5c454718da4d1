//! Plugins over real sockets.

use std::{path::PathBuf, sync::Arc, time::Duration};

use k8s_openapi::api::core::v1::Pod;
use serde_json::{Value, from_value, json};
use tokio_util::sync::CancellationToken;

use super::{
    Count, Devices,
    protocol::{SOCKET, VERSION},
};
use crate::testing::plugin::{FakePlugin, RESOURCE};

/// The part of an agent that knows devices, until it is dropped.
struct Node {
    dir: tempfile::TempDir,
    devices: Arc<Devices>,
    stop: CancellationToken,
}

impl Node {
    fn new() -> Self {
        Self::on(tempfile::tempdir().unwrap())
    }

    fn on(dir: tempfile::TempDir) -> Self {
        let stop = CancellationToken::new();
        let devices = Devices::open(&dir.path().join("p"), &dir.path().join("devices.json"), stop.clone()).unwrap();
        let (serving, end) = (devices.bind().unwrap(), stop.clone());
        tokio::spawn(async move {
            tokio::select! {
                () = serving => {}
                () = end.cancelled() => {}
            }
        });
        Self { dir, devices, stop }
    }

    /// As after `kill -9`: nobody says good-bye.
    async fn restarted(self) -> Self {
        self.stop.cancel();
        let socket = self.dir.path().join("p").join(SOCKET);
        until("the old agent is gone", || std::os::unix::net::UnixStream::connect(&socket).is_err()).await;
        Self::on(self.dir)
    }

    fn plugins(&self) -> PathBuf {
        self.dir.path().join("p")
    }

    async fn until_counts(&self, all: usize, healthy: usize) {
        let expected = Some(Count { all, healthy });
        until(&format!("{expected:?}"), || self.devices.counts().get(RESOURCE).copied() == expected).await;
    }

    async fn allocate(&self, pod: &Pod) -> Result<(), String> {
        self.devices.allocate(pod).await.map_err(|error| error.to_string())
    }

    async fn env(&self, pod: &Pod, container: &str) -> String {
        self.devices.prepare(pod, container).await.unwrap().envs.remove("BERTHS").unwrap_or_default()
    }

    fn health(&self, uid: &str, container: &str) -> Value {
        json!(self.devices.health(uid, container))
    }
}

async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    for _ in 0..1000 {
        if holds() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("not within ten seconds: {what}");
}

fn asking(name: &str, amount: usize) -> Value {
    json!({"name": name, "resources": {"limits": {RESOURCE: amount.to_string(), "cpu": "1"}}})
}

fn pod(uid: &str, init: &[Value], containers: &[Value]) -> Pod {
    from_value(json!({"metadata": {"uid": uid}, "spec": {"initContainers": init, "containers": containers}})).unwrap()
}

#[tokio::test]
async fn a_pod_keeps_its_devices_through_restarts_of_agent_and_plugin() {
    let node = Node::new();
    let fake = FakePlugin::start(&node.plugins(), &[("a", true), ("b", true), ("c", false)], &["b"]).await;
    node.until_counts(3, 2).await;
    let first = pod("1", &[], &[asking("x", 1)]);
    node.allocate(&first).await.unwrap();
    assert_eq!(fake.asked(), ["prefer 1 of a b with []", "allocate b"]);
    let given = node.devices.prepare(&first, "x").await.unwrap();
    assert_eq!(fake.asked(), ["start b"]);
    assert_eq!((&*given.envs["BERTHS"], &*given.annotations["example.com/note"]), ("b", "moored"));
    assert_eq!((&*given.mounts[0].host_path, given.mounts[0].readonly), ("/lib/berth", true));
    assert_eq!((&*given.devices[0].container_path, &*given.devices[0].permissions), ("/dev/berth", "rw"));
    let health = |health: &str| json!([{"name": RESOURCE, "resources": [{"resourceID": "b", "health": health}]}]);
    assert_eq!(node.health("1", "x"), health("Healthy"));

    fake.list(&[("a", true), ("b", false), ("c", false)]);
    node.until_counts(3, 1).await;
    assert_eq!(node.health("1", "x"), health("Unhealthy"));

    // Nobody knows what became of the devices until the plugin registers anew; who has one keeps it.
    let node = node.restarted().await;
    node.until_counts(0, 0).await;
    assert_eq!(node.health("1", "x"), health("Unknown"));
    assert!(!node.plugins().join("berth.sock").exists(), "plugins see that they have to register again");
    node.allocate(&first).await.unwrap();
    assert_eq!(node.env(&first, "x").await, "b");
    let second = pod("2", &[], &[asking("x", 1)]);
    let none = "no healthy devices present; cannot allocate unhealthy devices example.com/berth".to_owned();
    assert_eq!(node.allocate(&second).await, Err(none));
    fake.end().await;
    let fake = FakePlugin::start(&node.plugins(), &[("a", true), ("b", true)], &["b"]).await;
    node.until_counts(2, 2).await;
    node.allocate(&second).await.unwrap();
    assert_eq!(fake.asked(), ["prefer 1 of a with []", "allocate a"], "what the first pod has is not offered");
    assert_eq!(node.env(&first, "x").await, "b");
    let third = pod("3", &[], &[asking("x", 1)]);
    let unavailable =
        "requested number of devices unavailable for example.com/berth. Requested: 1, Available: 0".to_owned();
    assert_eq!(node.allocate(&third).await, Err(unavailable));

    // What is taken back is there for others, and stays so.
    node.devices.release("1").await;
    let node = node.restarted().await;
    assert_eq!(node.devices.holders(), ["2"]);
    let _fake = FakePlugin::start(&node.plugins(), &[("a", true), ("b", true)], &[]).await;
    node.until_counts(2, 2).await;
    node.allocate(&third).await.unwrap();
    assert_eq!(node.env(&third, "x").await, "b");
}

#[tokio::test]
async fn a_plugin_that_goes_takes_its_devices_along_until_it_is_back() {
    let node = Node::new();
    let fake = FakePlugin::start(&node.plugins(), &[("a", true)], &[]).await;
    node.until_counts(1, 1).await;
    fake.end().await;
    node.until_counts(1, 0).await;
    // It answers again, and does not register.
    let fake = FakePlugin::serve(&node.plugins(), &[("a", true), ("b", true)], &[]);
    node.until_counts(2, 2).await;
    // Another takes its place by registering.
    fake.end().await;
    let _other = FakePlugin::start(&node.plugins(), &[("z", true)], &[]).await;
    node.until_counts(1, 1).await;
    let taken = pod("1", &[], &[asking("x", 1)]);
    node.allocate(&taken).await.unwrap();
    assert_eq!(node.env(&taken, "x").await, "z");
}

#[tokio::test]
async fn what_init_containers_had_is_used_again() {
    let node = Node::new();
    let _fake = FakePlugin::start(&node.plugins(), &[("a", true), ("b", true), ("c", true)], &[]).await;
    node.until_counts(3, 3).await;
    let mut sidecar = asking("s", 1);
    sidecar["restartPolicy"] = json!("Always");
    let shared = pod("1", &[asking("i", 1), sidecar], &[asking("x", 1), asking("y", 1)]);
    node.allocate(&shared).await.unwrap();
    for (container, expected) in [("i", "a"), ("s", "a"), ("x", "b"), ("y", "c")] {
        assert_eq!(node.env(&shared, container).await, expected, "{container}");
    }
}

#[tokio::test]
async fn who_cannot_register_is_told_why() {
    let node = Node::new();
    let fake = FakePlugin::serve(&node.plugins(), &[("a", true)], &[]);
    for (version, resource, endpoint, expected) in [
        (
            "v1alpha",
            RESOURCE,
            "berth.sock",
            "requested API version \"v1alpha\" is not supported by kubelet. Supported version is [\"v1beta1\"]",
        ),
        (VERSION, "berth", "berth.sock", "the ResourceName \"berth\" is invalid"),
        (VERSION, "kubernetes.io/berth", "berth.sock", "the ResourceName \"kubernetes.io/berth\" is invalid"),
        (VERSION, RESOURCE, "../x", "the endpoint \"../x\" is not the name of a socket beside kubelet.sock"),
    ] {
        assert_eq!(fake.register(version, resource, endpoint).await, Err(expected.to_owned()));
    }
    assert!(node.devices.counts().is_empty());
}

#[tokio::test]
async fn a_pod_whose_plugin_refuses_it_has_nothing() {
    let node = Node::new();
    let fake = FakePlugin::start(&node.plugins(), &[("a", true)], &[]).await;
    node.until_counts(1, 1).await;
    fake.refuse("the berth is on fire");
    let refused = node.allocate(&pod("1", &[], &[asking("x", 1)])).await;
    assert_eq!(refused, Err("rpc error: code = Unknown desc = the berth is on fire".to_owned()));
    assert!(node.devices.holders().is_empty());
}

#[tokio::test]
async fn pods_that_look_for_the_kubelet_find_their_own_node() {
    let node = Node::new();
    let mounting = |path: &str| -> Arc<Pod> {
        let volumes = json!([{"name": "a", "emptyDir": {}}, {"name": "v", "hostPath": {"path": path}}]);
        Arc::new(from_value(json!({"metadata": {}, "spec": {"containers": [], "volumes": volumes}})).unwrap())
    };
    let own = node.plugins().to_string_lossy().into_owned();
    for (path, expected) in [
        ("/var/lib/kubelet/device-plugins", own.clone()),
        ("/var/lib/kubelet/device-plugins/kubelet.sock", format!("{own}/kubelet.sock")),
        ("/var/lib/kubelet/device-plugins-too", "/var/lib/kubelet/device-plugins-too".to_owned()),
    ] {
        let led = node.devices.lead(mounting(path));
        assert_eq!(led.spec.as_ref().unwrap().volumes.as_ref().unwrap()[1].host_path.as_ref().unwrap().path, expected);
    }
}
