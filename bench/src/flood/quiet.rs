//! The user who asks for little. On a thread of its own, so that what is measured is not this program's own queue.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use anyhow::{Result, anyhow};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::{Api, Client, Config};

const EVERY: Duration = Duration::from_millis(5);

pub struct Quiet {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Result<Vec<Duration>>>,
}

impl Quiet {
    pub fn start(config: Config) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let ends = stop.clone();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(ask(config, &ends))
        });
        Self { stop, thread }
    }

    pub fn stop(self) -> Result<Vec<Duration>> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().map_err(|_| anyhow!("the quiet user panicked"))?
    }
}

async fn ask(config: Config, stop: &AtomicBool) -> Result<Vec<Duration>> {
    let maps: Api<ConfigMap> = Api::default_namespaced(Client::try_from(config)?);
    maps.get("m0").await?;
    let mut times = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        let begun = Instant::now();
        maps.get("m0").await?;
        times.push(begun.elapsed());
        tokio::time::sleep(EVERY).await;
    }
    Ok(times)
}
