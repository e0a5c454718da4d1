//! Waiting for a condition with a deadline; the last reason why it did not hold is the error.

use std::{
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};

/// Waits up to 60 seconds until `check` succeeds.
pub fn eventually<T>(what: &str, check: impl FnMut() -> Result<T>) -> Result<T> {
    eventually_within(Duration::from_secs(60), what, check)
}

pub fn eventually_within<T>(patience: Duration, what: &str, mut check: impl FnMut() -> Result<T>) -> Result<T> {
    let deadline = Instant::now() + patience;
    loop {
        match check() {
            Ok(found) => return Ok(found),
            Err(error) if Instant::now() > deadline => {
                return Err(error).with_context(|| format!("after {} s: {what}", patience.as_secs()));
            }
            Err(_) => thread::sleep(Duration::from_millis(50)),
        }
    }
}
