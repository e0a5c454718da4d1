//! A runtime on a directory of its own, a network that only remembers, and a small image.
#![allow(dead_code)]

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use async_trait::async_trait;
use knarr_cri::{NetworkAddress, NetworkRequest, PodNetwork, RuntimeService, v1::*};
use knarr_runtime::{Config, EmbeddedRuntime, Limits};

/// Hands out no connectivity; remembers who is attached.
#[derive(Default)]
pub struct FakeNetwork {
    pub attached: Mutex<BTreeMap<String, PathBuf>>,
}

#[async_trait]
impl PodNetwork for FakeNetwork {
    async fn add(&self, request: &NetworkRequest) -> knarr_cri::Result<NetworkAddress> {
        assert!(request.netns.exists(), "the network namespace is there when the network is asked");
        self.attached.lock().unwrap().insert(request.sandbox_id.clone(), request.netns.clone());
        Ok(NetworkAddress { ips: vec!["10.1.2.3".parse().unwrap()] })
    }

    async fn del(&self, request: &NetworkRequest) -> knarr_cri::Result<()> {
        self.attached.lock().unwrap().remove(&request.sandbox_id);
        Ok(())
    }

    async fn status(&self) -> knarr_cri::Result<()> {
        Ok(())
    }
}

/// How long anything is waited for. Nothing takes that long; a busy machine may make it seem so.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// A runtime of its own; all it made is removed at the end.
pub struct Host {
    pub runtime: Arc<EmbeddedRuntime>,
    pub network: Arc<FakeNetwork>,
    cleanup: Cleanup,
    pub directory: Directory,
    name: String,
}

/// A test that fails leaves nothing behind either.
struct Cleanup(Config);

/// A directory, removed with its owner.
pub struct Directory {
    path: PathBuf,
    _owned: Option<tempfile::TempDir>,
}

impl Directory {
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// What all sandboxes together may use.
pub const LIMITS: Limits = Limits { cpu_shares: 512, memory_bytes: 1 << 40, pids: 3000 };

/// The name of the test image.
pub const IMAGE: &str = "knarr.test/busybox:1";

impl Host {
    /// Fails where containers cannot be made: a test of containers that made none has shown nothing.
    pub async fn new(name: &str) -> Self {
        assert!(rustix::process::geteuid().is_root(), "these tests make containers; run them as root");
        let busybox = busybox();
        let owned = tempfile::tempdir().unwrap();
        let directory = Directory { path: owned.path().to_owned(), _owned: Some(owned) };
        let network = Arc::new(FakeNetwork::default());
        let name = format!("knarr-test-{name}-{}", std::process::id());
        let runtime = EmbeddedRuntime::open(config(directory.path(), &name, &network)).await.unwrap();
        let archive = directory.path().join("busybox.tar");
        write_archive(&archive, &busybox);
        assert_eq!(runtime.images().import(&archive).unwrap(), [IMAGE]);
        let cleanup = Cleanup(config(directory.path(), &name, &network));
        Self { runtime, network, cleanup, directory, name }
    }

