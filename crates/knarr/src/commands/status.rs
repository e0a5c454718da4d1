//! `knarr status`: what runs, and how it is. Exit code 1 where nothing runs or something is not ready.

use std::{
    fs,
    io::IsTerminal,
    path::Path,
    time::{Duration, SystemTime},
};

use anyhow::{Context, Result, bail};
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::{Api, Client, ResourceExt, api::ListParams};

use crate::{
    cli::DataArgs,
    datadir::{DataDir, Running},
    say::say,
};

const PATIENCE: Duration = Duration::from_secs(5);

pub async fn run(args: DataArgs) -> Result<bool> {
    let data = DataDir::at(&args.data_dir)?;
    let Some(running) = data.running()? else {
        say!("no cluster runs in {}; start one with `knarr up`", data.root().display());
        return Ok(false);
    };
    running.check_reachable()?;
    let Running { pid, version, port, server, pid_namespace: _, ends_pods_within: _ } = running;
    if port.is_none() && server.is_none() {
        bail!("{} is being reset by process {pid}", data.root().display());
    }
    line(
        Mark::of(true),
        "knarr",
        &format!("{version}, process {pid}, {}{}", memory(pid), since(&data.root().join("lock"))),
    );
    if let Some(server) = server {
        return show_agent(&data, &server).await;
    }
    let port = port.unwrap_or_default();
    let client = knarr_client::from_kubeconfig(&data.admin_kubeconfig()).await?;
    let shown = tokio::time::timeout(PATIENCE, show_cluster(&client, port)).await;
    let unheard = || {
        format!(
            "the API server on port {port} does not answer; `knarr down` and `knarr up` start it anew, and no pod suffers"
        )
    };
    let ready = shown.with_context(unheard)?.with_context(unheard)?;
    line(Mark::None, "data", &data.root().display().to_string());
    line(Mark::None, "kubeconfig", &data.admin_kubeconfig().display().to_string());
    Ok(ready)
}

/// An agent sees its own node and no other.
async fn show_agent(data: &DataDir, server: &str) -> Result<bool> {
    let identity = knarr_join::Identity::open(&data.identity(), server, 0)?;
    let (Some(identity), Some(record)) = (identity, data.record()?) else {
        line(Mark::Bad, "server", &format!("{server}: this machine has not joined yet"));
        return Ok(false);
    };
    let node = tokio::time::timeout(PATIENCE, Api::<Node>::all(identity.client()).get(&record.node_name)).await;
    let ready = match node {
        Ok(Ok(node)) => {
            line(Mark::Good, "server", server);
            show_node(&node)
        }
        // The pods go on meanwhile.
        Ok(Err(error)) => {
            line(Mark::Bad, "server", &format!("{server} does not answer: {error}"));
            false
        }
        Err(_) => {
            line(Mark::Bad, "server", &format!("{server} does not answer"));
            false
        }
    };
    line(Mark::None, "data", &data.root().display().to_string());
    Ok(ready)
}

/// One line; true where the node is ready.
fn show_node(node: &Node) -> bool {
    let conditions = node.status.iter().flat_map(|status| status.conditions.iter().flatten());
    let ready = conditions.into_iter().find(|condition| condition.type_ == "Ready");
    let (state, why) = match ready {
        Some(condition) if condition.status == "True" => ("Ready", None),
        Some(condition) => ("NotReady", condition.message.clone()),
        None => ("Unknown", None),
    };
    let why = why.map(|why| format!(": {why}")).unwrap_or_default();
    line(Mark::of(state == "Ready"), "node", &format!("{} {state}{why}", node.name_any()));
    state == "Ready"
}

/// How a line begins.
#[derive(Clone, Copy)]
enum Mark {
    Good,
    Bad,
    None,
}

impl Mark {
    fn of(good: bool) -> Self {
        if good { Self::Good } else { Self::Bad }
    }
}

fn line(mark: Mark, what: &str, text: &str) {
    let coloured = std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    let (sign, colour) = match mark {
        Mark::Good => ("✓", "\x1b[32m"),
        Mark::Bad => ("✗", "\x1b[31m"),
        Mark::None => (" ", ""),
    };
    let (colour, plain) = if coloured && !colour.is_empty() { (colour, "\x1b[0m") } else { ("", "") };
    say!("{colour}{sign}{plain} {what:<11} {text}");
}

async fn show_cluster(client: &Client, port: u16) -> Result<bool> {
    let version = client.apiserver_version().await?;
    line(Mark::Good, "api", &format!("https://127.0.0.1:{port}, Kubernetes {}", version.git_version));
    let nodes = Api::<Node>::all(client.clone()).list(&ListParams::default()).await?;
    let mut all_ready = !nodes.items.is_empty();
    for node in &nodes.items {
        all_ready &= show_node(node);
    }
    let pods = Api::<Pod>::all(client.clone()).list(&ListParams::default()).await?;
    let phase = |wanted: &str| {
        let is = |pod: &&Pod| pod.status.as_ref().and_then(|status| status.phase.as_deref()) == Some(wanted);
        pods.items.iter().filter(is).count()
    };
    let phases = ["Running", "Pending", "Succeeded", "Failed", "Unknown"];
    let counts = phases.map(|name| (name, phase(name))).into_iter();
    let shown = counts.filter(|(name, count)| *count > 0 || *name == "Running");
    let shown: Vec<String> = shown.map(|(name, count)| format!("{count} {}", name.to_lowercase())).collect();
    line(Mark::None, "pods", &shown.join(", "));
    Ok(all_ready)
}

/// What the process holds of memory, in words.
fn memory(pid: i32) -> String {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let rss_kb = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let rss_kb: Option<u64> = rss_kb.and_then(|rest| rest.trim().trim_end_matches(" kB").parse().ok());
    rss_kb.map_or_else(|| "memory unknown".into(), |kb| format!("{} MB of memory", kb / 1024))
}

/// For how long the lock has been held, which is written once at the start.
fn since(lock: &Path) -> String {
    let written = fs::metadata(lock).and_then(|lock| lock.modified()).ok();
    let Some(up) = written.and_then(|written| SystemTime::now().duration_since(written).ok()) else {
        return String::new();
    };
    let (minutes, seconds) = (up.as_secs() / 60, up.as_secs() % 60);
    match (minutes / 60, minutes % 60) {
        (0, 0) => format!(", up {seconds} s"),
        (0, minutes) => format!(", up {minutes} min"),
        (hours @ 1..48, minutes) => format!(", up {hours} h {minutes} min"),
        (hours, _) => format!(", up {} days", hours / 24),
    }
}
