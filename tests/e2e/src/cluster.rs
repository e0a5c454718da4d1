//! A cluster under test: the real binary, in a directory of its own, driven by the real kubectl.

use std::{
    env,
    ffi::OsString,
    fs,
    ops::Deref,
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};

use crate::{
    Clients,
    command::{Running, Said, run, start},
    host::HOST_IP,
    image,
};

pub struct Cluster {
    dir: tempfile::TempDir,
    knarr: PathBuf,
    clients: Clients,
    process: Option<Running>,
    environment: Vec<(&'static str, OsString)>,
}

pub(crate) fn from_env(name: &str) -> Result<PathBuf> {
    let path = env::var_os(name).with_context(|| format!("{name} is not set: run the tests by `./x test e2e`"))?;
    let path = PathBuf::from(path);
    if !path.exists() {
        bail!("{name} names {}, which does not exist", path.display());
    }
    Ok(path)
}

impl Deref for Cluster {
    type Target = Clients;

    fn deref(&self) -> &Clients {
        &self.clients
    }
}

impl Cluster {
    /// Prepares a cluster without starting it.
    pub fn new() -> Result<Self> {
        Self::new_in(&env::temp_dir())
    }

    /// As [`Cluster::new`], with all that it writes below a directory.
    pub fn new_in(parent: &Path) -> Result<Self> {
        let dir = tempfile::Builder::new().prefix("knarr-e2e-").tempdir_in(parent)?;
        let knarr = from_env("KNARR")?;
        let clients = Clients::new(dir.path(), &dir.path().join("data/admin.kubeconfig"))?;
        fs::create_dir(dir.path().join("images"))?;
        image::write_busybox(&dir.path().join("images/busybox.tar"))?;
        Ok(Self { dir, knarr, clients, process: None, environment: Vec::new() })
    }

    /// What the binary is to find in its environment from now on.
    pub fn set_env(&mut self, name: &'static str, value: impl Into<OsString>) {
        self.environment.push((name, value.into()));
    }

    pub fn data_dir(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    /// Where its sockets and its pods' shared memory are: named by the data directory's digest.
    pub fn run_dir(&self) -> Result<PathBuf> {
        let data = fs::canonicalize(self.data_dir())?;
        let digest = image::digest(data.as_os_str().as_bytes());
        Ok(Path::new("/run/knarr").join(&digest[..8]))
    }

    /// A scratch directory of the test run.
    pub fn scratch(&self) -> &Path {
        self.dir.path()
    }

    /// The binary with a command of its own; add arguments and run it.
    pub fn knarr(&self, command: &str) -> Command {
        let mut knarr = Command::new(&self.knarr);
        knarr.args(command.split(' ')).arg("--data-dir").arg(self.data_dir()).env("RUST_LOG", "info");
        knarr.envs(self.environment.iter().map(|(name, value)| (name, value)));
        knarr
    }

    /// The binary on the machine outside, which is to be an agent: in the same control groups, with the network of there.
    pub fn knarr_outside(&self, command: &str) -> Command {
        let mut knarr = Command::new("nsenter");
        knarr.arg(format!("--net=/run/netns/{}", crate::host::OUTSIDE)).arg(&self.knarr).args(command.split(' '));
        knarr.arg("--data-dir").arg(self.dir.path().join("agent")).env("RUST_LOG", "info");
        knarr
    }

    /// Starts the process in the foreground of a child and waits until the node is ready; returns how long that took.
    pub fn start(&mut self) -> Result<Duration> {
        let begun = Instant::now();
        self.spawn()?;
        self.wait_ready()?;
        Ok(begun.elapsed())
    }

    /// As [`Cluster::start`], with more arguments.
    pub fn start_with(&mut self, more: &[&str]) -> Result<()> {
        self.spawn_with(more)?;
        self.wait_ready()
    }

    /// Starts the process and waits for nothing.
    pub fn spawn(&mut self) -> Result<()> {
        self.spawn_with(&[])
    }

    fn spawn_with(&mut self, more: &[&str]) -> Result<()> {
        let mut up = self.knarr("up");
        up.args(more);
        up.arg("--kubeconfig").arg(self.dir.path().join("user.kubeconfig"));
        up.args(["--node-name", "node-1"]);
        // Another runtime has images of its own, and knows of none that it was imported: a full disk would cost them.
        if more.contains(&"--runtime") {
            up.args(["--image-gc-high-threshold", "100"]);
        } else {
            up.arg("--images").arg(self.dir.path().join("images"));
        }
        // The disk that the tests were built on may be nearly full.
        up.args(["--eviction-hard", "memory.available<100Mi,nodefs.available<100Mi,imagefs.available<100Mi"]);
        // Nobody waits as long here as a person does for an autoscaler.
        up.args(["--metric-resolution", "1s", "--horizontal-pod-autoscaler-sync-period", "1s"]);
        self.process = Some(start(&mut up, "")?);
        Ok(())
    }

    pub fn pid(&self) -> Option<u32> {
        self.process.as_ref().map(Running::id)
    }

    /// Waits until the node says that it is ready.
    pub fn wait_ready(&self) -> Result<()> {
        crate::eventually("the node is Ready", || {
            let node = self.get("node/node-1")?;
            let conditions = node["status"]["conditions"].as_array().cloned().unwrap_or_default();
            let ready = conditions.iter().any(|c| c["type"] == "Ready" && c["status"] == "True");
            if ready { Ok(()) } else { bail!("not ready: {}", node["status"]["conditions"]) }
        })
    }

    /// `kill -9`.
    pub fn kill(&mut self) -> Result<Said> {
        self.process.take().context("the cluster does not run")?.kill()
    }

    /// Ends the process by `knarr down`.
    pub fn stop(&mut self) -> Result<()> {
        let said = run(&mut self.knarr("down"))?;
        if said.code != 0 {
            bail!("knarr down failed: {}", said.all());
        }
        if let Some(process) = self.process.take() {
            process.finish(Duration::from_secs(30))?;
        }
        Ok(())
    }

    /// Ends everything by `knarr reset`.
    pub fn reset(&mut self) -> Result<Said> {
        let said = run(&mut self.knarr("reset --yes"))?;
        if let Some(process) = self.process.take() {
            let ended = process.finish(Duration::from_secs(30))?;
            if env::var_os("KNARR_TEST_LOG").is_some() {
                eprintln!("--- knarr up said:\n{}---", ended.all());
            }
        }
        if said.code != 0 {
            bail!("knarr reset failed: {}", said.all());
        }
        Ok(said)
    }

    /// The address that a client outside uses.
    pub fn address(&self) -> &'static str {
        HOST_IP
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if self.data_dir().exists() {
            let _ = self.reset();
        }
    }
}
