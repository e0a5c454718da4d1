//! The log: one line of JSON an event, in a file that is turned over when it is full, or to stdout.
//!
//! One task writes. What it has not written yet is bounded in bytes: a request whose event finds no room waits until
//! there is some, so that a slow disk slows the API down and loses nothing, as upstream's blocking mode does. Only the
//! last event of a request whose client has gone cannot wait; where there is no room for it, the loss is said in the
//! process's own log.

use std::{
    fs::{File, OpenOptions},
    io::{self, Write},
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
    sync::Arc,
};

use jiff::{SignedDuration, Timestamp, fmt::strtime, tz::TimeZone};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

use crate::Env;

/// What waits to be written, in units of [`UNIT`] bytes.
const ROOM: u32 = 65_536;
const UNIT: usize = 1 << 10;
const AT_ONCE: usize = 256;
/// Where no size is given, as upstream has it.
const DEFAULT_SIZE_BYTES: u64 = 100 << 20;
/// Nobody but the server's own user reads what is in requests.
const MODE: u32 = 0o600;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogConfig {
    /// `-` for stdout.
    pub path: PathBuf,
    /// The file is turned over before it grows beyond this; 0 for 100 MB.
    pub max_size_bytes: u64,
    /// How many old files are kept; 0 for all.
    pub max_backups: usize,
    /// For how many days old files are kept; 0 for ever.
    pub max_age_days: u32,
}

#[derive(Debug, thiserror::Error)]
#[error("{path}: check that its directory exists and can be written")]
pub struct LogError {
    path: PathBuf,
    #[source]
    source: io::Error,
}

/// A line and the room that it takes.
struct Line {
    text: Vec<u8>,
    _room: OwnedSemaphorePermit,
}

pub struct Log {
    room: Arc<Semaphore>,
    lines: mpsc::UnboundedSender<Line>,
}

impl Log {
    pub fn open(config: LogConfig, env: Env) -> Result<Self, LogError> {
        let path = config.path.clone();
        let target = Target::open(config, env).map_err(|source| LogError { path, source })?;
        // As many lines as there is room for; each has its permit.
        let (lines, receive) = mpsc::unbounded_channel();
        tokio::task::spawn_blocking(move || write_all(target, receive));
        Ok(Self { room: Arc::new(Semaphore::new(ROOM as usize)), lines })
    }

    /// Waits for room. A line that is larger than all there is waits until everything else is written.
    pub async fn write(&self, text: Vec<u8>) {
        if let Ok(room) = self.room.clone().acquire_many_owned(units(&text)).await {
            let _ = self.lines.send(Line { text, _room: room });
        }
    }

    /// For where nobody can wait.
    pub fn write_now(&self, text: Vec<u8>) {
        match self.room.clone().try_acquire_many_owned(units(&text)) {
            Ok(room) => drop(self.lines.send(Line { text, _room: room })),
            Err(_) => tracing::error!("the audit log is behind, and an event of a request that was given up is lost"),
        }
    }
}

fn units(text: &[u8]) -> u32 {
    u32::try_from(text.len().div_ceil(UNIT)).unwrap_or(ROOM).clamp(1, ROOM)
}

/// Ends when the log is dropped, with everything written.
fn write_all(mut target: Target, mut lines: mpsc::UnboundedReceiver<Line>) {
    let mut batch = Vec::new();
    let mut is_well = true;
    while lines.blocking_recv_many(&mut batch, AT_ONCE) > 0 {
        let written = batch.drain(..).try_for_each(|line| target.line(&line.text)).and_then(|()| target.flush());
        match &written {
            Err(cause) if is_well => tracing::error!(%cause, "audit events could not be written and are lost"),
            _ => {}
        }
        is_well = written.is_ok();
    }
}

enum Target {
    Stdout,
    File(Rotating),
}

impl Target {
    fn open(config: LogConfig, env: Env) -> io::Result<Self> {
        if config.path == Path::new("-") {
            return Ok(Self::Stdout);
        }
        Rotating::open(config, env).map(Self::File)
    }

