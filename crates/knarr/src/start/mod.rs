//! What every command that stays has in common: checks beforehand, what is shown meanwhile, and how it is ended.

pub mod detach;
pub mod preflight;
pub mod progress;
mod ready;
mod signals;

pub use ready::wait_for_node;
pub use signals::{interrupted, machine_goes_down};

use std::time::Duration;

use anyhow::Result;

use crate::agent::NodeConfig;

/// The steps that are shown.
pub const API: &str = "API server";
pub const CONTROL: &str = "controllers";
pub const NETWORK: &str = "network";
pub const RUNTIME: &str = "runtime";
pub const NODE: &str = "node";

/// How long what still runs has at the end.
const DRAIN: Duration = Duration::from_secs(5);

/// Runs `serve` with the data directory locked, on a runtime of its own.
pub fn keep<F>(config: &NodeConfig, port: Option<u16>, server: Option<String>, serve: F) -> Result<()>
where
    F: Future<Output = Result<()>>,
{
    config.data.prepare()?;
    // Held until nothing of this process uses the directory.
    let lock = config.data.lock(&config.running(port, server))?;
    knarr_os::alloc::start_background_thread();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let ended = runtime.block_on(serve);
    runtime.shutdown_timeout(DRAIN);
    drop(lock);
    ended
}
