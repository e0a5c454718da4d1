//! Termination messages: what a container wrote to its termination file, or the end of its log where its
//! policy says so.

use std::path::Path;

use super::{containers::Entry, observe::Instance, start::termination_file};

const FILE_LIMIT: usize = 4096;
const LOG_LIMIT_BYTES: u64 = 2048;
const LOG_LIMIT_LINES: usize = 80;

pub async fn read(entry: &Entry, run: &Instance, dir: &Path, log_dir: &Path) -> String {
    let path = termination_file(dir, entry.name(), run.restart_count);
    let mut bytes = tokio::fs::read(path).await.unwrap_or_default();
    bytes.truncate(FILE_LIMIT);
    let falls_back = entry.spec.termination_message_policy.as_deref() == Some("FallbackToLogsOnError");
    if bytes.is_empty() && falls_back && run.code() != 0 {
        let path = if run.log_path.is_empty() {
            log_dir.join(entry.name()).join(format!("{}.log", run.restart_count))
        } else {
            run.log_path.clone().into()
        };
        return tokio::task::spawn_blocking(move || tail(&path)).await.unwrap_or_default();
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn tail(path: &Path) -> String {
    let lines = crate::logs::tail_lines(path, LOG_LIMIT_LINES).unwrap_or_default();
    let mut text = Vec::new();
    for line in lines {
        text.extend_from_slice(&line.content);
    }
    let from = text.len().saturating_sub(usize::try_from(LOG_LIMIT_BYTES).unwrap_or(usize::MAX));
    String::from_utf8_lossy(&text[from..]).into_owned()
}
