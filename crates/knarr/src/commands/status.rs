//! `knarr status`: what runs, and how it is. Exit code 1 where nothing runs or something is not ready.

use std::{fs, time::Duration};

use anyhow::{Context, Result};
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::{Api, Client, ResourceExt, api::ListParams};

use crate::{
    cli::DataArgs,
    datadir::{DataDir, Running},
    version,
};

const PATIENCE: Duration = Duration::from_secs(5);

pub async fn run(args: DataArgs) -> Result<bool> {
    let data = DataDir::at(&args.data_dir)?;
    let Some(running) = data.running() else {
        println!("no cluster runs in {}; start one with `knarr up`", data.root().display());
        return Ok(false);
    };
    let Running { pid, port, node_name: _ } = running;
    println!("{:<12} process {pid}, knarr {}, {}", "running", version::SHORT, memory(pid));
    println!("{:<12} https://127.0.0.1:{port}", "api");
    println!("{:<12} {}", "data", data.root().display());
    println!("{:<12} {}", "kubeconfig", data.admin_kubeconfig().display());
    let client = knarr_client::from_kubeconfig(&data.admin_kubeconfig()).await?;
    let shown = tokio::time::timeout(PATIENCE, show_cluster(&client)).await;
    shown.context("the API server does not answer; see the log")?
}

async fn show_cluster(client: &Client) -> Result<bool> {
    let nodes = Api::<Node>::all(client.clone()).list(&ListParams::default()).await?;
    let mut all_ready = !nodes.items.is_empty();
    for node in &nodes.items {
        let conditions = node.status.iter().flat_map(|status| status.conditions.iter().flatten());
        let ready = conditions.into_iter().find(|condition| condition.type_ == "Ready");
        let (state, why) = match ready {
            Some(condition) if condition.status == "True" => ("Ready", None),
            Some(condition) => ("NotReady", condition.message.clone()),
            None => ("Unknown", None),
        };
        all_ready &= state == "Ready";
        println!("{:<12} {} {state}{}", "node", node.name_any(), why.map(|why| format!(": {why}")).unwrap_or_default());
    }
    let pods = Api::<Pod>::all(client.clone()).list(&ListParams::default()).await?;
    let phase = |wanted: &str| {
        let is = |pod: &&Pod| pod.status.as_ref().and_then(|status| status.phase.as_deref()) == Some(wanted);
        pods.items.iter().filter(is).count()
    };
    println!(
        "{:<12} {} running, {} pending, {} succeeded, {} failed",
        "pods",
        phase("Running"),
        phase("Pending"),
        phase("Succeeded"),
        phase("Failed"),
    );
    Ok(all_ready)
}

/// What the process holds of memory, in words.
fn memory(pid: i32) -> String {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let rss_kb = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let rss_kb: Option<u64> = rss_kb.and_then(|rest| rest.trim().trim_end_matches(" kB").parse().ok());
    rss_kb.map_or_else(|| "memory unknown".into(), |kb| format!("{} MB of memory", kb / 1024))
}
