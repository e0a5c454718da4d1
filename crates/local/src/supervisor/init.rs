//! What process 1 does for as long as the node runs.

use std::{
    ffi::{CString, OsStr},
    fs::{self, File},
    io::{self, Write},
    os::{
        fd::{AsFd, OwnedFd},
        unix::ffi::OsStrExt,
    },
    path::Path,
    time::{Duration, Instant},
};

use knarr_os::{
    Context, fds,
    process::{self, PidNamespace},
    root::{Root, magic_path},
};
use rustix::fs::OFlags;

use super::{LOG, name_servers::NameServers, root::PROGRAM};
use crate::Result;

const SIGTERM: i32 = 15;
/// How soon the program is started again; each time that it ends soon after, twice as late.
const FIRST_DELAY: Duration = Duration::from_millis(100);
const LONGEST_DELAY: Duration = Duration::from_secs(10);
/// After this long it counts as having run well.
const STEADY: Duration = Duration::from_secs(30);
/// How long the program may take to end when it is asked to.
const ORDERLY: Duration = Duration::from_secs(10);
/// How often the log and the name servers are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(5);
const LOG_BYTES: u64 = 16 << 20;

pub struct Init {
    // Says that the node runs, for as long as it is open.
    _held: File,
    log: File,
    disk: Root,
    name_servers: NameServers,
    children: OwnedFd,
    told: OwnedFd,
    arguments: Vec<CString>,
    environment: Vec<CString>,
}

/// What process 1 waits for.
enum Event {
    /// Children may have ended.
    Children,
    /// Somebody wants the node to end.
    Told,
    Time,
}

impl Init {
    pub fn new(held: File, log: File, disk: Root, name_servers: NameServers, arguments: &[String]) -> Result<Self> {
        let c_string = |text: &OsStr| CString::new(text.as_bytes()).os("use as an argument", text.to_string_lossy());
        let words = std::iter::once(PROGRAM).chain(arguments.iter().map(String::as_str));
        let environment = std::env::vars_os().map(|(name, value)| {
            let mut entry = name;
            entry.push("=");
            entry.push(value);
            c_string(&entry)
        });
        Ok(Self {
            _held: held,
            log,
            disk,
            name_servers,
            children: process::child_signals()?,
            told: process::end_signals()?,
            arguments: words.map(|word| c_string(OsStr::new(word))).collect::<std::result::Result<_, _>>()?,
            environment: environment.collect::<std::result::Result<_, _>>()?,
        })
    }

    /// Runs until it is told to end; returns the exit code.
    pub fn run(&self) -> i32 {
        let mut delay = FIRST_DELAY;
        loop {
            self.look_after();
            let begun = Instant::now();
            let said = match self.start() {
                Ok(program) => match self.wait_for(program, None) {
                    Some(exit_code) => format!("the program ended with code {exit_code}"),
                    None => return self.end(program),
                },
                Err(error) => format!("the program does not start: {}", error.line()),
            };
            if begun.elapsed() > STEADY {
                delay = FIRST_DELAY;
            }
            self.say(&format!("{said}; starting it again in {} ms", delay.as_millis()));
            if self.wait_until(Instant::now() + delay) {
                return 0;
            }
            delay = (2 * delay).min(LONGEST_DELAY);
        }
    }

    fn start(&self) -> knarr_os::Result<i32> {
        process::fork(PidNamespace::Inherit, || {
            process::reset_signals();
            let error = process::exec(&self.arguments[0], &self.arguments, &self.environment);
            self.say(&format!("cannot run {PROGRAM}: {error}"));
            127
        })
    }

    /// Waits for the program's end and gives its exit code; `None` where the time was over or somebody told this
    /// process to end.
    fn wait_for(&self, program: i32, deadline: Option<Instant>) -> Option<i32> {
        loop {
            while let Some(ended) = process::reap() {
                if ended.pid == program {
                    return Some(ended.exit_code);
                }
            }
            match self.next(deadline) {
                Event::Told => return None,
                Event::Time if deadline.is_some_and(|deadline| Instant::now() >= deadline) => return None,
                Event::Children | Event::Time => {}
            }
        }
    }

    /// Waits, collecting orphans; true where somebody told this process to end.
    fn wait_until(&self, deadline: Instant) -> bool {
        while Instant::now() < deadline {
            while process::reap().is_some() {}
            if let Event::Told = self.next(Some(deadline)) {
                return true;
            }
        }
        false
    }

    /// Lets the program end in order; what is left then ends with this process.
    fn end(&self, program: i32) -> i32 {
        if let Ok(program) = process::pidfd(program) {
            let _ = process::signal(&program, SIGTERM);
        }
        self.wait_for(program, Some(Instant::now() + ORDERLY));
        0
    }

    /// Waits for the next event, at most until the deadline, and does meanwhile what is to be done now and then.
    fn next(&self, deadline: Option<Instant>) -> Event {
        let rest = deadline.map_or(LOOK_EVERY, |deadline| deadline.saturating_duration_since(Instant::now()));
        // Rounded up, so that the last wait is not a row of empty ones.
        let wait_ms = rest.min(LOOK_EVERY).as_millis() as u32 + 1;
        let ready = fds::wait_readable(&[self.told.as_fd(), self.children.as_fd()], Some(wait_ms));
        match ready.as_deref() {
            Ok([true, _]) => Event::Told,
            Ok([_, true]) => {
                let mut discarded = [0; 1024];
                while fds::read(&self.children, &mut discarded).is_ok_and(|n| n > 0) {}
                Event::Children
            }
            _ => {
                self.look_after();
                Event::Time
            }
        }
    }

    fn look_after(&self) {
        self.name_servers.refresh();
        if self.log.metadata().is_ok_and(|log| log.len() > LOG_BYTES)
            && let Err(error) = self.begin_log_anew()
        {
            self.say(&format!("the log keeps growing: {error}"));
        }
    }

    /// Puts the log aside by copying it, for the program goes on writing to the file that it has.
    fn begin_log_anew(&self) -> io::Result<()> {
        let aside = self.disk.file(Path::new(&format!("{LOG}.1")))?;
        let mut aside = fs::OpenOptions::new().write(true).truncate(true).open(magic_path(&aside))?;
        io::copy(&mut File::from(self.disk.get(Path::new(LOG), OFlags::RDONLY)?), &mut aside)?;
        self.log.set_len(0)
    }

    fn say(&self, words: &str) {
        let _ = writeln!(&self.log, "knarr local-node: {words}");
    }
}
