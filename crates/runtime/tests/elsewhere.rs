//! CRI over a socket: one suite that a client of ours runs against the built-in runtime, as `crictl` would, and against
//! Debian's containerd, where `KNARR_TEST_CONTAINERD` names the root that it was unpacked to.

mod support;

use std::{fs, path::Path, process::Stdio, sync::Arc, time::Duration};

use knarr_cri::{ImageService, RuntimeService, StreamService, TerminalSize, v1::*};
use knarr_cri_grpc::{
    client::{Endpoint, Remote},
    server::{self, Server},
};
use support::{Host, IMAGE, PATIENCE, container};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::timeout,
};
use tokio_util::sync::CancellationToken;

/// The image of containerd's sandboxes.
const PAUSE: &str = "knarr.test/pause:1";

#[tokio::test]
async fn the_built_in_runtime_answers_on_its_socket() {
    let host = Host::new("socket").await;
    let path = host.directory.path().join("cri.sock");
    let (runtime, stop) = (host.runtime.clone(), CancellationToken::new());
    let served = server::Runtime { runtime: runtime.clone(), images: runtime.clone(), streams: runtime };
    let server = Server::bind(&path, served.clone()).await.unwrap();
    let task = tokio::spawn(server.serve(stop.clone()));
    // Nobody takes the place of one that answers.
    assert!(Server::bind(&path, served.clone()).await.is_err());
    let mode = std::os::unix::fs::PermissionsExt::mode(&fs::metadata(&path).unwrap().permissions());
    assert_eq!(mode & 0o777, 0o600);
    drop(served);
    let remote = open(&path, "built-in").await;
    suite(&remote, &host.logs()).await;
    assert_eq!(remote.version(VersionRequest::default()).await.unwrap().runtime_name, "knarr");
    remote.clear().await.unwrap();
    drop(remote);
    stop.cancel();
    task.await.unwrap();
    assert!(!path.exists());
    host.finish().await;
}

