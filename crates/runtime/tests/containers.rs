//! Real containers, from beginning to end.

mod support;

use std::time::{Duration, Instant};

use knarr_cri::{ImageService, RuntimeService, v1::*};
use support::{Host, IMAGE, LIMITS, PATIENCE, container, with_security};

#[tokio::test]
async fn a_container_runs_logs_and_ends() {
    let host = Host::new("basic").await;
    let began = Instant::now();
    let sandbox = host.sandbox().await;
    let id = host.create(&sandbox, container("c", "echo out; echo err >&2; printf partial; exit 7")).await.unwrap();
    assert_eq!(host.status(&id).await.state(), ContainerState::ContainerCreated);
    host.start(&id).await.unwrap();
    eprintln!("sandbox and container took {:?}", began.elapsed());
    let status = host.ended(&id).await;
    assert_eq!((status.exit_code, status.reason.as_str()), (7, "Error"));
    assert!(status.started_at >= status.created_at && status.finished_at >= status.started_at);
    let raw = std::fs::read_to_string(host.logs().join("c.log")).unwrap();
    let tags: Vec<String> = raw.lines().map(|l| l.split_once(' ').unwrap().1.to_owned()).collect();
    for line in ["stdout F out", "stderr F err", "stdout F partial"] {
        assert!(tags.iter().any(|t| t == line), "{raw}");
    }
    host.finish().await;
}

#[tokio::test]
async fn stopping_asks_first_and_kills_after() {
    let host = Host::new("stop").await;
    let sandbox = host.sandbox().await;
    let polite = host
        .run(&sandbox, container("polite", "trap 'echo bye; exit 3' TERM; echo up; while :; do sleep 0.05; done"))
        .await;
    let deaf = host.run(&sandbox, container("deaf", "sleep 1000")).await;
    wait_for(|| host.log("polite.log").contains("up")).await;
    host.stop(&polite, PATIENCE.as_secs() as i64).await;
    assert_eq!((host.status(&polite).await.exit_code, host.log("polite.log").as_str()), (3, "up\nbye\n"));
    let began = Instant::now();
    // A first process that handles no signal ignores them, so only killing ends it.
    host.stop(&deaf, 1).await;
    assert_eq!(host.status(&deaf).await.exit_code, 137);
    assert!(began.elapsed() >= Duration::from_secs(1));
    host.remove_sandbox(&sandbox).await;
    assert!(host.runtime.list_containers(Default::default()).await.unwrap().containers.is_empty());
    host.finish().await;
}

