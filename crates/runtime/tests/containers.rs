//! Real containers, from beginning to end.

mod support;

use std::time::{Duration, Instant};

use knarr_cri::{ImageService, RuntimeService, v1::*};
use support::{Host, PATIENCE, container, with_security};

#[tokio::test]
async fn a_container_runs_logs_and_ends() {
    let Some(host) = Host::new("basic").await else { return };
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
async fn a_container_sees_its_own_world() {
    let Some(host) = Host::new("world").await else { return };
    let sandbox = host.sandbox().await;
    let check = async |name: &str, script: &str, expected: &str| {
        let (status, log) = host.script(&sandbox, name, script).await;
        assert_eq!((status.exit_code, log.as_str()), (0, expected), "{script}");
    };
    check("pid", "echo $$", "1\n").await;
    check("name", "hostname; cat /etc/hostname; echo $HOSTNAME", "knarr-pod\nknarr-pod\nknarr-pod\n").await;
    check("env", "echo $FROM $HOME", "image /root\n").await;
    check("layers", "cat /added; test ! -e /gone && echo gone", "by the second layer\ngone\n").await;
    check("hosts", "grep -c 10.1.2.3 /etc/hosts", "1\n").await;
    check(
        "masked",
        "cat /proc/interrupts | wc -c; echo x 2>/dev/null >/proc/sysrq-trigger || echo refused",
        "0\nrefused\n",
    )
    .await;
    check("dev", "echo x >/dev/null; head -c2 /dev/zero | wc -c; stat -c %a /dev/shm /dev/full", "2\n1777\n666\n")
        .await;
    check("sys", "mkdir /sys/fs/cgroup/x 2>/dev/null || echo read-only", "read-only\n").await;
    // A device node of the container's making is of no use.
    check("mknod", "mknod /disk b 254 0 && ! head -c1 /disk 2>/dev/null && echo useless", "useless\n").await;
    check("mount", "mount -t tmpfs none /tmp 2>/dev/null || echo refused", "refused\n").await;
    check("shm1", "echo shared >/dev/shm/f", "").await;
    check("shm2", "cat /dev/shm/f", "shared\n").await;
    check("net", "ls /sys/class/net", "lo\n").await;
    host.finish().await;
}

#[tokio::test]
async fn identity_and_rights_are_what_was_asked_for() {
    let Some(host) = Host::new("rights").await else { return };
    let sandbox = host.sandbox().await;
    let script = "id -u; id -g; id -G; grep -E '^(CapEff|NoNewPrivs|Seccomp):' /proc/self/status";
    let uid = |value| Some(Int64Value { value });
    let web = with_security(container("web", script), |s| s.run_as_username = "web".into());
    let (status, log) = host.script_of(&sandbox, web).await;
    assert_eq!(log, "101\n102\n102 200\nCapEff:\t0000000000000000\nNoNewPrivs:\t0\nSeccomp:\t0\n");
    let user = status.user.unwrap().linux.unwrap();
    assert_eq!((user.uid, user.gid, user.supplemental_groups), (101, 102, vec![102, 200]));
    let strict = with_security(container("strict", script), |s| {
        s.run_as_user = uid(5000);
        s.run_as_group = uid(6000);
        s.supplemental_groups = vec![7000];
        s.no_new_privs = true;
        s.seccomp = Some(SecurityProfile::default());
    });
    let (_, log) = host.script_of(&sandbox, strict).await;
    assert_eq!(log, "5000\n6000\n6000 7000\nCapEff:\t0000000000000000\nNoNewPrivs:\t1\nSeccomp:\t2\n");
    let root = with_security(container("root", script), |s| {
        s.capabilities = Some(Capability {
            drop_capabilities: vec!["ALL".into()],
            add_capabilities: vec!["CHOWN".into()],
            ..Default::default()
        });
    });
    let (_, log) = host.script_of(&sandbox, root).await;
    assert!(log.contains("CapEff:\t0000000000000001\n"), "{log}");
    let readonly =
        with_security(container("ro", "touch /x 2>/dev/null || echo refused; touch /dev/shm/y && echo shm"), |s| {
            s.readonly_rootfs = true;
        });
    assert_eq!(host.script_of(&sandbox, readonly).await.1, "refused\nshm\n");
    let nobody = with_security(container("nobody", "true"), |s| s.run_as_username = "nosuch".into());
    let error = host.create(&sandbox, nobody).await.unwrap_err().to_string();
    assert!(error.contains("unable to find user nosuch"), "{error}");
    host.finish().await;
}

#[tokio::test]
async fn the_default_seccomp_profile_really_blocks() {
    let Some(host) = Host::new("seccomp").await else { return };
    let sandbox = host.sandbox().await;
    // unshare(2) of a user namespace needs no capability: only the filter can refuse it.
    let script = "unshare -U true 2>/dev/null && echo allowed || echo blocked; echo works";
    let (_, log) = host.script(&sandbox, "unconfined", script).await;
    assert_eq!(log, "allowed\nworks\n");
    for no_new_privs in [false, true] {
        let config = with_security(container(&format!("default-{no_new_privs}"), script), |s| {
            s.seccomp = Some(SecurityProfile::default());
            s.no_new_privs = no_new_privs;
        });
        assert_eq!(host.script_of(&sandbox, config).await.1, "blocked\nworks\n");
    }
    let profile = host.directory.path().join("deny-mkdir.json");
    let deny =
        r#"{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["mkdir","mkdirat"],"action":"SCMP_ACT_ERRNO"}]}"#;
    std::fs::write(&profile, deny).unwrap();
    let config = with_security(
        container("local", "mkdir /tmp/x 2>/dev/null || echo blocked; touch /tmp/y && echo works"),
        |s| {
            let profile_type = security_profile::ProfileType::Localhost.into();
            s.seccomp = Some(SecurityProfile { profile_type, localhost_ref: profile.display().to_string() });
        },
    );
    assert_eq!(host.script_of(&sandbox, config).await.1, "blocked\nworks\n");
    host.finish().await;
}

#[tokio::test]
async fn mounts_show_the_hosts_files() {
    let Some(host) = Host::new("mounts").await else { return };
    let sandbox = host.sandbox().await;
    let source = host.directory.path().join("volume");
    std::fs::create_dir_all(source.join("sub")).unwrap();
    std::fs::write(source.join("f"), "from the host\n").unwrap();
    let mount = |path: &std::path::Path, target: &str, readonly: bool| Mount {
        host_path: path.display().to_string(),
        container_path: target.into(),
        readonly,
        ..Default::default()
    };
    let script = "cat /v/f /etc/one; touch /v/x 2>/dev/null || echo read-only; echo back >/v/sub/w; cat /etc/hosts";
    let mut config = container("m", script);
    config.mounts = vec![
        mount(&source.join("sub"), "/v/sub", false),
        mount(&source, "/v", true),
        mount(&source.join("f"), "/etc/one", true),
        mount(&source.join("f"), "/etc/hosts", true),
    ];
    let (_, log) = host.script_of(&sandbox, config).await;
    assert_eq!(log, "from the host\nfrom the host\nread-only\nfrom the host\n");
    assert_eq!(std::fs::read_to_string(source.join("sub/w")).unwrap(), "back\n");
    host.finish().await;
}

#[tokio::test]
async fn stopping_asks_first_and_kills_after() {
    let Some(host) = Host::new("stop").await else { return };
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
    let Some(host) = Host::new("failures").await else { return };
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
    let Some(host) = Host::new("oom").await else { return };
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
    let Some(mut host) = Host::new("adopt").await else { return };
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
    let Some(host) = Host::new("lost").await else { return };
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
async fn containers_may_share_processes() {
    let Some(host) = Host::new("sharedpid").await else { return };
    let mut config = host.sandbox_config();
    let options = NamespaceOption { pid: NamespaceMode::Pod.into(), ..Default::default() };
    config.linux.as_mut().unwrap().security_context.as_mut().unwrap().namespace_options = Some(options.clone());
    let sandbox = host.sandbox_of(config).await;
    let shared = |name: &str, script: &str| {
        with_security(container(name, script), |s| s.namespace_options = Some(options.clone()))
    };
    let one = host.run(&sandbox, shared("one", "sleep 4321 & exec sleep 1234")).await;
    // The first may not have come as far as its programs when the second looks.
    let look =
        "until ps -o args | grep -q '^[s]leep 1234' && ps -o args | grep -q '^[s]leep 4321'; do sleep 0.02; done";
    assert_eq!(host.script_of(&sandbox, shared("two", look)).await.0.exit_code, 0);
    // Its background process is not the namespace's first, and still ends with it.
    host.stop(&one, 0).await;
    let look = "while ps -o args | grep -q '^[s]leep 4321'; do sleep 0.02; done";
    assert_eq!(host.script_of(&sandbox, shared("three", look)).await.0.exit_code, 0);
    host.finish().await;
}

#[tokio::test]
async fn logs_rotate_and_stats_are_read() {
    let Some(host) = Host::new("rotate").await else { return };
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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_pods_at_once() {
    let Some(host) = Host::new("many").await else { return };
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
    let Some(host) = Host::new("builtin").await else { return };
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
    let Some(host) = Host::new("flood").await else { return };
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
    let Some(host) = Host::new("update").await else { return };
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

#[tokio::test]
async fn pods_may_use_the_hosts_network() {
    let Some(host) = Host::new("hostnet").await else { return };
    let mut config = host.sandbox_config();
    let options = NamespaceOption {
        network: NamespaceMode::Node.into(),
        pid: NamespaceMode::Node.into(),
        ipc: NamespaceMode::Node.into(),
        ..Default::default()
    };
    config.linux.as_mut().unwrap().security_context.as_mut().unwrap().namespace_options = Some(options.clone());
    let sandbox = host.sandbox_of(config).await;
    assert!(host.network.attached.lock().unwrap().is_empty(), "the pod network has no part in it");
    let script = "for ns in net pid ipc uts; do readlink /proc/self/ns/$ns; done";
    let node = with_security(container("c", script), |s| s.namespace_options = Some(options));
    let (_, log) = host.script_of(&sandbox, node).await;
    let own: String = ["net", "pid", "ipc", "uts"]
        .map(|ns| std::fs::read_link(format!("/proc/self/ns/{ns}")).unwrap().display().to_string() + "\n")
        .concat();
    assert_eq!(log, own);
    host.finish().await;
}

#[tokio::test]
async fn privileged_containers_may_mount_and_share_mounts_with_the_host() {
    let Some(host) = Host::new("privileged").await else { return };
    let sandbox = host.sandbox().await;
    let shared = host.directory.path().join("shared");
    std::fs::create_dir_all(shared.join("in")).unwrap();
    use rustix::mount::{MountFlags, MountPropagationFlags, UnmountFlags};
    rustix::mount::mount("tmpfs", &shared, "tmpfs", MountFlags::empty(), None).unwrap();
    rustix::mount::mount_change(&shared, MountPropagationFlags::SHARED).unwrap();
    std::fs::create_dir_all(shared.join("in")).unwrap();
    let mut config =
        with_security(container("p", "mount -t tmpfs none /s/in && echo seen >/s/in/f; ls /dev/pts/ptmx"), |s| {
            s.privileged = true
        });
    config.mounts = vec![Mount {
        host_path: shared.display().to_string(),
        container_path: "/s".into(),
        propagation: MountPropagation::PropagationBidirectional.into(),
        ..Default::default()
    }];
    let (status, log) = host.script_of(&sandbox, config).await;
    assert_eq!((status.exit_code, log.as_str()), (0, "/dev/pts/ptmx\n"));
    assert_eq!(
        std::fs::read_to_string(shared.join("in/f")).unwrap(),
        "seen\n",
        "the container's mount is the host's too"
    );
    for path in [shared.join("in"), shared] {
        rustix::mount::unmount(&path, UnmountFlags::DETACH).unwrap();
    }
    host.finish().await;
}

async fn wait_for(condition: impl Fn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "the condition does not come true");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
