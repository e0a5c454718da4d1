//! The one watch of the store that feeds every resource's cache.
//!
//! One stream in the store's own order means that all caches are always at the same revision: a read that must
//! see a write waits for that one number, and a bookmark of any resource may name it.
//!
//! Caches of custom resources come and go by the feed's own hand, between two batches: a new one is filled as of the
//! revision that all others are at, so that the stream goes on for it where it goes on for them.

use std::{
    collections::BTreeMap,
    sync::{Arc, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use futures::StreamExt;
use knarr_store::{
    EventKind, KeyValue, RangeRequest, Revision, Store, StoreError, WatchBatch, WatchRequest, WatchStream,
};
use tokio::sync::{mpsc, oneshot};
use tracing::{error, warn};

use super::{Caches, PREFIX, customs::Customs, resource::ResourceCache};
use crate::contract::Stored;

const PAGE: usize = 5_000;
const RETRY_AFTER: Duration = Duration::from_millis(200);
/// How often old events are let go.
const AGE_EVERY: Duration = Duration::from_secs(45);
/// A start replays so many revisions where the store still has them, so that watches resume across a restart.
const REPLAYED_REVISIONS: u64 = 1_000;

/// Asks for these caches of custom resources and no others.
pub(super) struct Rearrange {
    pub wanted: Customs,
    pub done: oneshot::Sender<Result<(), StoreError>>,
}

/// Reads everything there is and opens the watch behind it.
pub(super) async fn load(caches: &Caches, store: &dyn Store) -> Result<WatchStream, StoreError> {
    let newest = store.revision().await?.0;
    let early = newest.saturating_sub(REPLAYED_REVISIONS).max(1);
    match load_at(caches, store, early).await {
        Err(StoreError::Compacted { .. }) => load_at(caches, store, newest).await,
        other => other,
    }
}

async fn load_at(caches: &Caches, store: &dyn Store, revision: u64) -> Result<WatchStream, StoreError> {
    let mut objects: BTreeMap<&'static str, BTreeMap<Box<str>, Arc<Stored>>> = BTreeMap::new();
    read(store, PREFIX, revision, |kv| {
        if let Some((cache, key)) = caches.locate(&kv.key) {
            let stored = caches.decode(&cache, key, kv);
            objects.entry(cache.resource.storage).or_default().insert(key.into(), stored);
        }
    })
    .await?;
    let watch = WatchRequest { prefix: Bytes::from_static(PREFIX.as_bytes()), from: Some(Revision(revision)) };
    let stream = store.watch(watch).await?;
    // Whatever was announced and is not met again would stay for ever; they are hints only.
    caches.underway.lock().unwrap_or_else(PoisonError::into_inner).clear();
    for cache in caches.all() {
        cache.load(objects.remove(cache.resource.storage).unwrap_or_default(), revision);
    }
    caches.applied.send_replace(revision);
    Ok(stream)
}

/// Everything below a prefix that ends with `/`, as of a revision, a page at a time.
async fn read(
    store: &dyn Store,
    prefix: &str,
    revision: u64,
    mut each: impl FnMut(&KeyValue),
) -> Result<(), StoreError> {
    let mut start = Bytes::from(prefix.to_owned());
    // `0` is the byte after `/`.
    let end = Bytes::from(format!("{}0", prefix.trim_end_matches('/')));
    loop {
        let request = RangeRequest {
            start: start.clone(),
            end: end.clone(),
            revision: Some(Revision(revision)),
            limit: PAGE,
            count: false,
        };
        let reply = store.range(request).await?;
        reply.kvs.iter().for_each(&mut each);
        match reply.kvs.last() {
            Some(last) if reply.more => start = Bytes::from([&last.key[..], b"\0"].concat()),
            _ => return Ok(()),
        }
    }
}

/// Applies events for as long as the server lives; a watch that breaks is answered by loading again.
pub(super) async fn run(
    caches: Arc<Caches>,
    store: Arc<dyn Store>,
    mut stream: WatchStream,
    mut rearrange: mpsc::Receiver<Rearrange>,
) {
    let mut age = tokio::time::interval(AGE_EVERY);
    loop {
        tokio::select! {
            batch = stream.next() => match batch {
                Some(Ok(batch)) => apply(&caches, batch),
                Some(Err(StoreError::Closed)) => return stopped(),
                broken => {
                    warn!(cause = ?broken.and_then(Result::err), "the store's watch broke; loading everything again");
                    let Some(reloaded) = reload(&caches, &*store).await else { return stopped() };
                    stream = reloaded;
                }
            },
            Some(Rearrange { wanted, done }) = rearrange.recv() => {
                // Whoever asked may have gone; what was asked for stands.
                let _ = done.send(arrange(&caches, &*store, wanted).await);
            }
            _ = age.tick() => caches.all().iter().for_each(|cache| cache.age()),
        }
    }
}

/// Fills the caches that are new, and puts all of them in the place of those there are.
async fn arrange(caches: &Caches, store: &dyn Store, wanted: Customs) -> Result<(), StoreError> {
    let there = caches.customs.load_full();
    let revision = caches.applied().max(1);
    let new = wanted.iter().filter(|cache| !there.iter().any(|other| Arc::ptr_eq(other, cache)));
    for cache in new {
        let prefix = format!("{PREFIX}{}/", cache.resource.storage);
        let mut objects: BTreeMap<Box<str>, Arc<Stored>> = BTreeMap::new();
        read(store, &prefix, revision, |kv| {
            if let Some(key) = std::str::from_utf8(&kv.key).ok().and_then(|key| key.strip_prefix(&prefix)) {
                objects.insert(key.into(), caches.decode(cache, key, kv));
            }
        })
        .await?;
        cache.load(objects, revision);
    }
    caches.customs.store(Arc::new(wanted));
    Ok(())
}

fn stopped() {
    error!("the store has stopped; nothing can be read or written until the server is started again");
}

/// `None` where the store has stopped for good.
async fn reload(caches: &Caches, store: &dyn Store) -> Option<WatchStream> {
    loop {
        let newest = store.revision().await;
        let loaded = match newest {
            Ok(newest) => load_at(caches, store, newest.0).await,
            Err(error) => Err(error),
        };
        match loaded {
            Ok(stream) => return Some(stream),
            Err(StoreError::Closed) => return None,
            Err(cause) => error!(%cause, "reading the store failed; trying again"),
        }
        tokio::time::sleep(RETRY_AFTER).await;
    }
}

type Changes = Vec<(Box<str>, u64, Option<Arc<Stored>>)>;

fn apply(caches: &Caches, batch: WatchBatch) {
    // Grouped by resource so that each lock is taken once per batch; the order within a resource stays.
    let mut grouped: Vec<(Arc<ResourceCache>, Changes)> = Vec::new();
    for event in &batch.events {
        let Some((cache, key)) = caches.locate(&event.kv.key) else { continue };
        let change = change_of(caches, &cache, key, event.kind, &event.kv);
        match grouped.iter_mut().find(|(one, _)| Arc::ptr_eq(one, &cache)) {
            Some((_, changes)) => changes.push(change),
            None => grouped.push((cache, vec![change])),
        }
    }
    for (cache, changes) in grouped {
        cache.apply(changes);
    }
    caches.applied.send_if_modified(|applied| {
        let newer = batch.revision.0 > *applied;
        *applied = (*applied).max(batch.revision.0);
        newer
    });
}

fn change_of(
    caches: &Caches,
    cache: &ResourceCache,
    key: &str,
    kind: EventKind,
    kv: &KeyValue,
) -> (Box<str>, u64, Option<Arc<Stored>>) {
    let object = match kind {
        EventKind::Put => Some(caches.decode(cache, key, kv)),
        EventKind::Delete => None,
    };
    (key.into(), kv.mod_revision.0, object)
}
