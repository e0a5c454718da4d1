//! The runtime is killed at many instants while it makes and removes pods; afterwards everything can be removed.

mod support;

use std::{path::PathBuf, process::Stdio, time::Duration};

use knarr_cri::{RuntimeService, v1::*};
use support::{Host, PATIENCE, container};
use tokio::io::{AsyncBufReadExt, BufReader};

const DIRECTORY: &str = "KNARR_CHURN_DIRECTORY";
const NAME: &str = "KNARR_CHURN_NAME";
/// What the churn says of each pod that is whole.
const WHOLE: &str = "a whole pod";

/// Not a test: what the test below starts and kills.
#[tokio::test]
#[ignore = "run by the test that kills it"]
async fn churn() {
    let (Some(directory), Some(name)) = (std::env::var_os(DIRECTORY), std::env::var(NAME).ok()) else { return };
    let host = Host::existing(&PathBuf::from(directory), &name).await;
    for n in 0.. {
        let sandbox = host.sandbox_of(PodSandboxConfig {
            linux: Some(LinuxPodSandboxConfig {
                cgroup_parent: format!("pod-{}-{n}", std::process::id()),
                ..Default::default()
            }),
            ..host.sandbox_config()
        });
        let sandbox = sandbox.await;
        host.run(&sandbox, container("c", "exec /bin/sleep 1000")).await;
        println!("{WHOLE}");
        if n % 3 > 0 {
            host.remove_sandbox(&sandbox).await;
        }
    }
}

#[tokio::test]
async fn killed_at_any_instant_nothing_is_left_that_cannot_be_removed() {
    let mut host = Host::new("crashes").await;
    let mut seed = 0x9e37_79b9_u64;
    for round in 0..25 {
        // A fixed sequence: a failure comes again.
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let life = Duration::from_micros(15_000 + (seed >> 33) % 60_000);
        let mut child = tokio::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "churn", "--ignored", "--nocapture"])
            .env(DIRECTORY, host.directory.path())
            .env(NAME, host.name())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        // On a busy machine this is too short a life for a pod; so every other one begins when there is one.
        let mut told = BufReader::new(child.stdout.take().unwrap()).lines();
        if round % 2 == 1 {
            let whole = async { while !told.next_line().await.unwrap().expect("it goes on").ends_with(WHOLE) {} };
            tokio::time::timeout(PATIENCE, whole).await.expect("a whole pod in time");
        }
        tokio::time::sleep(life).await;
        assert!(child.try_wait().unwrap().is_none(), "round {round}: the churn ended by itself");
        child.kill().await.unwrap();
    }
    host.reopen().await;
    let sandboxes = host.runtime.list_pod_sandbox(Default::default()).await.unwrap().items;
    eprintln!("{} sandboxes are left after 25 crashes", sandboxes.len());
    assert!(!sandboxes.is_empty(), "the churn has come as far as making pods");
    let ready = sandboxes.iter().filter(|s| s.state() == PodSandboxState::SandboxReady);
    assert!(ready.count() > 0, "whole pods live on");
    for sandbox in sandboxes {
        host.remove_sandbox(&sandbox.id).await;
    }
    assert!(host.runtime.list_containers(Default::default()).await.unwrap().containers.is_empty());
    // Before anything is reset: removing pods has removed all that was theirs.
    let left: Vec<_> = ["data/sandboxes", "data/containers", "run/sandboxes"]
        .iter()
        .flat_map(|d| std::fs::read_dir(host.directory.path().join(d)).unwrap().flatten())
        .map(|e| e.path())
        .collect();
    assert!(left.is_empty(), "{left:?}");
    host.finish().await;
}
