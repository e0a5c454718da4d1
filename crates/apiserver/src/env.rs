//! Time and randomness, handed in so that a whole cluster can run under a seed.

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

use jiff::Timestamp;
use rand::{RngCore, SeedableRng, rngs::StdRng};
use uuid::{Builder, Uuid};

/// What time it is, and numbers that nobody can guess.
#[derive(Clone)]
pub struct Env {
    now: Arc<dyn Fn() -> Timestamp + Send + Sync>,
    random: Arc<Mutex<StdRng>>,
}

impl fmt::Debug for Env {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Env")
    }
}

impl Env {
    /// The host's clock and entropy.
    pub fn host() -> Self {
        Self { now: Arc::new(Timestamp::now), random: Arc::new(Mutex::new(StdRng::from_os_rng())) }
    }

    /// A clock of the caller's, and the same numbers for the same seed.
    pub fn seeded(now: impl Fn() -> Timestamp + Send + Sync + 'static, seed: u64) -> Self {
        Self { now: Arc::new(now), random: Arc::new(Mutex::new(StdRng::seed_from_u64(seed))) }
    }

    pub fn now(&self) -> Timestamp {
        (self.now)()
    }

    pub fn random(&self) -> u64 {
        self.random.lock().unwrap_or_else(PoisonError::into_inner).next_u64()
    }

    pub fn uid(&self) -> Uuid {
        let mut bytes = [0; 16];
        self.random.lock().unwrap_or_else(PoisonError::into_inner).fill_bytes(&mut bytes);
        Builder::from_random_bytes(bytes).into_uuid()
    }
}
