//! `kill -9` at random instants: what a writer was told is on disk is there afterwards, at its revision.

#![allow(clippy::disallowed_methods)] // the writer that is killed is a process of its own

use std::{
    collections::HashMap,
    io::{BufRead, BufReader, Write},
    path::Path,
    process::{Command, Stdio},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use bytes::Bytes;
use knarr_store::{EmbeddedStore, Op, RangeRequest, Store, Txn, TxnReply, engine::disk::DiskEngine};

const DIR: &str = "KNARR_STORE_KILL9_DIR";
const ROUNDS: u64 = 15;
/// Nothing takes that long; a busy machine may make it seem so.
const PATIENCE: Duration = Duration::from_secs(120);

/// The writer: 16 tasks that put keys of their own and print each answer once they have it.
#[tokio::test]
#[ignore = "run by `every_acknowledged_write_survives`, as a process of its own"]
async fn writer() {
    let Ok(dir) = std::env::var(DIR) else { panic!("{DIR} is not set") };
    let store = EmbeddedStore::open(DiskEngine::open(Path::new(&dir), |_| None).unwrap()).unwrap();
    let start = store.revision().await.unwrap().0;
    let tasks = (0..16).map(|task| {
        let store = store.clone();
        tokio::spawn(async move {
            for n in 0.. {
                let key = format!("{start}/{task}/{n}");
                let put = Op::Put { key: key.clone().into(), value: Bytes::from(vec![b'x'; 2000]), lease: None };
                let reply = store.txn(Txn { compares: vec![], ops: vec![put] }).await.unwrap();
                let TxnReply::Committed { revision } = reply else { panic!("{reply:?}") };
                writeln!(std::io::stdout().lock(), "ACK {key} {revision}").unwrap();
            }
        })
    });
    futures::future::join_all(tasks).await;
}

#[tokio::test]
async fn every_acknowledged_write_survives() {
    let dir = tempfile::tempdir().unwrap();
    let seed = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().subsec_nanos();
    println!("seed {seed}");
    let mut acknowledged: HashMap<String, u64> = HashMap::new();
    for round in 0..ROUNDS {
        let delay_ms = 30 + (u64::from(seed) / (round + 1)) % 170;
        // Every other time the delay is that after the first answer: on a busy machine it may be too short to open the
        // store, and kills at work are what this is about.
        acknowledged.extend(write_until_killed(dir.path(), delay_ms, round % 2 == 0));
        let store = EmbeddedStore::open(DiskEngine::open(dir.path(), |_| None).unwrap()).unwrap();
        let all = RangeRequest {
            start: Bytes::new(),
            end: Bytes::from_static(&[0xff]),
            revision: None,
            limit: 0,
            count: false,
        };
        let reply = store.range(all).await.unwrap();
        let found: HashMap<String, u64> =
            reply.kvs.iter().map(|kv| (String::from_utf8(kv.key.to_vec()).unwrap(), kv.mod_revision.0)).collect();
        for (key, revision) in &acknowledged {
            assert_eq!(found.get(key), Some(revision), "{key} after {round} kills");
        }
        drop(store);
        wait_until_closed(dir.path()).await;
    }
    assert!(acknowledged.len() > 100, "only {} writes were tried", acknowledged.len());
}

fn write_until_killed(dir: &Path, delay_ms: u64, at_work: bool) -> Vec<(String, u64)> {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--ignored", "--exact", "--nocapture", "writer"])
        .env(DIR, dir)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let (told, first) = std::sync::mpsc::channel();
    let reader = std::thread::spawn(move || {
        let acks = lines.map_while(Result::ok).filter_map(|line| {
            let mut words = line.split_once("ACK ")?.1.split(' ');
            let ack = (words.next()?.to_owned(), words.next()?.parse().ok()?);
            // Only the first is waited for.
            let _ = told.send(());
            Some(ack)
        });
        acks.collect()
    });
    if at_work {
        first.recv_timeout(PATIENCE).expect("the writer writes");
    }
    #[allow(clippy::disallowed_methods)]
    std::thread::sleep(Duration::from_millis(delay_ms));
    child.kill().unwrap();
    child.wait().unwrap();
    let mut acks: Vec<(String, u64)> = reader.join().unwrap();
    // The kill may have cut the last line short.
    acks.pop();
    acks
}

async fn wait_until_closed(dir: &Path) {
    let deadline = Instant::now() + PATIENCE;
    while DiskEngine::open(dir, |_| None).is_err() {
        assert!(Instant::now() < deadline, "the store was not closed");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
