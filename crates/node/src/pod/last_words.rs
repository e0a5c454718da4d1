//! Termination messages: what a container wrote to its termination file, or the end of its log where its
//! policy says so.

use std::{
    fs::File,
    io::{self, Read, Seek, SeekFrom},
    path::Path,
};

use super::{containers::Entry, observe::Instance, start::termination_file};

const FILE_LIMIT: u64 = 4096;
const LOG_LIMIT_BYTES: u64 = 2048;
const LOG_LIMIT_LINES: usize = 80;

pub async fn read(entry: &Entry, run: &Instance, dir: &Path, log_dir: &Path) -> String {
    let path = termination_file(dir, entry.name(), run.restart_count);
    let log = match run.log_path.as_str() {
        "" => log_dir.join(entry.name()).join(format!("{}.log", run.restart_count)),
        path => path.into(),
    };
    let falls_back = entry.spec.termination_message_policy.as_deref() == Some("FallbackToLogsOnError");
    let falls_back = falls_back && run.code() != 0;
    let words = knarr_os::aside(move || {
        let bytes = end_of(&path).unwrap_or_default();
        if bytes.is_empty() && falls_back { tail(&log) } else { String::from_utf8_lossy(&bytes).into_owned() }
    });
    words.await.unwrap_or_default()
}

/// A container may write as much as it likes: only the end is read.
fn end_of(path: &Path) -> io::Result<Vec<u8>> {
    let mut file = File::open(path)?;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(FILE_LIMIT)))?;
    let mut bytes = Vec::new();
    file.take(FILE_LIMIT).read_to_end(&mut bytes)?;
    Ok(bytes)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_many_words_the_last_count() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("termination-log");
        assert!(end_of(&path).is_err());
        std::fs::write(&path, "brief").unwrap();
        assert_eq!(end_of(&path).unwrap(), b"brief");
        let file = File::options().write(true).open(&path).unwrap();
        file.set_len(1 << 40).unwrap();
        std::os::unix::fs::FileExt::write_all_at(&file, b"the end", (1 << 40) - 7).unwrap();
        let end = end_of(&path).unwrap();
        assert_eq!(end.len(), 4096);
        assert!(end.ends_with(b"the end"));
    }
}
