//! Histories of concurrent clients across `kill -9`, checked afterwards: per key linearizable, every watch the commit
//! order, no revision twice. For the embedded store the process that has it is killed, clients and all; for etcd it is
//! etcd.
//!
//! A failure names its seed; `SEED=n` makes the same choices again, though not the same instants.

#![allow(clippy::disallowed_methods)] // what is killed is a process of its own

mod check;
mod clients;
#[path = "../common/etcd.rs"]
mod etcd;
mod record;

use std::{
    io::{BufRead, BufReader, Write},
    path::Path,
    process::{Command, Stdio},
    sync::{Arc, Mutex},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use knarr_store::{EmbeddedStore, Store, StoreError, engine::disk::DiskEngine};
use libtest_mimic::{Arguments, Trial};
use rand::{Rng, SeedableRng, rngs::StdRng};
use tokio::sync::watch;

use clients::{Out, work};
use etcd::Etcd;

const DIR: &str = "KNARR_STORE_HISTORY_DIR";
const ROUND: &str = "KNARR_STORE_HISTORY_ROUND";
const ROUNDS: u64 = 6;
const PATIENCE: Duration = Duration::from_secs(120);
/// Fewer would show nothing.
const LEAST_WRITES: usize = 50;

fn main() {
    if let Ok(dir) = std::env::var(DIR) {
        return child(Path::new(&dir));
    }
    let arguments = Arguments::from_args();
    let program = etcd::program();
    let mut trials = check::trials();
    trials.push(Trial::test("embedded", || {
        embedded(seed());
        Ok(())
    }));
    let given = program.clone();
    let over_etcd = Trial::test("etcd", move || {
        run(over_etcd(seed(), Etcd::new(given.ok_or("no etcd")?)));
        Ok(())
    });
    trials.push(over_etcd.with_ignored_flag(program.is_none()));
    if program.is_none() {
        eprintln!("SKIPPED: histories over etcd; {} names no etcd (`./x test` does)", etcd::PROGRAM);
    }
    libtest_mimic::run(&arguments, trials).exit();
}

fn seed() -> u64 {
    let given = std::env::var("SEED").ok().and_then(|seed| seed.parse().ok());
    let seed = given.unwrap_or_else(|| SystemTime::now().duration_since(UNIX_EPOCH).unwrap().subsec_nanos().into());
    println!("seed {seed}; SEED={seed} replays it");
    seed
}

fn run<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap().block_on(future)
}

/// The process that is killed: the store and its clients. What they do goes to standard output as it happens.
fn child(dir: &Path) {
    let round = std::env::var(ROUND).unwrap().parse().unwrap();
    let seed = std::env::var("SEED").unwrap().parse().unwrap();
    let out: Out = Arc::new(|line| writeln!(std::io::stdout().lock(), "{line}").unwrap());
    run(async {
        let store: Arc<dyn Store> = Arc::new(EmbeddedStore::open(DiskEngine::open(dir, |_| None).unwrap()).unwrap());
        let (_never, stop) = watch::channel(false);
        work(store, seed, round, out, stop).await;
    });
}

fn embedded(seed: u64) {
    let dir = tempfile::tempdir().unwrap();
    let mut random = StdRng::seed_from_u64(seed);
    let mut lines = Vec::new();
    for round in 0..ROUNDS {
        lines.extend(until_killed(dir.path(), seed, round, random.random_range(100..600)));
    }
    let written = run(async {
        let store: Arc<dyn Store> = Arc::new(open(dir.path()).await);
        check::check(&lines, &clients::commit_order(&*store).await)
    });
    let written = written.unwrap_or_else(|error| panic!("seed {seed}: {error}"));
    assert!(written >= LEAST_WRITES, "only {written} writes were acknowledged");
}

/// Killed after so many lines, for a busy machine may do nothing in any time.
fn until_killed(dir: &Path, seed: u64, round: u64, after: usize) -> Vec<String> {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .env(DIR, dir)
        .env(ROUND, round.to_string())
        .env("SEED", seed.to_string())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut read = BufReader::new(child.stdout.take().unwrap());
    let (told, lines_read) = std::sync::mpsc::channel();
    let reader = std::thread::spawn(move || {
        let mut lines = Vec::new();
        let mut line = String::new();
        // The kill may cut the last line short; it was not told then.
        while read.read_line(&mut line).is_ok_and(|size| size > 0) && line.ends_with('\n') {
            lines.push(line.trim_end().to_owned());
            line.clear();
            let _ = told.send(());
        }
        lines
    });
    for _ in 0..after {
        lines_read.recv_timeout(PATIENCE).expect("the clients work");
    }
    child.kill().unwrap();
    child.wait().unwrap();
    reader.join().unwrap()
}

async fn open(dir: &Path) -> EmbeddedStore<DiskEngine> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match DiskEngine::open(dir, |_| None) {
            Ok(engine) => return EmbeddedStore::open(engine).unwrap(),
            Err(StoreError::Locked { .. }) if Instant::now() < deadline => {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            Err(error) => panic!("{error}"),
        }
    }
}

/// Waits until so much more was noted.
async fn more_lines(lines: &Mutex<Vec<String>>, count: usize) {
    let wanted = lines.lock().unwrap().len() + count;
    let deadline = Instant::now() + PATIENCE;
    while lines.lock().unwrap().len() < wanted {
        assert!(Instant::now() < deadline, "the clients do nothing");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

async fn over_etcd(seed: u64, mut etcd: Etcd) {
    etcd.wait().await;
    let mut random = StdRng::seed_from_u64(seed);
    let lines = Arc::new(Mutex::new(Vec::new()));
    let kept = lines.clone();
    let out: Out = Arc::new(move |line| kept.lock().unwrap().push(line));
    let (end, stop) = watch::channel(false);
    // Two servers, of which each has clients of its own.
    let servers = [0, 1].map(|round| {
        let store: Arc<dyn Store> = Arc::new(etcd.store("", "/test/"));
        tokio::spawn(work(store, seed, round, out.clone(), stop.clone()))
    });
    for _ in 0..ROUNDS / 2 {
        more_lines(&lines, random.random_range(100..600)).await;
        etcd.kill();
        etcd.start();
        etcd.wait().await;
    }
    more_lines(&lines, 100).await;
    end.send_replace(true);
    for server in servers {
        tokio::time::timeout(PATIENCE, server).await.expect("the clients end").unwrap();
    }
    let order = clients::commit_order(&etcd.store("", "/test/")).await;
    let lines = lines.lock().unwrap();
    let written = check::check(&lines, &order).unwrap_or_else(|error| panic!("seed {seed}: {error}"));
    assert!(written >= LEAST_WRITES, "only {written} writes were acknowledged");
}
