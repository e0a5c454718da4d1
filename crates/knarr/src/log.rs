//! Where log lines go: to standard error, filtered by `RUST_LOG`, as JSON where `KNARR_LOG_FORMAT=json`.

use tracing_subscriber::EnvFilter;

/// Warnings of the program itself; libraries are heard only in trouble.
const DEFAULT: &str = "warn";

pub fn to_stderr() {
    let wanted = std::env::var("RUST_LOG").unwrap_or_else(|_| DEFAULT.into());
    let filter = EnvFilter::new(format!("{wanted},{}", knarr_net::LOG_DIRECTIVES));
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let set = match std::env::var("KNARR_LOG_FORMAT").as_deref() {
        Ok("json") => lines.json().try_init(),
        _ => lines.with_target(true).try_init(),
    };
    // A second call changes nothing.
    drop(set);
}
