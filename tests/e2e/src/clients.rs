//! The real clients of a cluster: kubectl, Helm, a client library, each as the administrator.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::atomic::{AtomicU32, Ordering},
};

use anyhow::{Result, bail};
use kube::config::{KubeConfigOptions, Kubeconfig};
use serde_json::Value;

use crate::{
    cluster::from_env,
    command::{PATIENCE, run, run_with},
};

/// The administrator's credentials as files, for clients that are not kubectl.
pub struct RawConfig {
    pub server: String,
    pub ca: PathBuf,
    pub certificate: PathBuf,
    pub key: PathBuf,
}

pub struct Clients {
    scratch: PathBuf,
    tools: PathBuf,
    kubeconfig: PathBuf,
}

static NAMESPACES: AtomicU32 = AtomicU32::new(0);

impl Clients {
    /// Of the cluster that a kubeconfig names, which need not be there yet.
    pub fn new(scratch: &Path, kubeconfig: &Path) -> Result<Self> {
        Ok(Self { scratch: scratch.into(), tools: from_env("KNARR_TEST_TOOLS")?, kubeconfig: kubeconfig.into() })
    }

    pub fn kubeconfig(&self) -> PathBuf {
        self.kubeconfig.clone()
    }

    /// Where the set-up keeps what it fetched.
    pub fn cache(&self, name: &str) -> PathBuf {
        self.tools.parent().unwrap_or(&self.tools).join(name)
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
        kubectl.env("KUBECONFIG", self.kubeconfig()).env("KUBECACHEDIR", self.scratch.join("cache")).args(args);
        kubectl
    }

    /// Knarr's own client with words of its own.
    pub fn own_client_command(&self, args: &[&str]) -> Result<Command> {
        let mut knarr = Command::new(from_env("KNARR")?);
        knarr.env("KUBECONFIG", self.kubeconfig()).args(args);
        Ok(knarr)
    }

    pub fn helm_command(&self, line: &str) -> Command {
        let mut helm = Command::new(self.tools.join("helm"));
        let home = self.scratch.join("helm");
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
            let to = self.scratch.join(name);
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
}
