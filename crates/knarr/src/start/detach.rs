//! `--detach`: the cluster runs in a process of its own session; the one that was typed shows how it starts, and
//! returns when it is ready.

use std::{
    env,
    fs::{File, OpenOptions},
    io::{BufRead, BufReader, Read, Seek, SeekFrom},
    path::Path,
    process::{Command, Stdio},
};

use anyhow::{Context, Result, bail};

use crate::{agent::NodeConfig, log, say::say};

const MARK: &str = "KNARR_DETACHED";
/// How much of the log is shown where the start failed.
const SHOWN_BYTES: u64 = 4096;

/// True in the process that stays.
pub fn is_child() -> bool {
    env::var_os(MARK).is_some()
}

/// How the line begins that says that all is there.
pub const READY: &str = "cluster ready";

/// Starts the process that stays, after a look at whether it can.
pub fn run(config: &NodeConfig, ports: &[(u16, &str)]) -> Result<()> {
    super::preflight::check(config, ports)?;
    config.data.prepare()?;
    let path = config.data.log();
    let log = log::open(&path)?;
    let begun = log.metadata()?.len();
    // The same program with the same words is not another program.
    #[allow(clippy::disallowed_methods)]
    let mut command = Command::new(env::current_exe()?);
    let mut child = command
        .args(env::args_os().skip(1))
        .env(MARK, "1")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(log)
        .spawn()
        .context("cannot start the process that stays")?;
    let lines = child.stdout.take().context("the process that stays has no output")?;
    let mut ready = false;
    for line in BufReader::new(lines).lines().map_while(Result::ok) {
        ready |= line.starts_with(READY);
        say!("{line}");
    }
    if ready {
        return Ok(());
    }
    let status = child.wait()?;
    let said = said_since(&path, begun).unwrap_or_default();
    // The error itself is the last that is said; without one it ended by force, and all that was said may help.
    match said.rsplit_once("error: ") {
        Some((before, error)) if before.is_empty() || before.ends_with('\n') => bail!("{}", error.trim()),
        _ => bail!("the cluster did not start ({status}); see {}:\n{}", path.display(), said.trim()),
    }
}

/// What the process that did not stay left in the log; what others left before is not about this start.
fn said_since(log: &Path, begun: u64) -> std::io::Result<String> {
    let mut file = File::open(log)?;
    let end = file.metadata()?.len();
    file.seek(SeekFrom::Start(begun.max(end.saturating_sub(SHOWN_BYTES))))?;
    let mut said = Vec::new();
    file.read_to_end(&mut said)?;
    Ok(String::from_utf8_lossy(&said).into_owned())
}

/// Lets go of the terminal: a session of its own, and nothing more to say.
pub fn ready() {
    if !is_child() {
        return;
    }
    let quiet = || -> Result<()> {
        rustix::process::setsid()?;
        let null = OpenOptions::new().write(true).open("/dev/null")?;
        rustix::stdio::dup2_stdout(&null)?;
        Ok(())
    };
    if let Err(error) = quiet() {
        tracing::warn!("still attached to the terminal: {error:#}");
    }
}
