//! How a process is told to end.

use tokio::signal::unix::{SignalKind, signal};

/// Ctrl-C, `knarr down`, or a terminal that goes away (unless `nohup` said that this is nothing to heed).
pub async fn interrupted() {
    let hangup =
        async { if hangup_is_ignored() { std::future::pending().await } else { came(SignalKind::hangup()).await } };
    tokio::select! {
        () = came(SignalKind::interrupt()) => {}
        () = came(SignalKind::terminate()) => {}
        () = hangup => {}
    }
}

/// `knarr down --pods`, or whoever has the power go off.
pub async fn machine_goes_down() {
    came(SignalKind::from_raw(rustix::process::Signal::POWER.as_raw())).await;
}

async fn came(kind: SignalKind) {
    match signal(kind) {
        Ok(mut signal) => drop(signal.recv().await),
        Err(_) => std::future::pending().await,
    }
}

fn hangup_is_ignored() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    ignored.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).is_some_and(|mask| mask & 1 == 1)
}
