//! `knarr down`: ends the process and leaves the pods, or ends them as well because the machine goes down.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};
use tokio::time::{Instant, sleep};

use crate::{cli::DownArgs, datadir::DataDir, say::say};

const PATIENCE: Duration = Duration::from_secs(30);
const FORCE_AFTER: Duration = Duration::from_secs(10);

pub async fn run(args: DownArgs) -> Result<()> {
    let data = DataDir::at(&args.data.data_dir)?;
    let is_stopped = if args.pods { end_pods(&data).await? } else { stop(&data).await? };
    if !is_stopped {
        say!("no cluster runs in {}", data.root().display());
    } else if args.pods {
        say!("stopped, and the pods of this node have ended");
    } else {
        say!("stopped; pods keep running until the next start takes them back or `knarr reset` ends them");
    }
    Ok(())
}

/// Has the process that uses the directory end its pods and itself, and waits until it is gone; false where there was
/// none.
async fn end_pods(data: &DataDir) -> Result<bool> {
    let Some(running) = data.running()? else { return Ok(false) };
    running.check_reachable()?;
    let Some(within) = running.ends_pods_within else {
        bail!("process {} is of a version that leaves its pods alone: start it anew before", running.pid);
    };
    signal(running.pid, Signal::POWER)?;
    if !ended(data, within + PATIENCE).await? {
        bail!("process {} did not end its pods within {} s", running.pid, (within + PATIENCE).as_secs());
    }
    Ok(true)
}

/// Ends the process that uses the directory and waits until it is gone; false where there was none.
pub async fn stop(data: &DataDir) -> Result<bool> {
    let Some(running) = data.running()? else { return Ok(false) };
    running.check_reachable()?;
    let pid = running.pid;
    signal(pid, Signal::TERM)?;
    if !ended(data, PATIENCE).await? {
        bail!(
            "process {pid} did not end within {} s; end it with `kill -9 {pid}`, which no pod and no data suffer from",
            PATIENCE.as_secs()
        );
    }
    Ok(true)
}

/// Ends the process, by force where it does not go by itself: what is reset next needs no orderly end.
pub async fn force(data: &DataDir) -> Result<()> {
    let Some(running) = data.running()? else { return Ok(()) };
    running.check_reachable()?;
    let pid = running.pid;
    signal(pid, Signal::TERM)?;
    if !ended(data, FORCE_AFTER).await? {
        signal(pid, Signal::KILL)?;
        if !ended(data, FORCE_AFTER).await? {
            bail!("process {pid} cannot be ended");
        }
    }
    Ok(())
}

fn signal(pid: i32, signal: Signal) -> Result<()> {
    let process = Pid::from_raw(pid).context("the lock file names no process")?;
    kill_process(process, signal).with_context(|| format!("cannot stop process {pid}"))
}

async fn ended(data: &DataDir, patience: Duration) -> Result<bool> {
    let deadline = Instant::now() + patience;
    while data.running()?.is_some() {
        if Instant::now() > deadline {
            return Ok(false);
        }
        sleep(Duration::from_millis(10)).await;
    }
    Ok(true)
}