#[tokio::test]
async fn containerd_answers_the_same() {
    let Some(root) = std::env::var_os("KNARR_TEST_CONTAINERD") else {
        eprintln!("SKIPPED: KNARR_TEST_CONTAINERD names no containerd");
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    let archive = |file: &str, name, command| {
        support::write_image(&dir.path().join(file), &support::busybox(), name, command);
    };
    archive("busybox.tar", IMAGE, r#"["/bin/sh"]"#);
    archive("pause.tar", PAUSE, r#"["/bin/sleep", "1000000"]"#);
    let mut containerd = containerd(Path::new(&root), dir.path()).await;
    let remote = open(&dir.path().join("c.sock"), "containerd").await;
    suite(&remote, &dir.path().join("logs")).await;
    assert_eq!(remote.version(VersionRequest::default()).await.unwrap().runtime_name, "containerd");
    remote.clear().await.unwrap();
    containerd.kill().await.unwrap();
}

/// In a mount namespace of its own, since its shims write to one place whatever they are told.
async fn containerd(root: &Path, dir: &Path) -> tokio::process::Child {
    let (usr, at) = (root.join("usr"), dir.display());
    let config = format!(
        r#"version = 2
root = "{at}/root"
state = "{at}/state"
[grpc]
address = "{at}/c.sock"
[plugins."io.containerd.internal.v1.opt"]
path = "{at}/opt"
[plugins."io.containerd.grpc.v1.cri"]
sandbox_image = "{PAUSE}"
disable_apparmor = true
restrict_oom_score_adj = true
[plugins."io.containerd.grpc.v1.cri".cni]
conf_dir = "{at}/none"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
Root = "{at}/runc"
"#
    );
    fs::write(dir.join("config.toml"), config).unwrap();
    let script = "mount -t tmpfs tmpfs /run && \
                  exec containerd --config \"$0/config.toml\" >\"$0/log\" 2>&1";
    let child = tokio::process::Command::new("unshare")
        .args(["--mount", "--propagation", "private", "sh", "-c", script])
        .arg(dir)
        .env("PATH", format!("{0}/bin:{0}/sbin:/usr/sbin:/usr/bin:/sbin:/bin", usr.display()))
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let import = async |archive: &str| {
        let mut ctr = tokio::process::Command::new(usr.join("bin/ctr"));
        ctr.arg("--address").arg(dir.join("c.sock")).args(["--namespace", "k8s.io", "images", "import"]);
        ctr.arg(dir.join(archive)).output().await.unwrap().status.success()
    };
    let ready = async {
        while !(import("busybox.tar").await && import("pause.tar").await) {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    let said = timeout(PATIENCE, ready).await;
    assert!(said.is_ok(), "{}", fs::read_to_string(dir.join("log")).unwrap_or_default());
    child
}

async fn open(socket: &Path, name: &str) -> Arc<Remote> {
    let endpoint: Endpoint = format!("unix://{}", socket.display()).parse().unwrap();
    let group = format!("knarr-test-elsewhere-{name}-{}", std::process::id());
    Remote::open(&endpoint, group.into()).await.unwrap()
}

/// A pod in the host's network, so that no plugin is needed.
fn sandbox_config(logs: &Path) -> PodSandboxConfig {
    let options = NamespaceOption {
        network: NamespaceMode::Node.into(),
        pid: NamespaceMode::Container.into(),
        ..NamespaceOption::default()
    };
    let security = LinuxSandboxSecurityContext { namespace_options: Some(options), ..Default::default() };
    let resources = LinuxContainerResources { memory_limit_in_bytes: 256 << 20, ..Default::default() };
    PodSandboxConfig {
        metadata: Some(PodSandboxMetadata { name: "p".into(), namespace: "d".into(), uid: "u".into(), attempt: 0 }),
        log_directory: logs.display().to_string(),
        labels: [("app".to_owned(), "suite".to_owned())].into(),
        linux: Some(LinuxPodSandboxConfig {
            cgroup_parent: "/pods/pod-u".into(),
            security_context: Some(security),
            resources: Some(resources),
            ..Default::default()
        }),
        ..Default::default()
    }
}

async fn suite(remote: &Remote, logs: &Path) {
    fs::create_dir_all(logs).unwrap();
    let status = remote.status(StatusRequest::default()).await.unwrap().status.unwrap();
    assert!(status.conditions.iter().any(|condition| condition.r#type == "RuntimeReady" && condition.status));
    images(remote).await;

    let mut events = remote.container_events();
    let config = sandbox_config(logs);
    let request = RunPodSandboxRequest { config: Some(config.clone()), ..Default::default() };
    let sandbox = remote.run_pod_sandbox(request).await.unwrap().pod_sandbox_id;
    let filter = PodSandboxFilter { label_selector: config.labels.clone(), ..Default::default() };
    let listed = remote.list_pod_sandbox(ListPodSandboxRequest { filter: Some(filter) }).await.unwrap().items;
    assert_eq!(listed.iter().map(|sandbox| &sandbox.id).collect::<Vec<_>>(), [&sandbox]);

    let script = "echo begun; trap 'exit 7' TERM; \
                  (while true; do echo from inside | nc -l -p 18099; done) & while true; do sleep 0.1; done";
    let mut wanted = container("c", script);
    wanted.linux.as_mut().unwrap().security_context.as_mut().unwrap().namespace_options =
        config.linux.as_ref().unwrap().security_context.as_ref().unwrap().namespace_options.clone();
    let request = CreateContainerRequest {
        pod_sandbox_id: sandbox.clone(),
        config: Some(wanted),
        sandbox_config: Some(config.clone()),
    };
    let id = remote.create_container(request).await.unwrap().container_id;
    remote.start_container(StartContainerRequest { container_id: id.clone() }).await.unwrap();
    let heard = async { while events.recv().await.unwrap().container_id != id {} };
    timeout(PATIENCE, heard).await.expect("the container's beginning is told");

    streams(remote, &sandbox, &id).await;
    let stats = remote.container_stats(ContainerStatsRequest { container_id: id.clone() }).await.unwrap().stats;
    assert!(stats.unwrap().memory.unwrap().working_set_bytes.unwrap().value > 0);

    let run = sandbox.clone();
    let resources = LinuxContainerResources { memory_limit_in_bytes: 128 << 20, ..Default::default() };
    let request = UpdatePodSandboxResourcesRequest {
        pod_sandbox_id: run,
        resources: Some(resources.clone()),
        ..Default::default()
    };
    remote.update_pod_sandbox_resources(request).await.unwrap();
    let request = UpdateContainerResourcesRequest {
        container_id: id.clone(),
        linux: Some(LinuxContainerResources { memory_limit_in_bytes: 64 << 20, ..Default::default() }),
        ..Default::default()
    };
    remote.update_container_resources(request).await.unwrap();

    // Its last words are not the last of its log.
    fs::rename(logs.join("c.log"), logs.join("c.log.1")).unwrap();
    remote.reopen_container_log(ReopenContainerLogRequest { container_id: id.clone() }).await.unwrap();
    assert!(logs.join("c.log").exists() && fs::read_to_string(logs.join("c.log.1")).unwrap().contains("begun"));

    remote.stop_container(StopContainerRequest { container_id: id.clone(), timeout: 30 }).await.unwrap();
    let request = ContainerStatusRequest { container_id: id.clone(), verbose: false };
    let status = remote.container_status(request.clone()).await.unwrap().status.unwrap();
    assert_eq!((status.state(), status.exit_code), (ContainerState::ContainerExited, 7));
    remote.remove_container(RemoveContainerRequest { container_id: id.clone() }).await.unwrap();
    let gone = remote.container_status(request).await.unwrap_err();
    assert!(gone.is_not_found(), "{gone}");
    let exec = ExecSyncRequest { container_id: id.clone(), cmd: vec!["true".into()], timeout: 1 };
    assert!(remote.exec_sync(exec).await.unwrap_err().is_not_found());

    remote.stop_pod_sandbox(StopPodSandboxRequest { pod_sandbox_id: sandbox.clone() }).await.unwrap();
    remote.remove_pod_sandbox(RemovePodSandboxRequest { pod_sandbox_id: sandbox.clone() }).await.unwrap();
    assert!(remote.list_pod_sandbox(ListPodSandboxRequest::default()).await.unwrap().items.is_empty());
}

async fn images(remote: &Remote) {
    let listed = remote.list_images(ListImagesRequest::default()).await.unwrap().images;
    assert!(listed.iter().any(|image| image.repo_tags.iter().any(|tag| tag == IMAGE)), "{listed:?}");
    let status = |name: &str| {
        let image = ImageSpec { image: name.into(), ..Default::default() };
        remote.image_status(ImageStatusRequest { image: Some(image), verbose: false })
    };
    assert!(status(IMAGE).await.unwrap().image.is_some());
    assert!(status("knarr.test/none:1").await.unwrap().image.is_none());
    // Nothing answers there.
    let image = ImageSpec { image: "127.0.0.1:9/none:1".into(), ..Default::default() };
    let error = remote.pull_image(PullImageRequest { image: Some(image), ..Default::default() }).await.unwrap_err();
    assert!(error.to_string().starts_with("rpc error: code = "), "{error}");
}

async fn streams(remote: &Remote, sandbox: &str, id: &str) {
    let cmd = |script: &str| ["/bin/sh", "-c", script].map(str::to_owned).to_vec();
    let request = |script: &str, timeout| ExecSyncRequest { container_id: id.into(), cmd: cmd(script), timeout };
    let said = remote.exec_sync(request("echo out; echo err >&2; exit 9", 30)).await.unwrap();
    assert_eq!((said.exit_code, &said.stdout[..], &said.stderr[..]), (9, &b"out\n"[..], &b"err\n"[..]));
    let late = remote.exec_sync(request("sleep 60", 1)).await.unwrap_err();
    assert!(matches!(late, knarr_cri::CriError::DeadlineExceeded { .. }), "{late}");

    // There and back, more than any window holds.
    let exec =
        |script: &str| ExecRequest { container_id: id.into(), cmd: cmd(script), stdout: true, ..Default::default() };
    let mut session = remote.exec(ExecRequest { stdin: true, ..exec("cat; exit 4") }).await.unwrap();
    let (mut stdin, mut stdout) = (session.stdin.take().unwrap(), session.stdout.take().unwrap());
    let sent: Vec<u8> = (0..300_000_u32).flat_map(u32::to_le_bytes).collect();
    let mut back = Vec::new();
    let writing = async {
        stdin.write_all(&sent).await.unwrap();
        drop(stdin);
    };
    let both = async { tokio::join!(writing, stdout.read_to_end(&mut back)) };
    timeout(PATIENCE, both).await.expect("an end of input that arrives").1.unwrap();
    assert!(back == sent, "{} of {} bytes came back", back.len(), sent.len());
    assert_eq!(timeout(PATIENCE, session.exit).await.unwrap().unwrap(), 4);

    // A terminal, and its size.
    let request = ExecRequest { stdin: true, tty: true, ..exec("read line; stty size") };
    let mut session = remote.exec(request).await.unwrap();
    session.resize.as_ref().unwrap().send(TerminalSize { width: 123, height: 45 }).await.unwrap();
    let mut stdin = session.stdin.take().unwrap();
    tokio::time::sleep(Duration::from_millis(500)).await;
    stdin.write_all(b"go\n").await.unwrap();
    let mut shown = String::new();
    timeout(PATIENCE, session.stdout.take().unwrap().read_to_string(&mut shown)).await.unwrap().unwrap();
    assert!(shown.contains("45 123"), "{shown:?}");

    // A port of the pod, and one where nobody listens.
    let mut tunnel = remote.port_forward(sandbox, 18099).await.unwrap();
    let mut said = String::new();
    timeout(PATIENCE, tunnel.read_to_string(&mut said)).await.unwrap().unwrap();
    assert_eq!(said, "from inside\n");
    drop(tunnel);
    let mut tunnel = remote.port_forward(sandbox, 18098).await.unwrap();
    let error = timeout(PATIENCE, tunnel.read_to_string(&mut said)).await.unwrap().unwrap_err().to_string();
    assert!(error.contains("18098"), "{error}");
}
