//! One call of one plugin.

use std::{path::Path, process::Stdio, time::Duration};

use serde::Deserialize;
use serde_json::Value;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    process::Command,
    time::timeout,
};

/// A plugin may wait for a server of addresses.
const LIMIT: Duration = Duration::from_secs(90);
/// A result is a few hundred bytes.
const MAX_OUTPUT: u64 = 1 << 20;

#[derive(Debug, thiserror::Error)]
pub enum PluginError {
    #[error("failed to find plugin {kind:?} in path [{dir}]")]
    Missing { kind: String, dir: String },
    #[error("plugin type={kind:?} failed ({command}): {why}")]
    Failed { kind: String, command: &'static str, why: String },
}

/// What a plugin says when it fails.
#[derive(Deserialize)]
struct Complaint {
    #[serde(default)]
    msg: String,
    #[serde(default)]
    details: String,
}

/// What is asked of a plugin, beside its configuration.
#[derive(Clone, Debug)]
pub struct Call<'a> {
    pub bin_dir: &'a Path,
    pub command: &'static str,
    /// `CNI_CONTAINERID` and others.
    pub environment: &'a [(&'static str, String)],
}

/// Runs a plugin; what it prints is its result, `null` where it prints nothing.
pub async fn run(call: &Call<'_>, kind: &str, config: &Value) -> Result<Value, PluginError> {
    let command = call.command;
    let failed = |why: String| PluginError::Failed { kind: kind.to_owned(), command: name(command), why };
    let path = call.bin_dir.join(kind);
    if !path.is_file() {
        return Err(PluginError::Missing { kind: kind.to_owned(), dir: call.bin_dir.display().to_string() });
    }
    let mut process = Command::new(path);
    process
        .env("CNI_COMMAND", command)
        .env("CNI_PATH", call.bin_dir)
        .envs(call.environment.iter().map(|(key, value)| (key, value)))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        // One that takes too long is not left behind.
        .kill_on_drop(true);
    let mut child = process.spawn().map_err(|error| failed(error.to_string()))?;
    let (Some(mut input), Some(output), Some(errors)) = (child.stdin.take(), child.stdout.take(), child.stderr.take())
    else {
        return Err(failed("its streams cannot be had".to_owned()));
    };
    let config = config.to_string();
    let (mut said, mut complained) = (Vec::new(), Vec::new());
    let talk = async {
        let write = async {
            // A plugin that does not read it says by its result what it makes of that.
            let _ = input.write_all(config.as_bytes()).await;
            drop(input);
        };
        let (mut output, mut errors) = (output.take(MAX_OUTPUT), errors.take(MAX_OUTPUT));
        let (_, read, _) = tokio::join!(write, output.read_to_end(&mut said), errors.read_to_end(&mut complained));
        read?;
        child.wait().await
    };
    let status = match timeout(LIMIT, talk).await {
        Ok(ended) => ended.map_err(|error| failed(error.to_string()))?,
        Err(_) => return Err(failed(format!("it took longer than {} s", LIMIT.as_secs()))),
    };
    if status.success() {
        if said.iter().all(u8::is_ascii_whitespace) {
            return Ok(Value::Null);
        }
        return serde_json::from_slice(&said).map_err(|error| failed(format!("its result cannot be read: {error}")));
    }
    Err(failed(match serde_json::from_slice(&said) {
        Ok(Complaint { msg, details }) if details.is_empty() => msg,
        Ok(Complaint { msg, details }) => format!("{msg}; {details}"),
        Err(_) => format!("{status}: {}", String::from_utf8_lossy(&complained).trim()),
    }))
}

/// As libcni's errors name it.
fn name(command: &str) -> &'static str {
    match command {
        "ADD" => "add",
        "DEL" => "delete",
        "CHECK" => "check",
        "STATUS" => "status",
        _ => "gc",
    }
}
