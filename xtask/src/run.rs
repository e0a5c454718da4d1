//! Running other programs, with their time and a clear error.

use std::{
    path::{Path, PathBuf},
    process::Command,
    time::Instant,
};

use anyhow::{Context, Result, bail};

/// The workspace's root.
pub fn root() -> &'static Path {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here)
}

pub fn cargo() -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(root());
    command
}

/// Runs a command to its end; an exit code other than 0 is an error.
pub fn check(command: &mut Command) -> Result<()> {
    let shown = shown(command);
    let status = command.status().with_context(|| format!("cannot run `{shown}`"))?;
    if !status.success() {
        bail!("`{shown}` failed ({status})");
    }
    Ok(())
}

/// Runs a command and returns what it printed.
pub fn output(command: &mut Command) -> Result<String> {
    let shown = shown(command);
    let output = command.output().with_context(|| format!("cannot run `{shown}`"))?;
    if !output.status.success() {
        bail!("`{shown}` failed ({}):\n{}", output.status, String::from_utf8_lossy(&output.stderr));
    }
    Ok(String::from_utf8(output.stdout)?)
}

fn shown(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
}

/// Runs one named step and says how long it took.
pub fn step<T>(name: &str, act: impl FnOnce() -> Result<T>) -> Result<T> {
    println!("\n\x1b[1m== {name}\x1b[0m");
    let start = Instant::now();
    let done = act().with_context(|| format!("the step \"{name}\" failed"))?;
    println!("== {name}: {:.1} s", start.elapsed().as_secs_f64());
    Ok(done)
}

pub fn is_root() -> Result<bool> {
    Ok(output(Command::new("id").arg("-u"))?.trim() == "0")
}

/// The binary to show and to test: the release build, or the one that `KNARR` names.
pub fn binary() -> Result<PathBuf> {
    let Some(given) = std::env::var_os("KNARR").map(PathBuf::from) else { return release_binary() };
    println!("KNARR names {}: nothing is built", given.display());
    given.canonicalize().with_context(|| format!("KNARR names {}, which is not there", given.display()))
}

/// Builds the release binary and returns where it is.
pub fn release_binary() -> Result<PathBuf> {
    check(cargo().args(["build", "--release", "--package", "knarr"]))?;
    Ok(target_dir()?.join("release/knarr"))
}

/// Where Cargo puts what it builds for this host.
pub fn target_dir() -> Result<PathBuf> {
    let metadata = output(cargo().args(["metadata", "--no-deps", "--format-version", "1"]))?;
    let metadata: serde_json::Value = serde_json::from_str(&metadata)?;
    let dir = metadata["target_directory"].as_str().context("cargo names no target directory")?;
    let version = output(Command::new("rustc").arg("-vV"))?;
    let host = version.lines().find_map(|line| line.strip_prefix("host: ")).context("rustc names no host")?;
    Ok(Path::new(dir).join(host))
}
