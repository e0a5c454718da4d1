//! `--detach`: the cluster runs in a process of its own session; the one that was typed shows how it starts, and
//! returns when it is ready.

use std::{
    env,
    fs::OpenOptions,
    io::{BufRead, BufReader},
    os::unix::fs::OpenOptionsExt,
    process::{Command, Stdio},
};

use anyhow::{Context, Result, bail};

use super::config::Config;
use crate::cli::UpArgs;

const MARK: &str = "KNARR_DETACHED";

/// True in the process that stays.
pub fn is_child() -> bool {
    env::var_os(MARK).is_some()
}

pub fn run(args: UpArgs) -> Result<()> {
    let config = Config::new(args)?;
    super::preflight::check(&config)?;
    config.data.create()?;
    drop(config.data.lock()?);
    let log = config.data.log();
    let errors = OpenOptions::new().create(true).append(true).mode(0o600).open(&log);
    let errors = errors.with_context(|| format!("cannot open the log {}", log.display()))?;
    // The same program with the same words is not another program.
    #[allow(clippy::disallowed_methods)]
    let mut command = Command::new(env::current_exe()?);
    let mut child = command
        .args(env::args_os().skip(1))
        .env(MARK, "1")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(errors)
        .spawn()
        .context("cannot start the process that stays")?;
    let lines = child.stdout.take().context("the process that stays has no output")?;
    let mut ready = false;
    for line in BufReader::new(lines).lines().map_while(Result::ok) {
        ready |= line.starts_with("cluster ready");
        println!("{line}");
    }
    if !ready {
        let status = child.wait()?;
        bail!("the cluster did not start ({status}):\n{}", last_lines(&log));
    }
    Ok(())
}

fn last_lines(log: &std::path::Path) -> String {
    let text = std::fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(10)..].join("\n")
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