    fn line(&mut self, text: &[u8]) -> io::Result<()> {
        match self {
            Self::Stdout => io::stdout().write_all(text),
            Self::File(file) => file.line(text),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Stdout => io::stdout().flush(),
            Self::File(_) => Ok(()),
        }
    }
}

pub(super) struct Rotating {
    config: LogConfig,
    env: Env,
    file: File,
    size_bytes: u64,
}

impl Rotating {
    pub(super) fn open(config: LogConfig, env: Env) -> io::Result<Self> {
        let (file, size_bytes) = append_to(&config.path)?;
        let log = Self { config, env, file, size_bytes };
        log.forget_old()?;
        Ok(log)
    }

    pub(super) fn line(&mut self, text: &[u8]) -> io::Result<()> {
        let most = match self.config.max_size_bytes {
            0 => DEFAULT_SIZE_BYTES,
            bytes => bytes,
        };
        if self.size_bytes > 0 && self.size_bytes + text.len() as u64 > most {
            self.turn_over()?;
        }
        self.file.write_all(text)?;
        self.size_bytes += text.len() as u64;
        Ok(())
    }

    /// `audit.log` becomes `audit-2026-01-02T15-04-05.000.log`; the time is UTC.
    fn turn_over(&mut self) -> io::Result<()> {
        let now = self.env.now();
        let mut old = self.backup_at(now);
        // Two in one millisecond.
        for more in 1.. {
            if !old.exists() {
                break;
            }
            old = self.backup_at(now + SignedDuration::from_millis(more));
        }
        std::fs::rename(&self.config.path, old)?;
        (self.file, self.size_bytes) = append_to(&self.config.path)?;
        self.forget_old()
    }

    fn parts(&self) -> (String, String) {
        let text = |part: Option<&std::ffi::OsStr>| part.unwrap_or_default().to_string_lossy().into_owned();
        let end = text(self.config.path.extension());
        let end = if end.is_empty() { end } else { format!(".{end}") };
        (format!("{}-", text(self.config.path.file_stem())), end)
    }

    fn backup_at(&self, time: Timestamp) -> PathBuf {
        let (begin, end) = self.parts();
        let stamp = strtime::format(STAMP, &time.to_zoned(TimeZone::UTC)).unwrap_or_default();
        self.config.path.with_file_name(format!("{begin}{stamp}{end}"))
    }

    /// Old files with their times, the newest first.
    fn backups(&self) -> io::Result<Vec<(Timestamp, PathBuf)>> {
        let directory = match self.config.path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        let (begin, end) = self.parts();
        let mut all = Vec::new();
        for entry in std::fs::read_dir(directory)? {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            let stamp = name.strip_prefix(&begin).and_then(|rest| rest.strip_suffix(&end));
            let time = stamp.and_then(|stamp| strtime::parse(STAMP, stamp).ok()?.to_datetime().ok());
            let time = time.and_then(|time| time.to_zoned(TimeZone::UTC).ok());
            all.extend(time.map(|time| (time.timestamp(), entry.path())));
        }
        all.sort_by(|a, b| b.cmp(a));
        Ok(all)
    }

    fn forget_old(&self) -> io::Result<()> {
        let LogConfig { max_backups, max_age_days, .. } = self.config;
        let day = SignedDuration::from_hours(24);
        let oldest = self.env.now().saturating_sub(day * i32::try_from(max_age_days).unwrap_or(i32::MAX));
        let oldest = oldest.unwrap_or(Timestamp::MIN);
        for (i, (time, path)) in self.backups()?.into_iter().enumerate() {
            if (max_backups > 0 && i >= max_backups) || (max_age_days > 0 && time < oldest) {
                std::fs::remove_file(path)?;
            }
        }
        Ok(())
    }
}

const STAMP: &str = "%Y-%m-%dT%H-%M-%S%.3f";

fn append_to(path: &Path) -> io::Result<(File, u64)> {
    let file = OpenOptions::new().append(true).create(true).mode(MODE).open(path)?;
    // One that was there before may have been readable to others.
    file.set_permissions(std::fs::Permissions::from_mode(MODE))?;
    let size_bytes = file.metadata()?.len();
    Ok((file, size_bytes))
}
