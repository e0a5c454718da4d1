//! Runs seeds, each so that it goes the same way in every process and beside any others.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    thread,
    time::Duration,
};

use knarr_client::supervise::panic_message;
use tokio::runtime::{Builder, Runtime};

use crate::{
    Report,
    base::{self, Base},
    chance::seed_entropy,
    simulate,
};

/// The largest seed that can be asked for.
const MOST_SEEDS: u64 = 100_000;
const STACK_BYTES: usize = 8 << 20;

/// Has to be the first in its process to use tokio, and the only one of its kind: tokio seeds its own dice (the branch
/// at which `select!` begins, the order in which some are woken) from a counter of runtimes beside the entropy of the
/// thread, so that the runtime of each seed must always be the same one in number.
pub struct Simulator {
    base: Arc<Base>,
    runtimes: Mutex<BTreeMap<u64, Runtime>>,
}

impl Simulator {
    /// Can run all seeds below `end`, each once.
    pub fn new(end: u64) -> Self {
        assert!(end <= MOST_SEEDS, "seeds go up to {MOST_SEEDS}");
        let (first, warm) = (runtime(0), runtime(1));
        let runtimes = Mutex::new((0..end).map(|seed| (seed, runtime(seed))).collect());
        let base = alone("base", 0, move || first.block_on(base::make()));
        let simulator = Self { base: Arc::new(base.unwrap_or_else(|panic| panic!("{panic}"))), runtimes };
        // Tables that a program makes on first use must not be made in the middle of a run.
        simulator.simulate(0, warm);
        simulator
    }

    pub fn run(&self, seed: u64) -> Report {
        let runtime = self.runtimes.lock().unwrap_or_else(PoisonError::into_inner).remove(&seed);
        self.simulate(seed, runtime.expect("each seed below the end is run once"))
    }

    fn simulate(&self, seed: u64, runtime: Runtime) -> Report {
        let base = self.base.clone();
        let report = alone("simulation", seed, move || runtime.block_on(simulate(base, seed)));
        report.unwrap_or_else(|panic| Report {
            seed,
            history: Vec::new(),
            settled_after: Duration::ZERO,
            complaints: vec![format!("panicked: {panic}")],
        })
    }
}

/// Virtual time in one thread.
fn runtime(entropy: u64) -> Runtime {
    let made = alone("runtime", entropy, || Builder::new_current_thread().enable_time().start_paused(true).build());
    made.unwrap_or_else(|panic| panic!("{panic}")).expect("a runtime without input and output can always be made")
}

/// Does something in a new thread, the randomness of which depends on `entropy` alone. An error is a panic's message.
fn alone<T: Send + 'static>(name: &str, entropy: u64, work: impl FnOnce() -> T + Send + 'static) -> Result<T, String> {
    let thread = thread::Builder::new().name(format!("{name} {entropy}")).stack_size(STACK_BYTES);
    let running = thread.spawn(move || {
        seed_entropy(entropy);
        work()
    });
    running.expect("a thread can be started").join().map_err(|panic| panic_message(&*panic).to_owned())
}