    /// A further process's view of a host that another test has made; it cleans nothing up.
    pub async fn existing(directory: &Path, name: &str) -> Self {
        let network = Arc::new(FakeNetwork::default());
        let runtime = EmbeddedRuntime::open(config(directory, name, &network)).await.unwrap();
        let cleanup = Cleanup(config(directory, name, &network));
        let directory = Directory { path: directory.to_owned(), _owned: None };
        Self { runtime, network, cleanup, directory, name: name.to_owned() }
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    pub fn config(&self) -> Config {
        self.cleanup.0.clone()
    }

    /// What `kill -9` and a new start leave: another runtime on the same directories.
    pub async fn reopen(&mut self) {
        self.runtime = EmbeddedRuntime::open(self.config()).await.unwrap();
    }

    pub fn logs(&self) -> PathBuf {
        self.directory.path().join("logs")
    }

    pub fn sandbox_config(&self) -> PodSandboxConfig {
        let security = LinuxSandboxSecurityContext {
            namespace_options: Some(NamespaceOption { pid: NamespaceMode::Container.into(), ..Default::default() }),
            ..Default::default()
        };
        PodSandboxConfig {
            metadata: Some(PodSandboxMetadata {
                name: "pod".into(),
                namespace: "ns".into(),
                uid: "u1".into(),
                attempt: 0,
            }),
            hostname: "knarr-pod".into(),
            log_directory: self.logs().display().to_string(),
            linux: Some(LinuxPodSandboxConfig {
                cgroup_parent: "/burstable/pod-u1".into(),
                security_context: Some(security),
                ..Default::default()
            }),
            ..Default::default()
        }
    }

    pub async fn sandbox(&self) -> String {
        self.sandbox_of(self.sandbox_config()).await
    }

    pub async fn sandbox_of(&self, config: PodSandboxConfig) -> String {
        let request = RunPodSandboxRequest { config: Some(config), ..Default::default() };
        self.runtime.run_pod_sandbox(request).await.unwrap().pod_sandbox_id
    }

    pub async fn create(&self, sandbox: &str, config: ContainerConfig) -> knarr_cri::Result<String> {
        let request =
            CreateContainerRequest { pod_sandbox_id: sandbox.into(), config: Some(config), ..Default::default() };
        RuntimeService::create_container(&*self.runtime, request).await.map(|r| r.container_id)
    }

    pub async fn start(&self, id: &str) -> knarr_cri::Result<()> {
        let request = StartContainerRequest { container_id: id.into() };
        RuntimeService::start_container(&*self.runtime, request).await.map(|_| ())
    }

    /// Creates and starts.
    pub async fn run(&self, sandbox: &str, config: ContainerConfig) -> String {
        let id = self.create(sandbox, config).await.unwrap();
        self.start(&id).await.unwrap();
        id
    }

    pub async fn status(&self, id: &str) -> ContainerStatus {
        let request = ContainerStatusRequest { container_id: id.into(), verbose: false };
        self.runtime.container_status(request).await.unwrap().status.unwrap()
    }

    pub async fn pid(&self, id: &str) -> i32 {
        let request = ContainerStatusRequest { container_id: id.into(), verbose: true };
        self.runtime.container_status(request).await.unwrap().info["pid"].parse().unwrap()
    }

    pub async fn ended(&self, id: &str) -> ContainerStatus {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let status = self.status(id).await;
            if status.state() == ContainerState::ContainerExited {
                return status;
            }
            assert!(Instant::now() < deadline, "container {id} does not end: {status:?}");
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    pub async fn stop(&self, id: &str, timeout: i64) {
        let request = StopContainerRequest { container_id: id.into(), timeout };
        RuntimeService::stop_container(&*self.runtime, request).await.unwrap();
    }

    pub async fn exec(&self, id: &str, script: &str) -> (i32, String, String) {
        let cmd = ["/bin/sh", "-c", script].map(str::to_owned).to_vec();
        let request = ExecSyncRequest { container_id: id.into(), cmd, timeout: PATIENCE.as_secs() as i64 };
        let r = self.runtime.exec_sync(request).await.unwrap();
        let text = |b: Vec<u8>| String::from_utf8(b).unwrap();
        (r.exit_code, text(r.stdout), text(r.stderr))
    }

    /// Runs a script as a container of its own and gives its end and its log without times.
    pub async fn script(&self, sandbox: &str, name: &str, script: &str) -> (ContainerStatus, String) {
        let config = container(name, script);
        self.script_of(sandbox, config).await
    }

    pub async fn script_of(&self, sandbox: &str, config: ContainerConfig) -> (ContainerStatus, String) {
        let name = config.log_path.clone();
        let id = self.run(sandbox, config).await;
        let status = self.ended(&id).await;
        (status, self.log(&name))
    }

    pub fn log(&self, name: &str) -> String {
        let text = fs::read_to_string(self.logs().join(name)).unwrap_or_default();
        text.lines().map(|l| l.splitn(4, ' ').nth(3).unwrap_or("").to_owned() + "\n").collect()
    }

    pub async fn remove_sandbox(&self, id: &str) {
        self.runtime.remove_pod_sandbox(RemovePodSandboxRequest { pod_sandbox_id: id.into() }).await.unwrap();
    }

    /// Resets and asserts that nothing is left anywhere.
    pub async fn finish(self) {
        let Self { runtime, network, cleanup, directory, name } = self;
        // One that is still there would write down how its pods end, into the folders that are being removed.
        let ends = Arc::downgrade(&runtime);
        drop(runtime);
        let deadline = Instant::now() + PATIENCE;
        while ends.strong_count() > 0 {
            assert!(Instant::now() < deadline, "something of the runtime goes on");
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        knarr_runtime::reset(&cleanup.0).await.unwrap();
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
        let path = directory.path().display().to_string();
        assert!(!mounts.contains(&path), "a mount is left: {mounts}");
        assert!(!left_in_cgroups(&name), "a control group is left");
        assert!(network.attached.lock().unwrap().is_empty(), "a network attachment is left");
        while let Some(process) = process_naming(&path) {
            assert!(Instant::now() < deadline, "a process is left: {process}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

impl Drop for Cleanup {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let config = self.0.clone();
            let reset = move || {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
                let _ = runtime.block_on(knarr_runtime::reset(&config));
            };
            let _ = std::thread::spawn(reset).join();
        }
    }
}

fn config(directory: &Path, name: &str, network: &Arc<FakeNetwork>) -> Config {
    Config {
        data_dir: directory.join("data"),
        run_dir: directory.join("run"),
        cgroup_root: name.into(),
        registries: None,
        limits: LIMITS,
        network: network.clone(),
        exe: env!("CARGO_BIN_EXE_knarr-test-shim").into(),
    }
}

fn left_in_cgroups(name: &str) -> bool {
    let Ok(hierarchies) = fs::read_dir("/sys/fs/cgroup") else { return false };
    hierarchies.flatten().any(|h| h.path().join(name).exists())
}

fn process_naming(path: &str) -> Option<String> {
    let processes = fs::read_dir("/proc").unwrap().flatten();
    let lines = processes.filter_map(|p| fs::read_to_string(p.path().join("cmdline")).ok());
    lines.map(|l| l.replace('\0', " ")).find(|l| l.contains(path))
}

/// A static busybox: on the path, in `KNARR_TEST_BUSYBOX`, or nowhere.
pub fn busybox() -> PathBuf {
    let named = std::env::var_os("KNARR_TEST_BUSYBOX").map(PathBuf::from);
    let candidates = named.into_iter().chain(["/bin/busybox", "/usr/bin/busybox"].map(PathBuf::from));
    let found = candidates.into_iter().find(|p| p.is_file());
    found.expect("no busybox: install busybox-static, or name one in KNARR_TEST_BUSYBOX")
}

pub fn container(name: &str, script: &str) -> ContainerConfig {
    ContainerConfig {
        metadata: Some(ContainerMetadata { name: name.into(), attempt: 0 }),
        image: Some(ImageSpec { image: IMAGE.into(), ..Default::default() }),
        command: ["/bin/sh", "-c", script].map(str::to_owned).to_vec(),
        log_path: format!("{name}.log"),
        linux: Some(LinuxContainerConfig { security_context: Some(security()), ..Default::default() }),
        ..Default::default()
    }
}

pub fn security() -> LinuxContainerSecurityContext {
    LinuxContainerSecurityContext {
        namespace_options: Some(NamespaceOption { pid: NamespaceMode::Container.into(), ..Default::default() }),
        ..Default::default()
    }
}

pub fn with_security(
    mut config: ContainerConfig,
    change: impl FnOnce(&mut LinuxContainerSecurityContext),
) -> ContainerConfig {
    let mut security = security();
    change(&mut security);
    config.linux.get_or_insert_default().security_context = Some(security);
    config
}

/// A docker-archive of two layers: busybox with its names, and one that deletes a file of the first.
fn write_archive(path: &Path, busybox: &Path) {
    write_image(path, busybox, IMAGE, r#"["/bin/sh"]"#);
}

/// The same under another name, with another command as JSON.
pub fn write_image(path: &Path, busybox: &Path, name: &str, command: &str) {
    let program = fs::read(busybox).unwrap();
    let mut base = tar::Builder::new(Vec::new());
    file(&mut base, "bin/busybox", &program, 0o755);
    let applets = [
        "sh", "cat", "echo", "sleep", "ls", "id", "mount", "mkdir", "kill", "ps", "grep", "mknod", "head", "env",
        "hostname", "touch", "stat", "readlink", "dd", "nc", "true", "chmod", "wc", "tty", "stty", "unshare", "trap",
        "seq", "umount", "tail", "cp", "rm",
    ];
    for applet in applets {
        link(&mut base, &format!("bin/{applet}"), "busybox");
    }
    file(&mut base, "etc/passwd", b"root:x:0:0:root:/root:/bin/sh\nweb:x:101:102:web:/srv:/bin/sh\n", 0o644);
    file(&mut base, "etc/group", b"root:x:0:\nwww:x:102:\nextra:x:200:web\n", 0o644);
    file(&mut base, "gone", b"deleted by the next layer", 0o644);
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(tar::EntryType::Directory);
    header.set_mode(0o1777);
    header.set_size(0);
    base.append_data(&mut header, "tmp/", &[][..]).unwrap();
    let base = base.into_inner().unwrap();
    let mut top = tar::Builder::new(Vec::new());
    file(&mut top, ".wh.gone", b"", 0o644);
    file(&mut top, "added", b"by the second layer\n", 0o644);
    let top = top.into_inner().unwrap();
    let digest = |bytes: &[u8]| {
        use sha2::Digest;
        let hash = sha2::Sha256::digest(bytes);
        hash.iter().map(|b| format!("{b:02x}")).collect::<String>()
    };
    let config = format!(
        r#"{{"architecture":"amd64","os":"linux","config":{{"Env":["PATH=/bin","FROM=image"],"Cmd":{command}}},"rootfs":{{"type":"layers","diff_ids":["sha256:{}","sha256:{}"]}}}}"#,
        digest(&base),
        digest(&top)
    );
    let manifest = format!(r#"[{{"Config":"c.json","RepoTags":["{name}"],"Layers":["l1/layer.tar","l2/layer.tar"]}}]"#);
    let mut archive = tar::Builder::new(fs::File::create(path).unwrap());
    for (name, bytes) in [
        ("l1/layer.tar", &base[..]),
        ("l2/layer.tar", &top),
        ("c.json", config.as_bytes()),
        ("manifest.json", manifest.as_bytes()),
    ] {
        file(&mut archive, name, bytes, 0o644);
    }
    archive.finish().unwrap();
}

fn file<W: std::io::Write>(builder: &mut tar::Builder<W>, name: &str, bytes: &[u8], mode: u32) {
    let mut header = tar::Header::new_gnu();
    header.set_size(bytes.len() as u64);
    header.set_mode(mode);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(1_600_000_000);
    builder.append_data(&mut header, name, bytes).unwrap();
}

fn link<W: std::io::Write>(builder: &mut tar::Builder<W>, name: &str, to: &str) {
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(tar::EntryType::Symlink);
    header.set_size(0);
    header.set_mode(0o777);
    header.set_uid(0);
    header.set_gid(0);
    builder.append_link(&mut header, name, to).unwrap();
}
