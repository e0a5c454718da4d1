//! Constant HTTP load from outside the cluster: this program again, in the outside's network.

use std::{
    collections::BTreeMap,
    env,
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    process::{Child, ChildStdin, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use crate::host::outside;

const MARK: &str = "KNARR_TEST_LOAD";
const CLIENTS: usize = 4;
const PATIENCE: Duration = Duration::from_secs(5);

/// How many requests had which answer.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// By the first word of the answer.
    pub answers: BTreeMap<String, u64>,
    pub failures: Vec<String>,
}

impl Report {
    pub fn total(&self) -> u64 {
        self.answers.values().sum()
    }

    /// The share of requests with this answer.
    pub fn share(&self, word: &str) -> f64 {
        self.answers.get(word).copied().unwrap_or(0) as f64 / self.total().max(1) as f64
    }
}

/// Clients that send one request after another, each on a connection of its own, until stopped.
pub struct Load {
    child: Child,
    stop: Option<ChildStdin>,
}

impl Load {
    pub fn start(target: &str) -> Result<Self> {
        let exe = env::current_exe()?;
        let mut command = outside(exe.to_str().context("the test's path is no text")?);
        let mut child = command.env(MARK, target).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let stop = child.stdin.take();
        Ok(Self { child, stop })
    }

    pub fn stop(mut self) -> Result<Report> {
        drop(self.stop.take());
        let mut text = String::new();
        self.child.stdout.take().context("no stdout")?.read_to_string(&mut text)?;
        self.child.wait()?;
        let said: Value = serde_json::from_str(&text).with_context(|| format!("the load said {text:?}"))?;
        let answers = said["answers"].as_object().cloned().unwrap_or_default();
        let failures = said["failures"].as_array().cloned().unwrap_or_default();
        Ok(Report {
            answers: answers.into_iter().map(|(word, n)| (word, n.as_u64().unwrap_or(0))).collect(),
            failures: failures.iter().filter_map(|f| f.as_str().map(str::to_owned)).collect(),
        })
    }
}

/// Plays the outside's clients if this process was started for that.
pub fn play_if_asked() -> Result<bool> {
    let Ok(target) = env::var(MARK) else { return Ok(false) };
    let target: SocketAddr = target.parse()?;
    let stopped = Arc::new(AtomicBool::new(false));
    let clients: Vec<_> = (0..CLIENTS)
        .map(|_| {
            let stopped = stopped.clone();
            thread::spawn(move || client(target, &stopped))
        })
        .collect();
    let _ = std::io::stdin().read_to_end(&mut Vec::new());
    stopped.store(true, Ordering::Relaxed);
    let mut all = Report::default();
    for client in clients {
        let report = client.join().map_err(|_| anyhow::anyhow!("a client panicked"))?;
        for (word, n) in report.answers {
            *all.answers.entry(word).or_default() += n;
        }
        all.failures.extend(report.failures);
    }
    println!("{}", json!({"answers": all.answers, "failures": all.failures}));
    Ok(true)
}

fn client(target: SocketAddr, stopped: &AtomicBool) -> Report {
    let mut report = Report::default();
    while !stopped.load(Ordering::Relaxed) {
        match request(target) {
            Ok(body) => {
                let word = body.split_whitespace().next().unwrap_or_default().to_owned();
                *report.answers.entry(word).or_default() += 1;
            }
            Err(error) => report.failures.push(format!("{error:#}")),
        }
    }
    report
}

/// One plain request; returns the body of a 200.
pub fn request(target: SocketAddr) -> Result<String> {
    let mut stream = TcpStream::connect_timeout(&target, PATIENCE).context("connect")?;
    stream.set_read_timeout(Some(PATIENCE))?;
    write!(stream, "GET / HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n").context("send")?;
    let mut response = String::new();
    stream.read_to_string(&mut response).context("receive")?;
    let (head, body) = response.split_once("\r\n\r\n").context("no HTTP response")?;
    if !head.contains(" 200 ") {
        bail!("{}", head.lines().next().unwrap_or_default());
    }
    Ok(body.to_owned())
}