#[tokio::test]
async fn what_cannot_start_says_why() {
    let host = Host::new("failures").await;
    let sandbox = host.sandbox().await;
    let mut config = container("missing", "");
    config.command = vec!["no-such-program".into()];
    let id = host.create(&sandbox, config).await.unwrap();
    let error = host.start(&id).await.unwrap_err().to_string();
    assert!(error.contains(r#"exec: "no-such-program": executable file not found in $PATH"#), "{error}");
    let status = host.ended(&id).await;
    assert_eq!((status.exit_code, status.reason.as_str()), (128, "StartError"));
    assert!(status.message.contains("no-such-program"));
    // What fails while the root is being built is told in the words of what failed.
    let mut config = container("device", "true");
    config.devices =
        vec![Device { container_path: "/dev/null/x".into(), host_path: "/dev/zero".into(), permissions: "r".into() }];
    let error = host.create(&sandbox, config).await.unwrap_err().to_string();
    assert!(error.contains("/dev/null/x"), "{error}");
    let mut config = container("mount", "true");
    let host_path = host.directory.path().display().to_string();
    config.mounts = vec![Mount { host_path, container_path: "/etc/passwd".into(), ..Default::default() }];
    let error = host.create(&sandbox, config).await.unwrap_err().to_string();
    assert!(error.contains("/etc/passwd"), "{error}");
    let mut config = container("image", "");
    config.image = Some(ImageSpec { image: "knarr.test/none:1".into(), ..Default::default() });
    assert!(host.create(&sandbox, config).await.unwrap_err().is_not_found());
    host.finish().await;
}

#[tokio::test]
async fn memory_is_limited_and_its_lack_is_told() {
    let host = Host::new("oom").await;
    let sandbox = host.sandbox().await;
    // The first process itself grows; tail keeps an endless line in memory.
    let mut config = container("oom", "exec tail -n1 /dev/zero");
    config.linux.as_mut().unwrap().resources =
        Some(LinuxContainerResources { memory_limit_in_bytes: 16 << 20, cpu_shares: 100, ..Default::default() });
    let id = host.run(&sandbox, config).await;
    let status = host.ended(&id).await;
    assert_eq!((status.exit_code, status.reason.as_str()), (137, "OOMKilled"));
    host.finish().await;
}

#[tokio::test]
async fn running_containers_outlive_the_runtime() {
    let mut host = Host::new("adopt").await;
    let sandbox = host.sandbox().await;
    let id = host.run(&sandbox, container("long", "echo up; sleep 0.4; echo later; exec sleep 1000")).await;
    let short = host.run(&sandbox, container("short", "sleep 0.2; exit 5")).await;
    let pid = host.pid(&id).await;
    host.reopen().await;
    assert_eq!(host.status(&id).await.state(), ContainerState::ContainerRunning);
    assert_eq!(host.pid(&id).await, pid);
    assert_eq!(host.ended(&short).await.exit_code, 5);
    wait_for(|| host.log("long.log") == "up\nlater\n").await;
    assert_eq!(host.exec(&id, "echo still here").await.1, "still here\n");
    host.stop(&id, 0).await;
    host.reopen().await;
    assert_eq!(host.ended(&id).await.exit_code, 137, "its end is remembered");
    host.finish().await;
}

#[tokio::test]
async fn a_lost_shim_takes_its_containers_along() {
    let host = Host::new("lost").await;
    let sandbox = host.sandbox().await;
    let id = host.run(&sandbox, container("c", "sleep 1000")).await;
    let pid = host.pid(&id).await;
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let shim: i32 = stat.rsplit(')').next().unwrap().split_whitespace().nth(1).unwrap().parse().unwrap();
    rustix::process::kill_process(rustix::process::Pid::from_raw(shim).unwrap(), rustix::process::Signal::KILL)
        .unwrap();
    let status = host.ended(&id).await;
    assert_eq!(status.exit_code, 255);
    wait_for(|| !std::path::Path::new(&format!("/proc/{pid}")).exists()).await;
    let all = host.runtime.list_pod_sandbox(Default::default()).await.unwrap().items;
    assert_eq!(all[0].state(), PodSandboxState::SandboxNotready);
    host.remove_sandbox(&sandbox).await;
    host.finish().await;
}

#[tokio::test]
async fn logs_rotate_and_stats_are_read() {
    let host = Host::new("rotate").await;
    let sandbox = host.sandbox().await;
    let id = host
        .run(
            &sandbox,
            container("r", "echo one; while [ ! -e /tmp/go ]; do sleep 0.02; done; echo two; exec sleep 1000"),
        )
        .await;
    wait_for(|| host.log("r.log") == "one\n").await;
    std::fs::rename(host.logs().join("r.log"), host.logs().join("r.log.1")).unwrap();
    host.runtime.reopen_container_log(ReopenContainerLogRequest { container_id: id.clone() }).await.unwrap();
    host.exec(&id, "touch /tmp/go").await;
    wait_for(|| host.log("r.log") == "two\n").await;
    assert_eq!(host.log("r.log.1"), "one\n");
    let stats = host.runtime.container_stats(ContainerStatsRequest { container_id: id }).await.unwrap().stats.unwrap();
    assert!(stats.memory.unwrap().working_set_bytes.unwrap().value > 0);
    assert!(stats.cpu.unwrap().usage_core_nano_seconds.unwrap().value > 0);
    assert!(stats.writable_layer.unwrap().used_bytes.unwrap().value > 0);
    let request = PodSandboxStatsRequest { pod_sandbox_id: sandbox.clone() };
    let whole = host.runtime.pod_sandbox_stats(request).await.unwrap().stats.unwrap().linux.unwrap();
    assert!(whole.process.unwrap().process_count.unwrap().value > 0);
    assert!(whole.cpu.unwrap().usage_core_nano_seconds.unwrap().value > 0);
    assert_eq!(whole.containers.len(), 1);
    host.finish().await;
}

#[tokio::test]
async fn sandboxes_in_a_group_are_bounded_together() {
    let host = Host::new("bounds").await;
    let cgroups = knarr_os::cgroup::Cgroups::detect().unwrap();
    host.sandbox().await;
    let group = std::path::Path::new(host.name()).join("burstable");
    assert_eq!(cgroups.usage(&group).memory_limit_bytes, Some(LIMITS.memory_bytes.unsigned_abs()));
    let files = ["pids/", ""].map(|hierarchy| format!("/sys/fs/cgroup/{hierarchy}{}/pids.max", group.display()));
    let pids = files.iter().find_map(|file| std::fs::read_to_string(file).ok());
    assert_eq!(pids.as_deref(), Some("3000\n"));
    host.finish().await;
}

#[tokio::test]
async fn an_image_was_used_until_its_last_container_went() {
    let host = Host::new("used").await;
    let images = host.runtime.images();
    assert!(images.find(IMAGE).unwrap().unwrap().pinned, "what was imported nobody could pull");
    // As if it had been pulled long ago.
    let path = host.directory.path().join("data/images/index.json");
    let mut index: serde_json::Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    for image in index["images"].as_object_mut().unwrap().values_mut() {
        (image["pinned"], image["last_used_s"]) = (false.into(), 1.into());
    }
    std::fs::write(&path, index.to_string()).unwrap();
    let sandbox = host.sandbox().await;
    let id = host.run(&sandbox, container("c", "exit 0")).await;
    host.ended(&id).await;
    assert_eq!(images.find(IMAGE).unwrap().unwrap().last_used_s, 1);
    host.remove_sandbox(&sandbox).await;
    assert!(images.find(IMAGE).unwrap().unwrap().last_used_s > 1);
    host.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_pods_at_once() {
    let host = Host::new("many").await;
    let one = async |n: usize| {
        let began = Instant::now();
        let sandbox = host.sandbox_of(PodSandboxConfig {
            linux: Some(LinuxPodSandboxConfig { cgroup_parent: format!("pod-{n}"), ..Default::default() }),
            ..host.sandbox_config()
        });
        let sandbox = sandbox.await;
        let made = began.elapsed();
        let id = host.create(&sandbox, container(&format!("c{n}"), "exec /bin/sleep 1000")).await.unwrap();
        let created = began.elapsed();
        host.start(&id).await.unwrap();
        (sandbox, id, made, created, began.elapsed())
    };
    let (_, id, sandbox, created, started) = one(1000).await;
    eprintln!("one alone: sandbox {sandbox:?}, container {created:?}, started {started:?}");
    eprintln!("its shim: {}", shim_memory(host.pid(&id).await));
    let began = Instant::now();
    let pods = futures::future::join_all((0..12).map(one)).await;
    eprintln!("12 at once: {:?}", began.elapsed());
    let began = Instant::now();
    futures::future::join_all(pods.iter().map(|(sandbox, ..)| host.remove_sandbox(sandbox))).await;
    eprintln!("removed in {:?}", began.elapsed());
    host.finish().await;
}

/// Memory of a container's shim that it shares with no one.
fn shim_memory(container: i32) -> String {
    let stat = std::fs::read_to_string(format!("/proc/{container}/stat")).unwrap();
    let shim = stat.rsplit(')').next().unwrap().split_whitespace().nth(1).unwrap().to_owned();
    let rollup = std::fs::read_to_string(format!("/proc/{shim}/smaps_rollup")).unwrap();
    let line = |name: &str| {
        rollup
            .lines()
            .find(|l| l.starts_with(name))
            .unwrap_or_default()
            .split_whitespace()
            .collect::<Vec<_>>()
            .join(" ")
    };
    [line("Rss:"), line("Pss:"), line("Private_Dirty:"), line("Anonymous:")].join(", ")
}

#[tokio::test]
async fn the_built_in_image_is_there_at_once() {
    let host = Host::new("builtin").await;
    let began = Instant::now();
    let images = host.runtime.list_images(Default::default()).await.unwrap().images;
    eprintln!("listing images took {:?}", began.elapsed());
    let tags: Vec<&str> = images.iter().flat_map(|i| i.repo_tags.iter().map(String::as_str)).collect();
    assert!(knarr_runtime::images::BUILTIN_NAMES.iter().all(|n| tags.contains(n)), "{tags:?}");
    let layers = |name: &str| host.runtime.images().find(name).unwrap().unwrap().layers;
    assert_eq!(layers("knarr.local/demo:v1"), layers("knarr.local/demo:v2"), "the tags share their layer");
    let sandbox = host.sandbox().await;
    let mut config = container("demo", "");
    config.image = Some(ImageSpec { image: "knarr.local/demo:v2".into(), ..Default::default() });
    config.command.clear();
    host.run(&sandbox, config).await;
    wait_for(|| host.log("demo.log") == "demo v2\n").await;
    host.finish().await;
}

#[tokio::test]
async fn a_flood_of_output_is_logged_whole() {
    let host = Host::new("flood").await;
    let sandbox = host.sandbox().await;
    let began = Instant::now();
    let (status, log) = host.script(&sandbox, "flood", "seq 1 300000").await;
    eprintln!("300,000 lines took {:?}", began.elapsed());
    let expected: String = (1..=300_000).map(|n| format!("{n}\n")).collect();
    assert!(status.exit_code == 0 && log == expected, "{} of {} bytes", log.len(), expected.len());
    host.finish().await;
}

#[tokio::test]
async fn limits_change_while_a_container_runs_and_another_may_inspect_it() {
    let host = Host::new("update").await;
    let sandbox = host.sandbox().await;
    let id = host.run(&sandbox, container("c", "exec /bin/sleep 4711")).await;
    let linux = LinuxContainerResources { memory_limit_in_bytes: 32 << 20, cpu_shares: 300, ..Default::default() };
    let request =
        UpdateContainerResourcesRequest { container_id: id.clone(), linux: Some(linux), ..Default::default() };
    host.runtime.update_container_resources(request).await.unwrap();
    let told = host.status(&id).await.resources.unwrap().linux.unwrap();
    assert_eq!((told.memory_limit_in_bytes, told.cpu_shares), (32 << 20, 300));
    let seen =
        host.exec(&id, "cat /sys/fs/cgroup/memory/memory.limit_in_bytes /sys/fs/cgroup/memory.max 2>/dev/null").await.1;
    assert_eq!(seen, "33554432\n", "the container sees its limit");
    let inspect = with_security(container("debug", "ps -o args | grep -c '^/bin/sleep 4711$'"), |s| {
        let target = NamespaceOption { pid: NamespaceMode::Target.into(), target_id: id.clone(), ..Default::default() };
        s.namespace_options = Some(target);
    });
    assert_eq!(host.script_of(&sandbox, inspect).await.1, "1\n");
    assert_eq!(host.status(&id).await.state(), ContainerState::ContainerRunning);
    host.finish().await;
}

async fn wait_for(condition: impl Fn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "the condition does not come true");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
