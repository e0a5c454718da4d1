//! Clients that write, read and watch a few keys at random, and note all of it.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use futures::StreamExt;
use knarr_store::{
    Compare, EventKind, KeyValue, Op, RangeRequest, Revision, Store, StoreError, Txn, TxnReply, WatchRequest,
};
use rand::{Rng, SeedableRng, rngs::StdRng};
use tokio::sync::watch;

use crate::record::{Condition, Line, Version};

/// True once the work is to end.
pub type Stop = watch::Receiver<bool>;
pub type Out = Arc<dyn Fn(String) + Send + Sync>;

const KEYS: u8 = 5;
const CLIENTS: u64 = 4;
const WATCHERS: u64 = 2;
/// Names of operations and watches of one round are below this.
const OF_A_ROUND: u64 = 1 << 40;
/// An etcd that is gone is not asked without a pause.
const PAUSE: Duration = Duration::from_millis(20);

/// Works until it is stopped, or killed.
pub async fn work(store: Arc<dyn Store>, seed: u64, round: u64, out: Out, stop: Stop) {
    let client = |number: u64| {
        let random = StdRng::seed_from_u64(seed ^ (round << 32) ^ (number << 16));
        let first = round * OF_A_ROUND + number * (OF_A_ROUND >> 8);
        Client { store: store.clone(), random, next: first, out: out.clone() }
    };
    let clients = (0..CLIENTS).map(|number| client(number).write_and_read(stop.clone()));
    let watchers = (CLIENTS..CLIENTS + WATCHERS).map(|number| client(number).watch(stop.clone()));
    tokio::join!(futures::future::join_all(clients), futures::future::join_all(watchers));
}

struct Client {
    store: Arc<dyn Store>,
    random: StdRng,
    next: u64,
    out: Out,
}

fn everything() -> RangeRequest {
    RangeRequest { start: Bytes::new(), end: Bytes::from_static(&[0xff]), revision: None, limit: 0, count: false }
}

fn text(bytes: &Bytes) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

impl Client {
    fn note(&self, line: &Line) {
        (self.out)(line.to_text());
    }

    fn name(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    async fn write_and_read(mut self, stop: Stop) {
        let mut known: Vec<KeyValue> = Vec::new();
        while !*stop.borrow() {
            let done = if self.random.random_range(0..3) == 0 {
                self.read().await.map(|kvs| known = kvs)
            } else {
                self.write(&known).await
            };
            if done.is_none() {
                tokio::time::sleep(PAUSE).await;
            }
        }
    }

    /// `None` where there was no answer.
    async fn read(&mut self) -> Option<Vec<KeyValue>> {
        let op = self.name();
        self.note(&Line::Read { op });
        let reply = self.store.range(everything()).await.ok()?;
        let state = reply.kvs.iter().map(|kv| (text(&kv.key), kv.mod_revision.0, text(&kv.value))).collect();
        self.note(&Line::State { op, revision: reply.revision.0, state });
        Some(reply.kvs)
    }

    /// A key is made, changed, deleted, or put whatever is there; often with what was known of it a while ago.
    async fn write(&mut self, known: &[KeyValue]) -> Option<()> {
        let op = self.name();
        let key = format!("k{}", self.random.random_range(0..KEYS));
        let there = known.iter().find(|kv| kv.key == key).map(|kv| kv.mod_revision.0);
        let (condition, deletes) = match (self.random.random_range(0..10u8), there) {
            (0, _) => (Condition::Any, false),
            (1..=3, Some(revision)) => (Condition::At(revision), true),
            (_, Some(revision)) => (Condition::At(revision), false),
            (_, None) => (Condition::Absent, false),
        };
        // No other write has this value, so that whoever reads it knows whose it is.
        let value = (!deletes).then(|| format!("v{op}"));
        self.note(&Line::Write { op, key: key.clone(), value: value.clone(), condition: condition.clone() });
        let place = Bytes::from(key);
        let compares = match condition {
            Condition::Any => vec![],
            Condition::Absent => vec![Compare::Absent(place.clone())],
            Condition::At(revision) => vec![Compare::ModRevision(place.clone(), Revision(revision))],
        };
        let ops = match value {
            Some(value) => vec![Op::Put { key: place, value: value.into(), lease: None }],
            None => vec![Op::Delete { key: place }],
        };
        match self.store.txn(Txn { compares, ops }).await.ok()? {
            TxnReply::Committed { revision } => self.note(&Line::Committed { op, revision: revision.0 }),
            TxnReply::Conflict { revision, current } => {
                let current = current.into_iter().next().flatten().map(|kv| (kv.mod_revision.0, text(&kv.value)));
                self.note(&Line::Conflict { op, revision: revision.0, current });
            }
        }
        Some(())
    }

    /// Watches, a while each, from some revision of the past.
    async fn watch(mut self, stop: Stop) {
        let mut stopped = stop.clone();
        while !*stop.borrow() {
            let Ok(newest) = self.store.revision().await else {
                tokio::time::sleep(PAUSE).await;
                continue;
            };
            let from = self.random.random_range(1..=newest.0);
            let batches = self.random.random_range(1..200);
            let id = self.name();
            let request = WatchRequest { prefix: Bytes::new(), from: Some(Revision(from)) };
            let Ok(mut stream) = self.store.watch(request).await else { continue };
            self.note(&Line::Watch { id, from });
            for _ in 0..batches {
                let batch = tokio::select! {
                    batch = stream.next() => batch,
                    Ok(_) = stopped.wait_for(|stop| *stop) => return,
                };
                let Some(Ok(batch)) = batch else { break };
                for event in batch.events {
                    let value = (event.kind == EventKind::Put).then(|| text(&event.kv.value));
                    let (revision, key) = (event.kv.mod_revision.0, text(&event.kv.key));
                    self.note(&Line::Event { id, revision, key, value });
                }
                self.note(&Line::Reached { id, revision: batch.revision.0 });
            }
        }
    }
}

/// What was committed, in its order, as the store itself tells it from the beginning.
pub async fn commit_order(store: &dyn Store) -> Vec<(String, Version)> {
    let newest = store.revision().await.unwrap();
    let mut stream = store.watch(WatchRequest { prefix: Bytes::new(), from: Some(Revision(1)) }).await.unwrap();
    let mut order = Vec::new();
    let read = async {
        while newest > Revision(1) {
            let batch = match stream.next().await {
                Some(Ok(batch)) => batch,
                other => return Err(other.and_then(Result::err).unwrap_or(StoreError::Closed)),
            };
            for event in batch.events {
                let value = (event.kind == EventKind::Put).then(|| text(&event.kv.value));
                order.push((text(&event.kv.key), (event.kv.mod_revision.0, value)));
            }
            if batch.revision >= newest {
                break;
            }
        }
        Ok(())
    };
    tokio::time::timeout(Duration::from_secs(60), read).await.expect("the watch stalled").unwrap();
    order
}
