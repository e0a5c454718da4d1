//! Many seeds, each a history of its own; see the crate's documentation for what a run is and how to replay one.

use std::{
    sync::{
        Mutex,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use knarr_sim::{Report, Simulator};

knarr_os::replace_getrandom!(knarr_sim::fill_entropy);

/// How many seeds are tried where the environment does not say, and how long they may take together.
const SEEDS: u64 = 200;
const MOST: Duration = Duration::from_secs(25);
/// The seed that is run a second time, in another process.
const REPLAYED: u64 = 5;

fn number(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{variable}={text:?} is no number")))
}

fn listen() {
    if std::env::var_os("KNARR_TEST_LOG").is_some() {
        let filter = std::env::var("RUST_LOG").unwrap_or_else(|_| "knarr=debug,warn".into());
        let filter = tracing_subscriber::EnvFilter::new(filter);
        drop(tracing_subscriber::fmt().with_env_filter(filter).with_test_writer().without_time().try_init());
    }
}

/// `KNARR_SIM_SEED=17` runs that seed alone; `KNARR_SIM_SEEDS=5000` as many as that, however long it takes, from
/// `KNARR_SIM_FIRST` on.
#[test]
fn every_seed_ends_well_and_can_be_replayed() {
    listen();
    match number("KNARR_SIM_SEED") {
        Some(seed) => replay(seed),
        None => run_many(number("KNARR_SIM_SEEDS")),
    }
}

fn replay(seed: u64) {
    let report = Simulator::new(seed + 1).run(seed);
    if std::env::var_os("KNARR_SIM_HISTORY").is_some() {
        report.history.iter().for_each(|line| println!("{line}"));
    }
    println!("{}", summary(&report));
    assert!(report.complaints.is_empty(), "{:#?}", report.complaints);
}

/// The last line of a history has the digest of all of it.
fn summary(report: &Report) -> String {
    let last = report.history.last().map_or("nothing happened", String::as_str);
    format!("seed {}: settled after {:?}; {last}", report.seed, report.settled_after)
}

fn run_many(asked: Option<u64>) {
    let started = Instant::now();
    let seeds = asked.unwrap_or(SEEDS);
    let first = number("KNARR_SIM_FIRST").unwrap_or(0);
    let simulator = Simulator::new(first + seeds);
    let (next, events, done) = (AtomicU64::new(first), AtomicUsize::new(0), AtomicU64::new(0));
    let (failed, replayed) = (Mutex::new(Vec::new()), Mutex::new(None));
    let work = || loop {
        let seed = next.fetch_add(1, Ordering::Relaxed);
        if seed >= first + seeds || (asked.is_none() && started.elapsed() > MOST) {
            return;
        }
        let report = simulator.run(seed);
        done.fetch_add(1, Ordering::Relaxed);
        events.fetch_add(report.history.len(), Ordering::Relaxed);
        if seed == REPLAYED {
            *replayed.lock().unwrap() = Some(summary(&report));
        }
        if !report.complaints.is_empty() {
            failed.lock().unwrap().push(report);
        }
    };
    thread::scope(|scope| {
        (0..thread::available_parallelism().map_or(1, usize::from)).for_each(|_| drop(scope.spawn(work)));
    });
    println!("{done:?} seeds, {events:?} events, {:.1} s", started.elapsed().as_secs_f64());
    for report in &*failed.lock().unwrap() {
        println!("replay with KNARR_SIM_SEED={}: {:#?}", report.seed, report.complaints);
    }
    assert!(failed.lock().unwrap().is_empty(), "{} seeds failed", failed.lock().unwrap().len());
    if let Some(summary) = &*replayed.lock().unwrap() {
        goes_the_same_way_again(summary);
    }
}

#[allow(clippy::disallowed_methods)] // a replay is another process
fn goes_the_same_way_again(summary: &str) {
    let mut again = std::process::Command::new(std::env::current_exe().unwrap());
    let output = again.arg("--nocapture").env("KNARR_SIM_SEED", REPLAYED.to_string()).output().unwrap();
    let told = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(told.contains(summary), "{summary:?} went another way the second time:\n{told}");
}
