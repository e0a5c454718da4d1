//! Starting nodes, and waiting until the cluster has them.

use std::{
    fs::{self, File},
    io::{Read, Seek, SeekFrom},
    time::Duration,
};

use anyhow::{Context, Result, bail};
use jiff::Timestamp;
use knarr_local::{Cluster, Node, State};
use tokio::time::{Instant, sleep};

use super::{
    access::{self, Access},
    is_server,
};
use crate::{datadir::DataDir, say::say, start::progress::Progress};

/// How long a node may take to become ready before that is said to be a failure.
const PATIENCE: Duration = Duration::from_secs(60);
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// How much of a node's log is shown where it fails.
const SHOWN_BYTES: u64 = 4096;
/// What a node's process 1 writes when the program in it has ended by itself.
const CRASHED: &str = "; starting it again in ";

/// Starts those of the nodes that are stopped and waits until they are ready.
pub async fn start_stopped(cluster: &mut Cluster, nodes: Vec<Node>) -> Result<()> {
    let mut stopped = Vec::new();
    for node in nodes {
        match node.state()? {
            State::Stopped => stopped.push(node),
            State::Paused { .. } => say!("{0} is paused; `knarr cluster node resume {0}` lets it go on", node.name),
            State::Running { .. } => {}
        }
    }
    if stopped.is_empty() {
        say!("no node of {} is stopped", cluster.name());
        return Ok(());
    }
    cluster.ensure_network()?;
    let progress = Progress::new(&stopped.iter().map(|node| node.name.as_str()).collect::<Vec<_>>());
    tokio::select! {
        done = start(cluster, stopped, &progress) => done?,
        () = progress.animate() => {}
    }
    say!(
        "\nready in {:.2} s\n\n  kubectl --context {} get nodes\n",
        progress.elapsed().as_secs_f64(),
        access::context_name(cluster.name())
    );
    Ok(())
}

/// Starts nodes, the server first, and waits until they are ready, where there is a server to ask.
async fn start(cluster: &Cluster, nodes: Vec<Node>, progress: &Progress) -> Result<()> {
    let (servers, agents): (Vec<Node>, Vec<Node>) = nodes.into_iter().partition(|node| is_server(cluster, node));
    let since = Timestamp::now();
    let mut started = Vec::new();
    for server in servers {
        let server = power_on(vec![server]).await?;
        wait_for_api(cluster, &server[0]).await?;
        started.extend(server);
    }
    started.extend(power_on(agents).await?);
    let access = Access::open(cluster).await?;
    if access.check().await.is_err() {
        say!("the nodes run; the server does not, so they are of no use until it is started");
        return Ok(());
    }
    wait_until_ready(&access, &started, since, progress).await
}

/// A node that was just started.
pub struct Started {
    node: Node,
    /// Where its log ended before.
    begun: u64,
}

/// Starts nodes at once; returns when their process 1 runs.
pub async fn power_on(nodes: Vec<Node>) -> Result<Vec<Started>> {
    let program = std::env::current_exe().context("the program's own path is not known")?;
    let start = move |node: &Node| {
        let begun = fs::metadata(node.log()).map_or(0, |log| log.len());
        node.start(&program).map(|()| Started { node: node.clone(), begun })
    };
    let started = at_once(nodes, start).await;
    Ok(started.into_iter().collect::<Result<_, _>>()?)
}

/// Does something to each node, all at the same time.
pub async fn at_once<T: Send + 'static>(nodes: Vec<Node>, act: impl Fn(&Node) -> T + Clone + Send + 'static) -> Vec<T> {
    let tasks = nodes.into_iter().map(|node| {
        let act = act.clone();
        tokio::task::spawn_blocking(move || act(&node))
    });
    let mut done = Vec::new();
    for task in tasks.collect::<Vec<_>>() {
        done.push(task.await.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic())));
    }
    done
}

/// Waits until the server answers, and writes the administrator's file of this host.
pub async fn wait_for_api(cluster: &Cluster, server: &Started) -> Result<Access> {
    let deadline = Instant::now() + PATIENCE;
    let admin = DataDir::at(&server.node.data_dir())?.admin_kubeconfig();
    loop {
        let tried = async {
            fs::metadata(&admin).context("the server has not begun to answer")?;
            access::introduce(cluster)?;
            let access = Access::open(cluster).await?;
            access.check().await.map(|()| access)
        };
        match tried.await {
            Ok(access) => return Ok(access),
            Err(error) if Instant::now() > deadline => return Err(server.failed(&format!("{error:#}"))),
            Err(_) => server.check()?,
        }
        sleep(LOOK_EVERY).await;
    }
}

/// Waits until all are Ready, and said so since a moment.
pub async fn wait_until_ready(
    access: &Access,
    started: &[Started],
    since: Timestamp,
    progress: &Progress,
) -> Result<()> {
    let deadline = Instant::now() + PATIENCE;
    let mut missing: Vec<&Started> = started.iter().collect();
    while !missing.is_empty() {
        let nodes = access.nodes(since).await.unwrap_or_default();
        missing.retain(|started| {
            let ready = nodes.get(&started.node.name) == Some(&None);
            if ready {
                progress.ready(&started.node.name);
            }
            !ready
        });
        for started in &missing {
            started.check()?;
            if Instant::now() > deadline {
                let why = nodes.get(&started.node.name).cloned().flatten();
                return Err(started.failed(&why.unwrap_or_else(|| "it has not joined".to_owned())));
            }
        }
        sleep(LOOK_EVERY).await;
    }
    Ok(())
}

impl Started {
    /// An error where the program ended, which is no use waiting after: a wrong flag stays wrong.
    fn check(&self) -> Result<()> {
        if self.said().is_some_and(|said| said.contains(CRASHED)) {
            return Err(self.failed("its program has ended"));
        }
        Ok(())
    }

    fn failed(&self, why: &str) -> anyhow::Error {
        let said = self.said().unwrap_or_default();
        anyhow::anyhow!("the node {} is not ready: {why}; its log says:\n{}", self.node.name, said.trim())
    }

    /// What the node wrote since it was started.
    fn said(&self) -> Option<String> {
        let mut file = File::open(self.node.log()).ok()?;
        let end = file.metadata().ok()?.len();
        file.seek(SeekFrom::Start(self.begun.max(end.saturating_sub(SHOWN_BYTES)))).ok()?;
        let mut said = Vec::new();
        file.read_to_end(&mut said).ok()?;
        Some(String::from_utf8_lossy(&said).into_owned())
    }
}

/// Refuses what needs the API where there is none.
pub async fn require_api(cluster: &Cluster) -> Result<Access> {
    let access = Access::open(cluster).await?;
    if let Err(error) = access.check().await {
        bail!("{error:#}; is {}-server running? `knarr cluster list` tells", cluster.name());
    }
    Ok(access)
}
