//! A cluster under test: the real binary, in a directory of its own, driven by the real kubectl.

use std::{
    env, fs,
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
    process::Command,
    sync::atomic::{AtomicU32, Ordering},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use kube::config::{KubeConfigOptions, Kubeconfig};
use serde_json::Value;

use crate::{
    command::{PATIENCE, Running, Said, run, run_with, start},
    host::HOST_IP,
    image,
};

/// The administrator's credentials as files, for clients that are not kubectl.
pub struct RawConfig {
    pub server: String,
    pub ca: PathBuf,
    pub certificate: PathBuf,
    pub key: PathBuf,
}

pub struct Cluster {
    dir: tempfile::TempDir,
    knarr: PathBuf,
    tools: PathBuf,
    process: Option<Running>,
}

static NAMESPACES: AtomicU32 = AtomicU32::new(0);

fn from_env(name: &str) -> Result<PathBuf> {
    let path = env::var_os(name).with_context(|| format!("{name} is not set: run the tests by `./x test e2e`"))?;
    let path = PathBuf::from(path);
    if !path.exists() {
        bail!("{name} names {}, which does not exist", path.display());
    }
    Ok(path)
}

impl Cluster {
    /// Prepares a cluster without starting it.
    pub fn new() -> Result<Self> {
        let dir = tempfile::Builder::new().prefix("knarr-e2e-").tempdir()?;
        let (knarr, tools) = (from_env("KNARR")?, from_env("KNARR_TEST_TOOLS")?);
        fs::create_dir(dir.path().join("images"))?;
        image::write_busybox(&dir.path().join("images/busybox.tar"))?;
        Ok(Self { dir, knarr, tools, process: None })
    }

    pub fn data_dir(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    pub fn kubeconfig(&self) -> PathBuf {
        self.data_dir().join("admin.kubeconfig")
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
        up.arg("--images").arg(self.dir.path().join("images")).args(["--node-name", "node-1"]);
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
        Ok(said)
    }

    /// A namespace that no other test uses.
    pub fn namespace(&self, prefix: &str) -> Result<String> {
        let name = format!("{prefix}-{}", NAMESPACES.fetch_add(1, Ordering::Relaxed));
        self.kubectl(&format!("create namespace {name}"))?;
        crate::eventually("the default service account exists", || {
            self.kubectl(&format!("get serviceaccount default -n {name}"))
        })?;
        Ok(name)
    }

    /// kubectl with words of its own; for what has blanks in an argument.
    pub fn kubectl_command(&self, args: &[&str]) -> Command {
        let mut kubectl = Command::new(self.tools.join("kubectl"));
        kubectl.env("KUBECONFIG", self.kubeconfig()).env("KUBECACHEDIR", self.dir.path().join("cache")).args(args);
        kubectl
    }

    pub fn helm_command(&self, line: &str) -> Command {
        let mut helm = Command::new(self.tools.join("helm"));
        let home = self.dir.path().join("helm");
        helm.env("KUBECONFIG", self.kubeconfig()).env("HELM_CACHE_HOME", home.join("cache"));
        helm.env("HELM_CONFIG_HOME", home.join("config")).env("HELM_DATA_HOME", home.join("data"));
        helm.args(line.split_whitespace());
        helm
    }

    /// Runs kubectl, which must succeed; returns what it printed.
    pub fn kubectl(&self, line: &str) -> Result<String> {
        self.kubectl_args(&line.split_whitespace().collect::<Vec<_>>())
    }

    pub fn kubectl_args(&self, args: &[&str]) -> Result<String> {
        let said = run(&mut self.kubectl_command(args))?;
        if said.code != 0 {
            bail!("kubectl {} failed with {}:\n{}", args.join(" "), said.code, said.all());
        }
        Ok(said.stdout)
    }

    /// Runs kubectl, which must fail; returns what it said.
    pub fn kubectl_fails(&self, line: &str) -> Result<String> {
        let said = run(&mut self.kubectl_command(&line.split_whitespace().collect::<Vec<_>>()))?;
        if said.code == 0 {
            bail!("kubectl {line} succeeded:\n{}", said.all());
        }
        Ok(said.all())
    }

    /// Runs kubectl with `stdin`, which must succeed.
    pub fn kubectl_stdin(&self, line: &str, stdin: &str) -> Result<String> {
        let said = run_with(&mut self.kubectl_command(&line.split_whitespace().collect::<Vec<_>>()), stdin, PATIENCE)?;
        if said.code != 0 {
            bail!("kubectl {line} failed with {}:\n{}\nfor:\n{stdin}", said.code, said.all());
        }
        Ok(said.stdout)
    }

    /// `kubectl apply -f -`
    pub fn apply(&self, namespace: &str, yaml: &str) -> Result<String> {
        self.kubectl_stdin(&format!("apply -n {namespace} -f -"), yaml)
    }

    /// One object as JSON; `what` as kubectl's arguments, such as `pod/web -n test`.
    pub fn get(&self, what: &str) -> Result<Value> {
        Ok(serde_json::from_str(&self.kubectl(&format!("get {what} -o json"))?)?)
    }

    /// Waits until kubectl's jsonpath of `what` is `wanted`.
    pub fn expect(&self, what: &str, jsonpath: &str, wanted: &str) -> Result<()> {
        let path = format!("-o=jsonpath={jsonpath}");
        crate::eventually(&format!("{what}: {jsonpath} is {wanted:?}"), || {
            let mut args: Vec<&str> = vec!["get"];
            args.extend(what.split_whitespace());
            args.push(&path);
            let found = self.kubectl_args(&args)?;
            if found == wanted { Ok(()) } else { bail!("it is {found:?}") }
        })
    }

    /// The administrator as a client library.
    pub async fn client(&self) -> Result<kube::Client> {
        let config = Kubeconfig::read_from(self.kubeconfig())?;
        let config = kube::Config::from_custom_kubeconfig(config, &KubeConfigOptions::default()).await?;
        Ok(kube::Client::try_from(config)?)
    }

    pub fn get_raw_config(&self) -> Result<RawConfig> {
        let view = |path: &str| self.kubectl(&format!("config view --raw --minify -o jsonpath={{{path}}}"));
        let file = |name: &str, path: &str| -> Result<PathBuf> {
            let to = self.dir.path().join(name);
            let mut decode = Command::new("base64");
            let text = run_with(decode.arg("-d"), &view(path)?, PATIENCE)?.stdout;
            fs::write(&to, text)?;
            Ok(to)
        };
        Ok(RawConfig {
            server: view(".clusters[0].cluster.server")?,
            ca: file("ca.pem", ".clusters[0].cluster.certificate-authority-data")?,
            certificate: file("client.pem", ".users[0].user.client-certificate-data")?,
            key: file("client.key", ".users[0].user.client-key-data")?,
        })
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
