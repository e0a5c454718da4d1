//! `knarr cluster node`

use anyhow::{Result, bail};
use jiff::Timestamp;
use knarr_local::State;

use super::{
    access::Access,
    args::{AddArgs, NodeArgs, NodeCommand},
    create, is_server, launch, select,
};
use crate::{say::say, start::progress::Progress};

pub async fn run(command: NodeCommand) -> Result<()> {
    match command {
        NodeCommand::Stop(args) => stop(args),
        NodeCommand::Start(args) => start(args).await,
        NodeCommand::Pause(args) => pause(args),
        NodeCommand::Resume(args) => resume(args),
        NodeCommand::Add(args) => add(args).await,
        NodeCommand::Remove(args) => remove(args).await,
    }
}

fn stop(NodeArgs { node, cluster, place }: NodeArgs) -> Result<()> {
    let (_, node) = select::node(&super::clusters(&place)?, cluster.as_deref(), &node)?;
    let was = node.state()?;
    // Also where it does not run: what a crash left goes.
    node.stop()?;
    match was {
        State::Stopped => say!("{} is stopped already", node.name),
        _ => say!("{0} is stopped; start it again with `knarr cluster node start {0}`", node.name),
    }
    Ok(())
}

async fn start(NodeArgs { node, cluster, place }: NodeArgs) -> Result<()> {
    let (mut cluster, node) = select::node(&super::clusters(&place)?, cluster.as_deref(), &node)?;
    if let State::Running { .. } = node.state()? {
        say!("{} runs already", node.name);
        return Ok(());
    }
    launch::start_stopped(&mut cluster, vec![node]).await
}

fn pause(NodeArgs { node, cluster, place }: NodeArgs) -> Result<()> {
    let (_, node) = select::node(&super::clusters(&place)?, cluster.as_deref(), &node)?;
    match node.state()? {
        State::Stopped => bail!("{0} does not run; `knarr cluster node start {0}` starts it", node.name),
        State::Paused { .. } => say!("{} is paused already", node.name),
        State::Running { .. } => {
            node.pause()?;
            say!("{0} stands still; `knarr cluster node resume {0}` lets it go on", node.name);
        }
    }
    Ok(())
}

fn resume(NodeArgs { node, cluster, place }: NodeArgs) -> Result<()> {
    let (_, node) = select::node(&super::clusters(&place)?, cluster.as_deref(), &node)?;
    match node.state()? {
        State::Stopped => bail!("{0} does not run; `knarr cluster node start {0}` starts it", node.name),
        State::Running { .. } => say!("{} is not paused", node.name),
        State::Paused { .. } => {
            node.resume()?;
            say!("{} goes on", node.name);
        }
    }
    Ok(())
}

async fn add(AddArgs { cluster, place }: AddArgs) -> Result<()> {
    let cluster = select::cluster(&super::clusters(&place)?, cluster.as_deref())?;
    let access = launch::require_api(&cluster).await?;
    let since = Timestamp::now();
    let token = access.token().await?;
    let name = create::agent_name(cluster.name(), create::next_agent_number(&cluster)?);
    let progress = Progress::new(&[&name]);
    let node = create::add_agent(&cluster, &name, &token)?;
    let ready = async {
        let started = launch::power_on(vec![node.clone()]).await?;
        launch::wait_until_ready(&access, &started, since, &progress).await
    };
    let ready = tokio::select! {
        ready = ready => ready,
        () = progress.animate() => Ok(()),
        () = crate::start::interrupted() => Err(anyhow::anyhow!("interrupted")),
    };
    if ready.is_err() {
        node.remove()?;
        let _ = access.forget(&name).await;
    }
    ready?;
    say!("\n{name} is ready after {:.2} s", progress.elapsed().as_secs_f64());
    Ok(())
}

async fn remove(NodeArgs { node, cluster, place }: NodeArgs) -> Result<()> {
    let (cluster, node) = select::node(&super::clusters(&place)?, cluster.as_deref(), &node)?;
    if is_server(&cluster, &node) {
        bail!("without {} there is no cluster; `knarr cluster delete {}` removes all of it", node.name, cluster.name());
    }
    let access: Access = launch::require_api(&cluster).await?;
    node.stop()?;
    access.forget(&node.name).await?;
    node.remove()?;
    say!("{} is removed; what ran on it starts elsewhere", node.name);
    Ok(())
}
