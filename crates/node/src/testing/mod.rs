//! Stand-ins for tests: an API that stores what it is sent, and a runtime whose containers do as they are told.

mod api;
pub mod plugin;
mod runtime;

pub use api::FakeApi;
pub use runtime::FakeRuntime;

use std::{sync::Arc, time::Duration};

use k8s_openapi::api::{
    core::v1::{Node, Service},
    storage::v1::CSIDriver,
};
use knarr_client::{Clock, Informers, Recorder, informer::Scope};
use tokio::sync::{Semaphore, watch};
use tokio_util::sync::CancellationToken;

use crate::{
    cpus::Cpus,
    csi::{self, Csi},
    devices::Devices,
    dra::Claims,
    evict::{self, Eviction},
    gc::ImageGc,
    images::records::PullRecords,
    pod::{
        confine::Host, context::Context, downward::Allocatable, references::References, resize::Queue,
        users::UserBlocks,
    },
    reserve::Budget,
};

/// A node's context on top of the two stand-ins. What it watches ends with the token.
pub fn context(
    api: &FakeApi,
    runtime: &Arc<FakeRuntime>,
    dir: &std::path::Path,
    stop: &CancellationToken,
) -> (Arc<Context>, Informers) {
    let client = api.client();
    let informers = Informers::seeded(client.clone(), stop.clone(), 1);
    let clock = Clock::starting_at("2026-01-01T00:00:00Z".parse().unwrap());
    runtime.use_clock(clock);
    let node = informers.with_params::<Node>(Scope::fields("metadata.name=n1"));
    let recorder = Recorder::new(client.clone(), "kubelet", "n1", clock, stop.clone());
    let places =
        csi::Places { kubelet_dir: dir.join("kubelet"), pod_dir: dir.join("pods"), staged_dir: dir.join("csi") };
    let drivers = informers.of::<CSIDriver>();
    let csi = Csi::new("n1".to_owned(), places, client.clone(), node.clone(), drivers, recorder.clone(), clock);
    let context = Context {
        csi: Arc::new(csi),
        node_name: "n1".to_owned(),
        node_ips: vec!["192.0.2.1".to_owned()],
        log_dir: dir.join("logs"),
        pod_dir: dir.join("pods"),
        host: Host::look(dir),
        cluster_dns: vec!["10.43.0.10".parse().unwrap()],
        cluster_domain: "cluster.local".to_owned(),
        resolv_conf: None,
        client: client.clone(),
        runtime: runtime.clone(),
        images: runtime.clone(),
        runtime_name: "knarr".to_owned(),
        recorder,
        references: References::new(informers.clone()),
        services: informers.of::<Service>(),
        node,
        budget: Budget {
            allocatable: Allocatable { cpu_milli: 4000, memory_bytes: 8 << 30, ephemeral_bytes: 100 << 30 },
            ..Budget::default()
        },
        eviction: Eviction {
            hard: evict::parse_thresholds("memory.available<100Mi,nodefs.available<10%").unwrap(),
            soft: evict::parse_thresholds("memory.available<200Mi").unwrap(),
            soft_grace: evict::parse_grace_periods("memory.available=1m").unwrap(),
            minimum_reclaim: evict::Levels::new(),
            transition: Duration::from_secs(300),
            max_pod_grace: Duration::from_secs(5),
        },
        image_gc: ImageGc {
            high_percent: 85,
            low_percent: 80,
            min_age: Duration::from_secs(120),
            max_age: Duration::ZERO,
        },
        pressures: watch::Sender::default(),
        shutting_down: watch::Sender::default(),
        memory_capacity: 8 << 30,
        max_pods: 110,
        pod_pids: Some(1000),
        unsafe_sysctls: Vec::new(),
        clock,
        admitted: std::sync::Mutex::default(),
        resizes: Queue::default(),
        claims: Arc::new(Claims::open(client, dir.join("claims.json")).unwrap()),
        cpus: Arc::new(Cpus::unmanaged()),
        users: Arc::new(UserBlocks::new(dir.join("pods"))),
        devices: Devices::open(&dir.join("plugins"), &dir.join("devices.json"), stop.clone()).unwrap(),
        records: PullRecords::open(&dir.join("image_manager")).unwrap(),
        pulls: Semaphore::new(5),
        writes: Semaphore::new(32),
        probes: Arc::default(),
        owners: std::sync::Mutex::default(),
        mirrors: std::sync::Mutex::default(),
    };
    (Arc::new(context), informers)
}

/// Waits for a condition, in whatever time the test runs in; panics with `what` after a long while.
pub async fn eventually<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    for _ in 0..60_000 {
        if let Some(found) = look() {
            return found;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("not seen within ten minutes: {what}");
}
