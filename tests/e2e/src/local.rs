//! A cluster of several nodes on this host, made by `knarr cluster`.

use std::{
    env, fs,
    ops::Deref,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use crate::{
    Clients,
    cluster::from_env,
    command::{Said, run},
    image,
};

pub struct Local {
    dir: tempfile::TempDir,
    knarr: PathBuf,
    name: String,
    clients: Clients,
    /// From the command to its end, when all nodes were ready.
    pub took: Duration,
}

impl Deref for Local {
    type Target = Clients;

    fn deref(&self) -> &Clients {
        &self.clients
    }
}

impl Local {
    /// Prepares a cluster without making it.
    pub fn prepare(name: &str) -> Result<Self> {
        let dir = tempfile::Builder::new().prefix("knarr-e2e-").tempdir()?;
        fs::create_dir(dir.path().join("images"))?;
        image::write_busybox(&dir.path().join("images/busybox.tar"))?;
        let kubeconfig = dir.path().join("clusters").join(name).join("admin.kubeconfig");
        let clients = Clients::new(dir.path(), &kubeconfig)?;
        Ok(Self { knarr: from_env("KNARR")?, name: name.into(), clients, dir, took: Duration::ZERO })
    }

    /// Makes a cluster of this many nodes, with further words after the command.
    pub fn create(name: &str, nodes: u32, further: &[&str]) -> Result<Self> {
        let mut local = Self::prepare(name)?;
        let begun = Instant::now();
        let said = run(local.create_command(nodes).args(further))?;
        if said.code != 0 {
            bail!("knarr cluster create failed: {}", said.all());
        }
        local.took = begun.elapsed();
        Ok(local)
    }

    pub fn create_command(&self, nodes: u32) -> Command {
        let mut create = self.knarr(&format!("cluster create {} --nodes {nodes}", self.name));
        create.arg("--images").arg(self.dir.path().join("images")).arg("--kubeconfig").arg(self.user_kubeconfig());
        create
    }

    /// The binary with words of its own, looking at this test's clusters.
    pub fn knarr(&self, line: &str) -> Command {
        let mut knarr = Command::new(&self.knarr);
        knarr.args(line.split_whitespace()).env("KNARR_CLUSTERS_DIR", self.clusters_dir()).env("RUST_LOG", "info");
        knarr.env("HOME", self.dir.path());
        knarr
    }

    /// `knarr cluster LINE`, which must succeed; returns what it printed.
    pub fn cluster(&self, line: &str) -> Result<String> {
        let said = run(&mut self.knarr(&format!("cluster {line}")))?;
        if said.code != 0 {
            bail!("knarr cluster {line} failed with {}:\n{}", said.code, said.all());
        }
        Ok(said.stdout)
    }

    /// `knarr cluster LINE`, which must fail; returns what it said.
    pub fn cluster_fails(&self, line: &str) -> Result<String> {
        let said = run(&mut self.knarr(&format!("cluster {line}")))?;
        ensure!(said.code != 0, "knarr cluster {line} succeeded:\n{}", said.all());
        Ok(said.all())
    }

    /// What `knarr cluster list` says of this cluster.
    pub fn describe(&self) -> Result<Value> {
        let all: Value = serde_json::from_str(&self.cluster("list -o json")?)?;
        let all = all.as_array().context("no list")?;
        let own = all.iter().find(|cluster| cluster["name"] == self.name.as_str());
        own.cloned().with_context(|| format!("there is no cluster {} in {all:?}", self.name))
    }

    /// One node as `knarr cluster list` has it, by the end of its name: `server`, `agent-1`.
    pub fn node(&self, name: &str) -> Result<Value> {
        let whole = self.node_name(name);
        let cluster = self.describe()?;
        let nodes = cluster["nodes"].as_array().context("no nodes")?;
        let node = nodes.iter().find(|node| node["name"] == whole.as_str());
        node.cloned().with_context(|| format!("there is no node {whole} in {nodes:?}"))
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    pub fn node_name(&self, name: &str) -> String {
        format!("{}-{name}", self.name)
    }

    /// The program in a node, by its number on this host: the one child of the node's process 1 that is no shim.
    pub fn program_of(&self, name: &str) -> Result<u32> {
        let init = self.node(name)?["pid"].as_u64().context("the node does not run")?;
        let children = fs::read_to_string(format!("/proc/{init}/task/{init}/children"))?;
        let is_program = |pid: &u32| {
            let words = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            !words.split(|byte| *byte == 0).any(|word| word == b"shim")
        };
        let mut children = children.split_whitespace().filter_map(|pid| pid.parse().ok());
        children.find(is_program).context("the node's program does not run")
    }

    pub fn clusters_dir(&self) -> PathBuf {
        self.dir.path().join("clusters")
    }

    pub fn user_kubeconfig(&self) -> PathBuf {
        self.dir.path().join("user.kubeconfig")
    }

    pub fn scratch(&self) -> &Path {
        self.dir.path()
    }

    pub fn delete(&self) -> Result<Said> {
        if env::var_os("KNARR_TEST_LOG").is_some() {
            self.show_logs();
        }
        run(&mut self.knarr(&format!("cluster delete {}", self.name)))
    }

    fn show_logs(&self) {
        for node in self.describe().iter().flat_map(|cluster| cluster["nodes"].as_array().into_iter().flatten()) {
            let log = node["log"].as_str().and_then(|path| fs::read_to_string(path).ok()).unwrap_or_default();
            eprintln!("--- {} said:\n{log}---", node["name"]);
        }
    }
}

impl Drop for Local {
    fn drop(&mut self) {
        if self.clusters_dir().join(&self.name).exists() {
            let _ = self.delete();
        }
    }
}
