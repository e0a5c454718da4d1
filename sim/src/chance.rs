//! Seeded chance. Each part of a run draws from dice of its own, so that a change in one part does not shift what
//! happens to all others, and all dice stop doing harm at the moment in which the storm is over.

use std::{
    cell::Cell,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use rand::{Rng as _, RngCore as _, SeedableRng as _, rngs::SmallRng};

thread_local! {
    static ENTROPY: Cell<u64> = const { Cell::new(0) };
}

/// What this thread gets from [`fill_entropy`] from now on. Must come before anything of a run is made, since a
/// thread's first hash map fixes the order of all later ones.
pub(crate) fn seed_entropy(seed: u64) {
    ENTROPY.set(seed);
}

/// Stands in for the operating system's randomness: SplitMix64, one sequence a thread.
pub fn fill_entropy(bytes: &mut [u8]) {
    for chunk in bytes.chunks_mut(8) {
        let state = ENTROPY.get().wrapping_add(0x9e37_79b9_7f4a_7c15);
        ENTROPY.set(state);
        let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        chunk.copy_from_slice(&(mixed ^ (mixed >> 31)).to_le_bytes()[..chunk.len()]);
    }
}

/// Where all dice of a run come from.
#[derive(Clone)]
pub struct Chance {
    seed: u64,
    storm: Arc<AtomicBool>,
}

/// One seed in so many is gentle.
const GENTLE: u64 = 4;

impl Chance {
    pub fn new(seed: u64) -> Self {
        Self { seed, storm: Arc::new(AtomicBool::new(true)) }
    }

    /// In a gentle run everything is slow and late, but nothing is lost and nobody is killed. More is demanded of it.
    pub fn is_gentle(&self) -> bool {
        self.seed.is_multiple_of(GENTLE)
    }

    /// Dice of their own for one part, which a name tells from all others.
    pub fn dice(&self, name: &str) -> Dice {
        let seed = name.bytes().fold(self.seed ^ 0xcbf2_9ce4_8422_2325, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        });
        Dice {
            random: Arc::new(Mutex::new(SmallRng::seed_from_u64(seed))),
            storm: self.storm.clone(),
            is_gentle: self.is_gentle(),
        }
    }

    /// From now on nothing breaks and nothing is slow.
    pub fn calm(&self) {
        self.storm.store(false, Ordering::Relaxed);
    }
}

/// Clones share one sequence.
#[derive(Clone)]
pub struct Dice {
    random: Arc<Mutex<SmallRng>>,
    storm: Arc<AtomicBool>,
    is_gentle: bool,
}

impl Dice {
    fn random(&self) -> MutexGuard<'_, SmallRng> {
        self.random.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_storm(&self) -> bool {
        self.storm.load(Ordering::Relaxed)
    }

    pub fn seed(&self) -> u64 {
        self.random().next_u64()
    }

    /// A number below `end`, in any weather.
    pub fn below(&self, end: usize) -> usize {
        self.random().random_range(0..end)
    }

    pub fn one_in(&self, times: usize) -> bool {
        self.below(times) == 0
    }

    pub fn pick<'a, T>(&self, from: &'a [T]) -> &'a T {
        &from[self.below(from.len())]
    }

    /// Does something break now? On average once in so many times, and never after the storm.
    pub fn breaks(&self, one_in: usize) -> bool {
        self.is_storm() && !self.is_gentle && self.one_in(one_in)
    }

    /// A time up to `most`, mostly much shorter; in any weather.
    pub fn time(&self, most: Duration) -> Duration {
        let share: f64 = self.random().random();
        most.mul_f64(share.powi(3))
    }

    /// Delays that only a storm brings.
    pub async fn lag(&self, most: Duration) {
        if self.is_storm() {
            tokio::time::sleep(self.time(most)).await;
        }
    }
}
