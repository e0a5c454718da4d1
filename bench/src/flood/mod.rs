//! One user floods the server or holds it up, another asks for a small object now and then: how long the second waits,
//! and what the server's memory comes to.

mod hostile;
mod quiet;
mod wire;

use std::{path::Path, time::Duration};

use anyhow::{Context, Result};
use k8s_openapi::api::core::v1::ConfigMap;
use knarr_e2e::Cluster;
use kube::{Api, Client, Config, api::PostParams, config::KubeConfigOptions};
use serde_json::json;

use crate::cluster::memory_kib;
use quiet::Quiet;
use wire::Wire;

const OBJECTS: usize = 2_000;
const OBJECT_BYTES: usize = 1_000;

pub fn run() -> Result<()> {
    let mut cluster = Cluster::new()?;
    cluster.start()?;
    let runtime = tokio::runtime::Runtime::new()?;
    runtime.block_on(cases(&cluster))?;
    drop(runtime);
    cluster.reset()?;
    Ok(())
}

async fn cases(cluster: &Cluster) -> Result<()> {
    let admin = cluster.client().await?;
    fill(&admin).await?;
    let (quiet, _) = user(cluster, "quiet").await?;
    let (noisy, token) = user(cluster, "noisy").await?;
    let wire = Wire::new(&noisy, &token)?;
    let measured = Measured { cluster, quiet };
    measured.beside("nobody", tokio::time::sleep(Duration::from_secs(5))).await?;
    measured.beside("10,000 idle connections", hostile::idle_connections(&wire, 10_000)).await?;
    measured.beside("1,000 requests a byte at a time", hostile::slow_heads(&wire, 1_000)).await?;
    measured.beside("100,000 bytes of headers, 100 times", hostile::large_heads(&wire, 100)).await?;
    measured.beside("a body of 1 GB", hostile::large_body(&wire, 1 << 30)).await?;
    measured.beside("50 watches that nobody reads", hostile::unread_watches(&wire, &admin, 50)).await?;
    measured.beside("200 lists of 2 MB at a time", hostile::lists(&noisy, 200)).await?;
    Ok(())
}

struct Measured<'a> {
    cluster: &'a Cluster,
    quiet: Config,
}

impl Measured<'_> {
    async fn beside<T>(&self, what: &str, hostile: impl Future<Output = T>) -> Result<()>
    where
        T: Outcome,
    {
        let server = Path::new("/proc").join(self.cluster.pid().context("the cluster does not run")?.to_string());
        let quiet = Quiet::start(self.quiet.clone());
        let mut most = 0;
        let mut tick = tokio::time::interval(Duration::from_millis(250));
        let mut hostile = std::pin::pin!(hostile);
        let outcome = loop {
            tokio::select! {
                outcome = &mut hostile => break outcome,
                _ = tick.tick() => most = most.max(memory_kib(&server)?.0),
            }
        };
        most = most.max(memory_kib(&server)?.0);
        let said = outcome.into_result()?;
        let mut times = quiet.stop()?;
        times.sort();
        let ms =
            |share: f64| times.get((times.len() as f64 * share) as usize).map(|time| round(time.as_secs_f64() * 1e3));
        println!(
            "{}",
            json!({"case": "flood", "beside": what, "n": times.len(), "quiet_p50_ms": ms(0.5), "quiet_p99_ms": ms(0.99),
                "server_pss_mib": most / 1024, "heard": said})
        );
        Ok(())
    }
}

/// What became of the hostile side, in a word.
trait Outcome {
    fn into_result(self) -> Result<String>;
}

impl Outcome for () {
    fn into_result(self) -> Result<String> {
        Ok(String::new())
    }
}

impl Outcome for Result<String> {
    fn into_result(self) -> Result<String> {
        self
    }
}

fn round(ms: f64) -> f64 {
    (ms * 100.0).round() / 100.0
}

async fn fill(admin: &Client) -> Result<()> {
    let maps: Api<ConfigMap> = Api::namespaced(admin.clone(), "default");
    let text = "x".repeat(OBJECT_BYTES);
    for number in 0..OBJECTS {
        let map = serde_json::from_value(json!({"metadata": {"name": format!("m{number}")}, "data": {"text": text}}))?;
        maps.create(&PostParams::default(), &map).await?;
    }
    Ok(())
}

/// A service account that may read and write, as the kubeconfig's cluster knows it.
async fn user(cluster: &Cluster, name: &str) -> Result<(Config, String)> {
    let kubectl = |words: &str| cluster.kubectl(words);
    kubectl(&format!("create serviceaccount {name}"))?;
    kubectl(&format!("create clusterrolebinding {name} --clusterrole=edit --serviceaccount=default:{name}"))?;
    let token = kubectl(&format!("create token {name} --duration=1h"))?.trim().to_owned();
    let file = kube::config::Kubeconfig::read_from(cluster.kubeconfig())?;
    let mut config = Config::from_custom_kubeconfig(file, &KubeConfigOptions::default()).await?;
    config.auth_info = kube::config::AuthInfo { token: Some(token.clone().into()), ..Default::default() };
    Ok((config, token))
}
