//! The cache over a real store: what is written is seen, in order, by reads and watchers.

use std::sync::Arc;

use bytes::Bytes;
use knarr_api::registry::by_plural;
use knarr_store::{MemoryStore, Op, Store, Txn};
use serde_json::json;

use super::{Caches, Change, Start, Topic, splice, store_key};

async fn put(store: &dyn Store, name: &str, labels: serde_json::Value) {
    let resource = by_plural("", "v1", "configmaps").unwrap();
    let object = json!({"apiVersion": "v1", "kind": "ConfigMap",
        "metadata": {"name": name, "namespace": "n", "labels": labels}});
    let op = Op::Put { key: store_key(resource, "n", name), value: Bytes::from(splice::encode(&object)), lease: None };
    store.txn(Txn { compares: Vec::new(), ops: vec![op] }).await.unwrap();
}

#[tokio::test]
async fn what_is_acknowledged_is_seen_and_watched_in_order() {
    let store = Arc::new(MemoryStore::default());
    put(&*store, "before", json!({})).await;
    let caches = Caches::start(store.clone()).await.unwrap();
    let resource = by_plural("", "v1", "configmaps").unwrap();
    let cache = caches.of(resource).unwrap();
    let start = caches.fresh().await.unwrap();
    assert_eq!(&*cache.get("n/before").unwrap().key, "n/before");

    let mut watcher = cache.watch(Start::After(start), Topic::Everything, |_| true).unwrap();
    put(&*store, "a", json!({"app": "x"})).await;
    put(&*store, "a", json!({"app": "y"})).await;
    let key = store_key(resource, "n", "a");
    store.txn(Txn { compares: Vec::new(), ops: vec![Op::Delete { key }] }).await.unwrap();
    let newest = caches.fresh().await.unwrap();
    let mut events = Vec::new();
    watcher.poll_now(&mut events).unwrap();
    let seen: Vec<_> = events.iter().map(|event| (event.change, event.revision - start)).collect();
    assert_eq!(seen, [(Change::Added, 1), (Change::Modified, 2), (Change::Deleted, 3)]);
    assert_eq!(events[2].object.value()["metadata"]["resourceVersion"], json!(newest.to_string()));
    assert_eq!(events[2].object.value()["metadata"]["labels"]["app"], "y");

    // A second watcher resumes in the middle; one that asks for what was never kept is told so.
    let mut resumed = cache.watch(Start::After(start + 1), Topic::Everything, |_| true).unwrap();
    let mut again = Vec::new();
    resumed.poll_now(&mut again).unwrap();
    assert_eq!(again.len(), 2);
    assert!(Arc::ptr_eq(&again[0], &events[1]), "events are shared");
}

#[tokio::test]
async fn a_watcher_that_is_too_slow_is_cut_off() {
    let store = Arc::new(MemoryStore::default());
    let caches = Caches::start(store.clone()).await.unwrap();
    let cache = caches.of(by_plural("", "v1", "configmaps").unwrap()).unwrap();
    let mut watcher = cache.watch(Start::Now { snapshot: false }, Topic::Everything, |_| true).unwrap();
    for round in 0..9_000 {
        put(&*store, "a", json!({"round": round.to_string()})).await;
        // The store's own bound must not be what cuts off here.
        if round % 500 == 0 {
            caches.fresh().await.unwrap();
        }
    }
    caches.fresh().await.unwrap();
    let mut events = Vec::new();
    assert!(watcher.poll_now(&mut events).is_err());
}

#[tokio::test]
async fn a_watcher_of_one_object_sleeps_through_the_others_and_is_not_cut_off_by_them() {
    let store = Arc::new(MemoryStore::default());
    let caches = Caches::start(store.clone()).await.unwrap();
    let cache = caches.of(by_plural("", "v1", "configmaps").unwrap()).unwrap();
    let mut watcher = cache.watch(Start::Now { snapshot: false }, Topic::Key("n/mine".into()), |_| true).unwrap();
    let mut events = Vec::new();
    put(&*store, "other", json!({})).await;
    caches.fresh().await.unwrap();
    let asleep = tokio::time::timeout(std::time::Duration::from_millis(20), watcher.wait()).await;
    assert!(asleep.is_err(), "woken by another object");
    put(&*store, "mine", json!({})).await;
    assert!(watcher.wait().await);
    watcher.poll_now(&mut events).unwrap();
    assert_eq!(events.last().map(|event| &*event.object.key), Some("n/mine"));

    // More events than the ring holds pass by; the watcher is woken in time to follow.
    for round in 0..9_000 {
        put(&*store, "other", json!({"round": round.to_string()})).await;
        if round % 100 == 0 {
            caches.fresh().await.unwrap();
            if tokio::time::timeout(std::time::Duration::ZERO, watcher.wait()).await.is_ok() {
                events.clear();
                while events.is_empty() || events.len() % 512 == 0 {
                    let had = events.len();
                    watcher.poll_now(&mut events).unwrap();
                    if events.len() == had {
                        break;
                    }
                }
            }
        }
    }
}

#[tokio::test]
async fn a_cache_that_is_no_longer_fed_says_so() {
    let caches = Caches::start(Arc::new(MemoryStore::default())).await.unwrap();
    assert!(caches.is_fed());
    caches.stop();
    while caches.is_fed() {
        tokio::task::yield_now().await;
    }
}
