//! Reading a log as a stream of bytes, to its end or for as long as the container runs.

use std::{
    future::Future,
    io::{self, SeekFrom},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    time::Duration,
};

use bytes::Bytes;
use jiff::Timestamp;
use tokio::{
    fs::File,
    io::{AsyncBufReadExt, AsyncSeekExt, BufReader},
    sync::mpsc,
};

use super::{line, line::StreamKind, tail};

/// How often a followed file is looked at while nothing comes.
const POLL: Duration = Duration::from_millis(100);
const BATCH_BYTES: usize = 32 * 1024;

/// What of a log is wanted.
#[derive(Clone, Debug, Default)]
pub struct Options {
    pub tail_lines: Option<u64>,
    pub since: Option<Timestamp>,
    pub timestamps: bool,
    pub limit_bytes: Option<u64>,
    pub follow: bool,
    pub stream: Option<StreamKind>,
}

/// Sends a log's lines to `out`. Ends at the end of the log, when `running` says that nothing more comes, when
/// the limit is reached, or when nobody listens any more.
pub async fn stream<F, Fut>(path: &Path, options: &Options, running: F, out: mpsc::Sender<Bytes>) -> io::Result<()>
where
    F: Fn() -> Fut,
    Fut: Future<Output = bool>,
{
    let (files, skip, offset) = locate(path, options.tail_lines).await?;
    let mut sink = Sink { options, out, batch: Vec::new(), left: options.limit_bytes };
    let mut offset = offset;
    let last = files.len().saturating_sub(1);
    for (index, file) in files.iter().enumerate().skip(skip) {
        let mut reader = match Reader::open(file, std::mem::take(&mut offset)).await {
            // Rotated away or not begun yet; the present file is waited for below.
            Err(error) if error.kind() == io::ErrorKind::NotFound && index < last => continue,
            Err(error) if error.kind() == io::ErrorKind::NotFound && !options.follow => return Ok(()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => match wait_for(file, &running).await? {
                Some(reader) => reader,
                None => return Ok(()),
            },
            other => other?,
        };
        if !reader.drain(&mut sink).await? {
            return Ok(());
        }
        if index == last && options.follow {
            return follow(file, reader, &mut sink, &running).await;
        }
    }
    sink.flush().await;
    Ok(())
}

async fn locate(path: &Path, tail_lines: Option<u64>) -> io::Result<(Vec<PathBuf>, usize, u64)> {
    let path = path.to_owned();
    let blocking = tokio::task::spawn_blocking(move || {
        let files = tail::files(&path)?;
        let (skip, offset) = match tail_lines {
            Some(lines) => tail::start(&files, lines)?,
            None => (0, 0),
        };
        // With no lines wanted, only what is still to come counts.
        let skip = if tail_lines == Some(0) { files.len() - 1 } else { skip };
        let offset =
            if tail_lines == Some(0) { std::fs::metadata(&path).map_or(0, |found| found.len()) } else { offset };
        Ok((files, skip, offset))
    });
    blocking.await.map_err(io::Error::other)?
}

async fn wait_for<F, Fut>(path: &Path, running: &F) -> io::Result<Option<Reader>>
where
    F: Fn() -> Fut,
    Fut: Future<Output = bool>,
{
    loop {
        match Reader::open(path, 0).await {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                if !running().await {
                    return Ok(None);
                }
                tokio::time::sleep(POLL).await;
            }
            other => return other.map(Some),
        }
    }
}

async fn follow<F, Fut>(path: &Path, mut reader: Reader, sink: &mut Sink<'_>, running: &F) -> io::Result<()>
where
    F: Fn() -> Fut,
    Fut: Future<Output = bool>,
{
    loop {
        // Asked before the file is read, so that what was written last is not missed.
        let runs = running().await;
        if !reader.drain(sink).await? {
            return Ok(());
        }
        sink.flush().await;
        if rotated(path, reader.inode).await {
            if !reader.drain(sink).await? {
                return Ok(());
            }
            reader = Reader::open(path, 0).await?;
            continue;
        }
        if !runs || sink.out.is_closed() {
            return Ok(());
        }
        tokio::select! {
            () = tokio::time::sleep(POLL) => {}
            () = sink.out.closed() => return Ok(()),
        }
    }
}

async fn rotated(path: &Path, inode: u64) -> bool {
    tokio::fs::metadata(path).await.is_ok_and(|found| found.ino() != inode)
}

struct Reader {
    file: BufReader<File>,
    inode: u64,
    /// A line whose end is not written yet.
    rest: Vec<u8>,
}

impl Reader {
    async fn open(path: &Path, offset: u64) -> io::Result<Self> {
        let mut file = File::open(path).await?;
        let inode = file.metadata().await?.ino();
        file.seek(SeekFrom::Start(offset)).await?;
        Ok(Self { file: BufReader::with_capacity(64 * 1024, file), inode, rest: Vec::new() })
    }

    /// Sends all complete lines; false where nothing more is wanted.
    async fn drain(&mut self, sink: &mut Sink<'_>) -> io::Result<bool> {
        loop {
            self.file.read_until(b'\n', &mut self.rest).await?;
            if !self.rest.ends_with(b"\n") {
                return Ok(true);
            }
            let line = std::mem::take(&mut self.rest);
            if !sink.line(&line).await {
                return Ok(false);
            }
        }
    }
}

struct Sink<'a> {
    options: &'a Options,
    out: mpsc::Sender<Bytes>,
    batch: Vec<u8>,
    left: Option<u64>,
}

impl Sink<'_> {
    /// False once nothing more is wanted.
    async fn line(&mut self, bytes: &[u8]) -> bool {
        let Some(line) = line::parse(bytes) else {
            tracing::debug!("a line of a container log is not in the CRI format and is left out");
            return true;
        };
        let unwanted_stream = self.options.stream.is_some_and(|stream| stream != line.stream);
        if unwanted_stream || self.options.since.is_some_and(|since| line.time < since) {
            return true;
        }
        let from = self.batch.len();
        if self.options.timestamps {
            self.batch.extend_from_slice(line.time_text.as_bytes());
            self.batch.push(b' ');
        }
        self.batch.extend_from_slice(&line.content);
        if let Some(left) = &mut self.left {
            let added = (self.batch.len() - from) as u64;
            if added >= *left {
                self.batch.truncate(from + usize::try_from(*left).unwrap_or(0));
                self.flush().await;
                return false;
            }
            *left -= added;
        }
        if self.batch.len() >= BATCH_BYTES {
            return self.flush().await;
        }
        true
    }

    async fn flush(&mut self) -> bool {
        if self.batch.is_empty() {
            return true;
        }
        self.out.send(Bytes::from(std::mem::take(&mut self.batch))).await.is_ok()
    }
}
