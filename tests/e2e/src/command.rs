//! Running programs with a deadline, and reading what they said.

use std::{
    io::{Read, Write},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};

pub const PATIENCE: Duration = Duration::from_secs(60);

/// What a program said before it ended.
#[derive(Clone, Debug)]
pub struct Said {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

impl Said {
    /// Everything it printed.
    pub fn all(&self) -> String {
        format!("{}{}", self.stdout, self.stderr)
    }
}

/// A program that goes on while the test does; it is killed when dropped.
pub struct Running {
    child: Child,
    stdout: Option<thread::JoinHandle<String>>,
    stderr: Option<thread::JoinHandle<String>>,
}

fn drain(stream: Option<impl Read + Send + 'static>) -> Option<thread::JoinHandle<String>> {
    let mut stream = stream?;
    Some(thread::spawn(move || {
        let mut bytes = Vec::new();
        let _ = stream.read_to_end(&mut bytes);
        String::from_utf8_lossy(&bytes).into_owned()
    }))
}

/// Starts a program; `stdin` is given to it and closed.
pub fn start(command: &mut Command, stdin: &str) -> Result<Running> {
    let shown = format!("{command:?}");
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot run {shown}"))?;
    let mut input = child.stdin.take().context("no stdin")?;
    let text = stdin.to_owned();
    thread::spawn(move || drop(input.write_all(text.as_bytes())));
    let (stdout, stderr) = (drain(child.stdout.take()), drain(child.stderr.take()));
    Ok(Running { child, stdout, stderr })
}

impl Running {
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Waits for its end; kills it at the deadline, which is an error.
    pub fn finish(mut self, patience: Duration) -> Result<Said> {
        let deadline = Instant::now() + patience;
        let status = loop {
            if let Some(status) = self.child.try_wait()? {
                break Some(status);
            }
            if Instant::now() > deadline {
                let _ = self.child.kill();
                self.child.wait()?;
                break None;
            }
            thread::sleep(Duration::from_millis(2));
        };
        let said = self.collect(status.and_then(|status| status.code()).unwrap_or(-1));
        if status.is_none() {
            bail!("not ended after {} s; it said:\n{}", patience.as_secs(), said.all());
        }
        Ok(said)
    }

    /// Ends it now and returns what it said so far.
    pub fn kill(mut self) -> Result<Said> {
        let _ = self.child.kill();
        self.child.wait()?;
        Ok(self.collect(-1))
    }

    fn collect(&mut self, code: i32) -> Said {
        let text = |stream: Option<thread::JoinHandle<String>>| stream.and_then(|s| s.join().ok()).unwrap_or_default();
        Said { code, stdout: text(self.stdout.take()), stderr: text(self.stderr.take()) }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Runs a program to its end, whatever its exit code.
pub fn run(command: &mut Command) -> Result<Said> {
    run_with(command, "", PATIENCE)
}

pub fn run_with(command: &mut Command, stdin: &str, patience: Duration) -> Result<Said> {
    let shown = format!("{command:?}");
    start(command, stdin)?.finish(patience).with_context(|| shown)
}

/// Runs a program that must succeed; returns its output.
pub fn succeed(command: &mut Command) -> Result<String> {
    let shown = format!("{command:?}");
    let said = run(command)?;
    if said.code != 0 {
        bail!("{shown} failed with {}:\n{}", said.code, said.all());
    }
    Ok(said.stdout)
}
