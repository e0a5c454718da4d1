//! The cache over a real store: what is written is seen, in order, by reads and watchers.

use std::sync::Arc;

use bytes::Bytes;
use knarr_api::registry::by_plural;
use knarr_store::{KeyValue, MemoryStore, Op, Revision, Store, StoreError, Txn, TxnReply};
use serde_json::json;

use super::{Caches, Change, Extract, Start, Topic, splice, store_error, store_key};

async fn put(store: &dyn Store, name: &str, labels: serde_json::Value) {
    let resource = by_plural("", "v1", "configmaps").unwrap();
    let object = json!({"apiVersion": "v1", "kind": "ConfigMap",
        "metadata": {"name": name, "namespace": "n", "labels": labels}});
    let op = Op::Put { key: store_key(resource, "n", name), value: Bytes::from(splice::encode(&object)), lease: None };
    store.txn(Txn { compares: Vec::new(), ops: vec![op] }).await.unwrap();
}

/// Both classes are the server's fault; where nothing was written a client may well try again.
#[test]
fn a_store_that_cannot_write_says_whether_it_did() {
    let path = || "/data/store".to_owned();
    let rows = [
        (
            StoreError::DiskFull { path: path(), free_bytes: 3 << 20, needed_bytes: 16 << 20 },
            503,
            "nothing was written",
        ),
        (StoreError::Stopped { path: path() }, 503, "nothing was written"),
        (StoreError::InDoubt { path: path(), cause: "it broke".into() }, 500, "is not known"),
        (StoreError::Unavailable { detail: "etcdserver: mvcc: database space exceeded".into() }, 500, "space exceeded"),
    ];
    for (error, code, text) in rows {
        let told = store_error(&error);
        assert_eq!(told.code(), code, "{error}");
        assert!(told.message().contains(text), "{}", told.message());
    }
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
async fn readers_watchers_and_the_writer_share_an_objects_bytes() {
    let caches = Caches::start(Arc::new(MemoryStore::default())).await.unwrap();
    let resource = by_plural("", "v1", "configmaps").unwrap();
    let cache = caches.of(resource).unwrap();
    let mut watcher = cache.watch(Start::Now { snapshot: false }, Topic::Everything, |_| true).unwrap();
    let object = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a", "namespace": "n"}});
    let (key, value) = (store_key(resource, "n", "a"), Bytes::from(splice::encode(&object)));
    let extract = Extract::of(resource, None, &object);
    // Two write the same: each is answered with its own revision, whoever the feed takes for the writer.
    for change in [Change::Added, Change::Modified] {
        let other = caches.announce(&key, value.clone(), extract.clone());
        let announced = caches.announce(&key, value.clone(), extract.clone());
        let op = Op::Put { key: key.clone(), value: value.clone(), lease: None };
        let reply = caches.store.txn(Txn { compares: Vec::new(), ops: vec![op] }).await.unwrap();
        let TxnReply::Committed { revision } = reply else { panic!("{reply:?}") };
        caches.fresh().await.unwrap();
        let create_revision = if change == Change::Added { revision } else { Revision(0) };
        let row = KeyValue { key: key.clone(), value: value.clone(), create_revision, mod_revision: revision };
        let answer = announced.keep("n/a", &row);
        let late = KeyValue { mod_revision: Revision(revision.0 + 1), ..row };
        assert_eq!(other.keep("n/a", &late).resource_version, revision.0 + 1);
        assert!(Arc::ptr_eq(&answer, &cache.get("n/a").unwrap()));
        let mut events = Vec::new();
        watcher.poll_now(&mut events).unwrap();
        let frame = events[0].frame();
        assert_eq!((events[0].change, events.len()), (change, 1));
        assert!(frame.as_ptr_range().contains(&answer.json.as_ptr()), "the object lies in the line of its event");
        let told: serde_json::Value = serde_json::from_slice(&frame).unwrap();
        assert_eq!(told, json!({"type": change.as_str(), "object": answer.value()}));
    }
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
async fn a_watcher_of_one_namespace_sleeps_through_the_others() {
    let store = Arc::new(MemoryStore::default());
    let caches = Caches::start(store.clone()).await.unwrap();
    let cache = caches.of(by_plural("", "v1", "configmaps").unwrap()).unwrap();
    for (topic, wakes) in [("n", true), ("other", false)] {
        let topic = Topic::Namespace(topic.into());
        let mut watcher = cache.watch(Start::Now { snapshot: false }, topic.clone(), |_| true).unwrap();
        put(&*store, "mine", json!({})).await;
        caches.fresh().await.unwrap();
        let woken = tokio::time::timeout(std::time::Duration::from_millis(20), watcher.wait()).await;
        assert_eq!(woken.is_ok(), wakes, "{topic:?}");
    }
}

#[tokio::test]
async fn a_watcher_of_a_label_sleeps_until_an_object_has_or_loses_it() {
    let store = Arc::new(MemoryStore::default());
    let caches = Caches::start(store.clone()).await.unwrap();
    let cache = caches.of(by_plural("", "v1", "configmaps").unwrap()).unwrap();
    for (namespace, value, before, after, wakes) in [
        ("n", "web", json!({}), json!({"app": "web"}), true),
        ("", "web", json!({}), json!({"app": "web", "b": "c"}), true),
        ("n", "web", json!({"app": "web"}), json!({"app": "db"}), true),
        ("n", "web", json!({"app": "db"}), json!({"app": "db2", "b": "web"}), false),
        ("other", "web", json!({}), json!({"app": "web"}), false),
        ("n", "", json!({"b": "c"}), json!({"app": ""}), true),
    ] {
        put(&*store, "mine", before.clone()).await;
        caches.fresh().await.unwrap();
        let topic = Topic::Label { namespace: namespace.into(), key: "app".into(), value: value.into() };
        let mut watcher = cache.watch(Start::Now { snapshot: false }, topic.clone(), |_| true).unwrap();
        put(&*store, "mine", after.clone()).await;
        caches.fresh().await.unwrap();
        let woken = tokio::time::timeout(std::time::Duration::from_millis(20), watcher.wait()).await;
        assert_eq!(woken.is_ok(), wakes, "{topic:?}: {before} to {after}");
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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cache_that_comes_while_objects_are_written_misses_none() {
    let definition = json!({"spec": {"group": "example.com", "names": {"plural": "widgets", "kind": "Widget"},
        "versions": [{"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": {"type": "object"}}}]}});
    let definition = Arc::new(knarr_api::custom::Definition::of(&definition).unwrap());
    let resource = crate::custom::Custom::of(&definition, &Arc::default())[0].stored;
    let store = Arc::new(MemoryStore::default());
    let caches = Caches::start(store.clone()).await.unwrap();
    for round in 0..20_usize {
        let (writing, name) = (store.clone(), move |at: usize| format!("{round}-{}", at % 50));
        let writer = tokio::spawn(async move {
            for at in 0..200 {
                let key = store_key(resource, "n", &name(at));
                let object = json!({"apiVersion": "example.com/v1", "kind": "Widget",
                    "metadata": {"name": name(at), "namespace": "n"}, "at": at});
                let op = match at % 3 {
                    2 => Op::Delete { key: store_key(resource, "n", &name(at - 1)) },
                    _ => Op::Put { key, value: Bytes::from(splice::encode(&object)), lease: None },
                };
                writing.txn(Txn { compares: Vec::new(), ops: vec![op] }).await.unwrap();
                tokio::task::yield_now().await;
            }
        });
        caches.keep_customs(&[(resource, definition.clone())]).await.unwrap();
        let cache = caches.of(resource).unwrap();
        let mut watcher = cache.watch(Start::Now { snapshot: true }, Topic::Everything, |_| true).unwrap();
        let mut seen: std::collections::BTreeMap<String, u64> =
            watcher.take_snapshot().iter().map(|stored| (stored.key.to_string(), stored.resource_version)).collect();
        writer.await.unwrap();
        caches.fresh().await.unwrap();

        // What the cache holds, and what a watcher made of its events, is what the store holds.
        let mut events = Vec::new();
        while watcher.poll_now(&mut events).is_ok_and(|()| !events.is_empty()) {
            for event in events.drain(..) {
                match event.change {
                    Change::Deleted => drop(seen.remove(&*event.object.key)),
                    _ => drop(seen.insert(event.object.key.to_string(), event.revision)),
                }
            }
        }
        let prefix = "/registry/example.com/widgets/";
        let range = knarr_store::RangeRequest {
            start: Bytes::from_static(prefix.as_bytes()),
            end: Bytes::from_static(b"/registry/example.com/widgets0"),
            revision: None,
            limit: 0,
            count: false,
        };
        let kept: std::collections::BTreeMap<String, u64> = store
            .range(range)
            .await
            .unwrap()
            .kvs
            .iter()
            .map(|kv| (String::from_utf8_lossy(&kv.key[prefix.len()..]).into_owned(), kv.mod_revision.0))
            .collect();
        let (listing, _) = cache.list("", None, 0, None);
        let listed = listing.items.iter().map(|stored| (stored.key.to_string(), stored.resource_version)).collect();
        assert_eq!((&kept, &kept), (&listed, &seen), "round {round}");
        caches.keep_customs(&[]).await.unwrap();
        assert!(caches.of(resource).is_none());
    }
}

#[tokio::test]
async fn the_pods_of_a_node_are_known_through_all_changes() {
    let store = Arc::new(MemoryStore::default());
    let resource = by_plural("", "v1", "pods").unwrap();
    let change = |name: &str, node: Option<&str>| {
        let key = store_key(resource, "n", name);
        let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": "n"},
            "spec": {"nodeName": node}});
        let value = Bytes::from(splice::encode(&pod));
        Txn { compares: Vec::new(), ops: vec![Op::Put { key, value, lease: None }] }
    };
    for (name, node) in [("a", Some("one")), ("b", Some("two")), ("c", None)] {
        store.txn(change(name, node)).await.unwrap();
    }
    // What is there at the start is loaded, what comes then is heard of.
    let caches = Caches::start(store.clone()).await.unwrap();
    let cache = caches.of(resource).unwrap();
    let on = |node: &str| {
        let pods = cache.list_by(node);
        pods.iter().map(|pod| pod.name().to_owned()).collect::<Vec<_>>().join(",")
    };
    caches.fresh().await.unwrap();
    assert_eq!((&*on("one"), &*on("two"), &*on("")), ("a", "b", ""));
    let gone = Txn { compares: Vec::new(), ops: vec![Op::Delete { key: store_key(resource, "n", "b") }] };
    let steps: [(&str, Txn, &str, &str); 5] = [
        ("one is bound", change("c", Some("one")), "a,c", "b"),
        ("one changes in another way", change("c", Some("one")), "a,c", "b"),
        ("one is made anew elsewhere", change("a", Some("two")), "c", "a,b"),
        ("one goes", gone, "c", "a"),
        ("one is bound no more", change("c", None), "", "a"),
    ];
    for (what, step, one, two) in steps {
        store.txn(step).await.unwrap();
        caches.fresh().await.unwrap();
        assert_eq!((&*on("one"), &*on("two")), (one, two), "{what}");
    }
}
