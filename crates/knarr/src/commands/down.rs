//! `knarr down`: ends the process and leaves the pods.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};
use tokio::time::{Instant, sleep};

use crate::{cli::DataArgs, datadir::DataDir};

const PATIENCE: Duration = Duration::from_secs(30);

pub async fn run(args: DataArgs) -> Result<()> {
    let data = DataDir::at(&args.data_dir)?;
    if !stop(&data).await? {
        println!("no cluster runs in {}", data.root().display());
        return Ok(());
    }
    println!("stopped; pods keep running until `knarr up` takes them back or `knarr reset` ends them");
    Ok(())
}

/// Ends the process that uses the directory and waits until it is gone; false where there was none.
pub async fn stop(data: &DataDir) -> Result<bool> {
    let Some(running) = data.running() else { return Ok(false) };
    let pid = Pid::from_raw(running.pid).context("the lock file names no process")?;
    kill_process(pid, Signal::TERM).with_context(|| format!("cannot stop process {}", running.pid))?;
    let deadline = Instant::now() + PATIENCE;
    while data.running().is_some() {
        if Instant::now() > deadline {
            bail!("process {} did not end within {} s; see {}", running.pid, PATIENCE.as_secs(), data.log().display());
        }
        sleep(Duration::from_millis(10)).await;
    }
    Ok(true)
}
