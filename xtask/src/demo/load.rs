//! Requests to the demo app, and a count of what answered.

use std::{
    collections::BTreeMap,
    fmt,
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};

const PATIENCE: Duration = Duration::from_secs(3);
const SHOW_EVERY: Duration = Duration::from_millis(250);

/// How many requests each version answered, and how many nobody did.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    pub answered: BTreeMap<String, u32>,
    pub failed: u32,
    pub took: Duration,
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { answered, failed, took } = self;
        let total: u32 = answered.values().sum();
        let shares = answered.iter().map(|(version, count)| format!("{count} by {version}"));
        let shares = shares.collect::<Vec<_>>().join(", ");
        let seconds = took.as_secs_f64();
        write!(f, "{total} requests were answered in {seconds:.1} s ({shares}); {failed} failed")
    }
}

/// Sends one request after another until `done` says so, and shows now and then which version answers.
pub fn until(target: SocketAddr, mut done: impl FnMut() -> Result<bool>) -> Result<Tally> {
    let started = Instant::now();
    let (mut all, mut shown, mut recent) = (Tally::default(), started, String::new());
    loop {
        match get(target) {
            Ok(body) => {
                let version = body.split_whitespace().next().unwrap_or("?").trim_start_matches("version=").to_owned();
                if shown.elapsed() > SHOW_EVERY || all.answered.is_empty() {
                    shown = Instant::now();
                    recent.clear();
                    print!("\n  {:>4.1} s  ", started.elapsed().as_secs_f64());
                }
                // A line holds the first answers of its quarter of a second; all are counted.
                if recent.len() < 60 {
                    recent.push_str(&version);
                    recent.push(' ');
                    print!("{version} ");
                    std::io::stdout().flush()?;
                }
                *all.answered.entry(version).or_default() += 1;
            }
            Err(error) => {
                all.failed += 1;
                println!("\n  a request failed: {error:#}");
            }
        }
        if done()? {
            println!();
            all.took = started.elapsed();
            return Ok(all);
        }
    }
}

/// One plain HTTP request on a connection of its own.
pub fn get(target: SocketAddr) -> Result<String> {
    let mut stream = TcpStream::connect_timeout(&target, PATIENCE).context("cannot connect")?;
    stream.set_read_timeout(Some(PATIENCE))?;
    write!(stream, "GET / HTTP/1.1\r\nHost: demo\r\nConnection: close\r\n\r\n")?;
    let mut response = String::new();
    stream.read_to_string(&mut response).context("no answer")?;
    let (head, body) = response.split_once("\r\n\r\n").context("no HTTP response")?;
    if !head.starts_with("HTTP/1.1 200") {
        bail!("{}", head.lines().next().unwrap_or_default());
    }
    Ok(body.to_owned())
}
