//! Where the API server runs: it can be killed at any instant, and started again on what its disk holds.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use knarr_apiserver::{ApiServer, Env};
use knarr_client::Clock;
use knarr_store::{EmbeddedStore, engine::memory::MemoryEngine};
use tokio_util::sync::CancellationToken;

use crate::{
    base::Base,
    chance::{Chance, Dice},
    store::Moody,
    truth::Truth,
};

pub struct Site {
    base: Arc<Base>,
    clock: Clock,
    dice: Dice,
    disk_dice: Dice,
    truth: Arc<Truth>,
    disk: Mutex<MemoryEngine>,
    running: Mutex<Option<Running>>,
}

/// One life of the server.
#[derive(Clone)]
pub struct Running {
    pub api: ApiServer,
    /// Cancelled when it is killed: whoever waits for it hears that the connection broke.
    pub gone: CancellationToken,
}

impl Site {
    pub fn new(base: Arc<Base>, chance: &Chance, clock: Clock, truth: Arc<Truth>) -> Self {
        Self {
            clock,
            dice: chance.dice("server"),
            disk_dice: chance.dice("disk"),
            truth,
            disk: Mutex::new(base.disk.copy()),
            running: Mutex::default(),
            base,
        }
    }

    fn disk(&self) -> MutexGuard<'_, MemoryEngine> {
        self.disk.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn running(&self) -> MutexGuard<'_, Option<Running>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The server, while there is one.
    pub fn reach(&self) -> Option<Running> {
        self.running().clone()
    }

    pub async fn start(&self) {
        let engine = self.disk().clone();
        let store = EmbeddedStore::open(engine).expect("a disk that was written by a store is readable");
        self.truth.follow(store.clone()).await;
        let (gone, clock) = (CancellationToken::new(), self.clock);
        let env = Env::seeded(move || clock.now(), self.dice.seed());
        let plugins_env = env.clone();
        let store = Moody { inner: store, dice: self.disk_dice.clone() };
        let server = ApiServer::builder(Arc::new(store)).env(env).shutdown(gone.clone());
        let base = self.base.clone();
        let server = server.plugins(move |lookup| base.plugins(plugins_env, &lookup));
        let api = server.start().await.expect("a server starts on what its predecessor left");
        *self.running() = Some(Running { api, gone });
    }

    /// As `kill -9`: nothing more reaches the disk, every connection breaks, and the memory is gone.
    pub fn kill(&self) {
        let next = self.disk().reboot();
        *self.disk() = next;
        if let Some(running) = self.running().take() {
            running.gone.cancel();
        }
    }
}
