//! Durable writes to the embedded store by 1, 32 and 256 writers, and reading them back.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::Result;
use bytes::Bytes;
use knarr_store::{EmbeddedStore, Op, RangeRequest, Store, Txn, engine::disk::DiskEngine};
use serde_json::json;

const VALUE_BYTES: usize = 1500;
const RUN: Duration = Duration::from_secs(4);

pub fn run() -> Result<()> {
    let runtime = tokio::runtime::Runtime::new()?;
    for writers in [1, 32, 256] {
        runtime.block_on(writes(writers))?;
    }
    Ok(())
}

async fn writes(writers: usize) -> Result<()> {
    let dir = tempfile::tempdir()?;
    let store = EmbeddedStore::open(DiskEngine::open(dir.path(), |_| None)?)?;
    let stop = Arc::new(AtomicBool::new(false));
    let start = Instant::now();
    let tasks: Vec<_> =
        (0..writers).map(|writer| tokio::spawn(write_until(store.clone(), writer, stop.clone()))).collect();
    tokio::time::sleep(RUN).await;
    stop.store(true, Ordering::Relaxed);
    let mut latencies = Vec::new();
    for task in tasks {
        latencies.extend(task.await??);
    }
    let seconds = start.elapsed().as_secs_f64();
    latencies.sort_by(f64::total_cmp);
    let at = |share: f64| latencies.get((latencies.len() as f64 * share) as usize).copied().unwrap_or(f64::NAN);
    println!(
        "{}",
        json!({"case": "store", "what": "durable puts", "writers": writers, "n": latencies.len(),
            "per_second": (latencies.len() as f64 / seconds).round(), "p50_ms": at(0.5), "p99_ms": at(0.99)})
    );
    read_all(&store).await
}

async fn write_until(store: impl Store, writer: usize, stop: Arc<AtomicBool>) -> Result<Vec<f64>> {
    let mut latencies = Vec::new();
    // Bytes that do not compress well, so that the disk sees what a real object costs.
    let value: Bytes = (0..VALUE_BYTES).map(|i| (i * 31 + writer * 7 + i / 13) as u8).collect();
    while !stop.load(Ordering::Relaxed) {
        let key = format!("/registry/pods/default/{writer}-{}", latencies.len());
        let put = Op::Put { key: key.into(), value: value.clone(), lease: None };
        let begun = Instant::now();
        store.txn(Txn { compares: vec![], ops: vec![put] }).await?;
        latencies.push(begun.elapsed().as_secs_f64() * 1e3);
    }
    Ok(latencies)
}

async fn read_all(store: &impl Store) -> Result<()> {
    let all = RangeRequest {
        start: Bytes::new(),
        end: Bytes::from_static(&[0xff]),
        revision: None,
        limit: 2000,
        count: false,
    };
    let begun = Instant::now();
    let reply = store.range(all).await?;
    let ms = begun.elapsed().as_secs_f64() * 1e3;
    println!("{}", json!({"case": "store", "what": "range", "n": reply.kvs.len(), "ms": ms}));
    Ok(())
}
