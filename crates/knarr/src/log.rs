//! Where log lines go: to standard error, filtered by `RUST_LOG`, as JSON where `KNARR_LOG_FORMAT=json`. With
//! `RUST_LOG=pod_start=debug` there is one for each step of a pod's start, with the time that it took.

use std::{
    fs::{self, OpenOptions},
    io::{self, IsTerminal, Write},
    os::unix::fs::OpenOptionsExt,
    path::Path,
    time::Duration,
};

use anyhow::{Context, Result};
use tracing_subscriber::{EnvFilter, fmt::format::FmtSpan};

/// Warnings of the program itself; libraries are heard only in trouble.
const DEFAULT: &str = "warn";
/// How large the log of a detached cluster grows before it is put aside, and how often that is looked at.
const LOG_BYTES: u64 = 16 << 20;
const LOOK_EVERY: Duration = Duration::from_secs(60);

pub fn to_stderr() {
    let wanted = std::env::var("RUST_LOG").unwrap_or_else(|_| DEFAULT.into());
    let filter = EnvFilter::new(format!("{wanted},{}", knarr_net::LOG_DIRECTIVES));
    let colours = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    let lines = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(|| Forgiving)
        .with_ansi(colours)
        .with_span_events(FmtSpan::CLOSE)
        .log_internal_errors(false);
    let set = match std::env::var("KNARR_LOG_FORMAT").as_deref() {
        Ok("json") => lines.json().try_init(),
        _ => lines.with_target(true).try_init(),
    };
    // A second call changes nothing.
    drop(set);
}

/// Standard error that takes everything. A log on a full disk would otherwise bring down whoever logs that the disk
/// is full.
struct Forgiving;

impl Write for Forgiving {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let _ = io::stderr().lock().write_all(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Opens a log for appending, readable by its owner only.
pub fn open(path: &Path) -> Result<fs::File> {
    let opened = OpenOptions::new().create(true).append(true).mode(0o600).open(path);
    opened.with_context(|| format!("cannot open the log {}", path.display()))
}

/// Keeps the log that standard error goes to within bounds: one that has grown large becomes `PATH.1`, and the one
/// before it goes. Runs until it is dropped.
pub async fn keep_small(path: &Path) {
    loop {
        tokio::time::sleep(LOOK_EVERY).await;
        if fs::metadata(path).is_ok_and(|log| log.len() > LOG_BYTES)
            && let Err(error) = begin_anew(path)
        {
            tracing::warn!("the log {} keeps growing: {error:#}", path.display());
        }
    }
}

fn begin_anew(path: &Path) -> Result<()> {
    let mut aside = path.as_os_str().to_owned();
    aside.push(".1");
    fs::rename(path, aside)?;
    rustix::stdio::dup2_stderr(open(path)?)?;
    Ok(())
}
