//! The promises. Each gets a store that is empty and nobody else's.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use bytes::Bytes;
use futures::StreamExt;
use knarr_store::{Compare, EventKind, Op, RangeRequest, Revision, Store, StoreError, Txn, TxnReply, WatchRequest};
use rand::{Rng, SeedableRng, rngs::StdRng};

use crate::steps::{all, blind, committed, delete, events, put, state, text, watch, write};

type AnyStore = Arc<dyn Store>;

pub async fn revisions_grow_by_one_and_nothing_takes_none(store: AnyStore) {
    assert_eq!(store.revision().await.unwrap(), Revision(1));
    assert_eq!(write(&*store, vec![put("a", "1")]).await, Revision(2));
    assert_eq!(write(&*store, vec![delete("missing")]).await, Revision(2));
    assert_eq!(write(&*store, vec![put("b", "1"), put("c", "1")]).await, Revision(3));
    assert_eq!(store.revision().await.unwrap(), Revision(3));
    let kvs = store.range(all()).await.unwrap().kvs;
    let revisions: Vec<_> = kvs.iter().map(|kv| (kv.create_revision.0, kv.mod_revision.0)).collect();
    assert_eq!(revisions, [(2, 2), (3, 3), (3, 3)]);
}

pub async fn a_compare_that_fails_writes_nothing_and_shows_what_is_there(store: AnyStore) {
    let first = write(&*store, vec![put("a", "1")]).await;
    let txn = Txn { compares: vec![Compare::Absent("a".into())], ops: vec![put("a", "2"), put("b", "2")] };
    let TxnReply::Conflict { current, .. } = store.txn(txn).await.unwrap() else { panic!("not refused") };
    assert_eq!(current[0].as_ref().unwrap().value, "1");
    assert_eq!(current[0].as_ref().unwrap().key, "a");
    let txn = Txn { compares: vec![Compare::ModRevision("a".into(), first)], ops: vec![delete("a")] };
    committed(store.txn(txn.clone()).await.unwrap());
    let TxnReply::Conflict { current, .. } = store.txn(txn).await.unwrap() else { panic!("not refused") };
    assert_eq!(current, [None]);
    assert_eq!(state(&*store, None).await, BTreeMap::new());
    let both = vec![Compare::Absent("a".into()), Compare::ModRevision("b".into(), first)];
    let TxnReply::Conflict { current, .. } = store.txn(Txn { compares: both, ops: vec![] }).await.unwrap() else {
        panic!("not refused")
    };
    assert_eq!(current, [None, None]);
}

pub async fn ranges_are_bounded_ordered_and_historical(store: AnyStore) {
    for key in ["p/a", "p/b", "p/c", "q/a"] {
        write(&*store, vec![put(key, "1")]).await;
    }
    let before = store.revision().await.unwrap();
    write(&*store, vec![delete("p/b"), put("p/a", "2")]).await;
    let page = RangeRequest { start: "p/".into(), end: "p0".into(), revision: Some(before), limit: 2, count: true };
    let reply = store.range(page.clone()).await.unwrap();
    let keys: Vec<_> = reply.kvs.iter().map(|kv| kv.key.clone()).collect();
    assert_eq!((keys, reply.more, reply.remaining), (vec![Bytes::from("p/a"), Bytes::from("p/b")], true, 1));
    assert_eq!(reply.kvs[0].value, "1");
    let uncounted = store.range(RangeRequest { count: false, ..page.clone() }).await.unwrap();
    assert_eq!((uncounted.kvs, uncounted.more, uncounted.remaining), (reply.kvs, true, 0));
    let rest = RangeRequest { start: "p/b\0".into(), ..page };
    let reply = store.range(rest).await.unwrap();
    assert_eq!((reply.kvs.len(), reply.more), (1, false));
}

pub async fn compaction_forgets_history_but_no_value(store: AnyStore) {
    write(&*store, vec![put("a", "1"), put("gone", "1")]).await;
    let old = write(&*store, vec![put("a", "2")]).await;
    let newest = write(&*store, vec![delete("gone")]).await;
    store.compact(newest).await.unwrap();
    assert_eq!(state(&*store, None).await, BTreeMap::from([("a".into(), "2".into())]));
    let compacted = store.range(RangeRequest { revision: Some(old), ..all() }).await;
    let expected = |error: Option<StoreError>| {
        assert!(
            matches!(&error, Some(StoreError::Compacted { requested, compacted }) if *requested == old && *compacted == newest),
            "{error:?}"
        );
    };
    expected(compacted.err());
    expected(store.watch(WatchRequest { prefix: Bytes::new(), from: Some(old) }).await.err());
    assert_eq!(state(&*store, Some(newest)).await.len(), 1);
    drop(watch(&*store, "", Some(newest)).await);
    // Whoever asks for what was done already has it.
    store.compact(old).await.unwrap();
    let future = store.compact(Revision(newest.0 + 1)).await;
    assert!(matches!(future, Err(StoreError::FutureRevision { .. })), "{future:?}");
}

pub async fn a_watch_tells_what_happened_once_and_in_order(store: AnyStore) {
    let mut stream = watch(&*store, "p/", Some(Revision(1))).await;
    write(&*store, vec![put("p/a", "1"), put("q/a", "1"), put("p/b", "1")]).await;
    write(&*store, vec![put("q/a", "2")]).await;
    write(&*store, vec![delete("p/a")]).await;
    let seen = events(&mut stream, 3).await;
    let told: Vec<_> = seen
        .iter()
        .map(|event| (event.kind, text(&event.kv.key), text(&event.kv.value), event.kv.mod_revision.0))
        .collect();
    let expected = [
        (EventKind::Put, "p/a".to_owned(), "1".to_owned(), 2),
        (EventKind::Put, "p/b".to_owned(), "1".to_owned(), 2),
        (EventKind::Delete, "p/a".to_owned(), String::new(), 4),
    ];
    assert_eq!(told, expected);
    let mut again = watch(&*store, "p/", Some(Revision(2))).await;
    assert_eq!(events(&mut again, 1).await[0].kv.mod_revision, Revision(4));
}

pub async fn a_watch_joins_history_and_live_without_a_seam(store: AnyStore) {
    let write_all = |from: usize, to: usize| {
        let store = store.clone();
        async move {
            for i in from..to {
                write(&*store, vec![put(&format!("k{i}"), "1")]).await;
            }
        }
    };
    write_all(0, 1500).await;
    let mut stream = watch(&*store, "", Some(Revision(1))).await;
    write_all(1500, 1600).await;
    let revisions: Vec<u64> = events(&mut stream, 1600).await.iter().map(|event| event.kv.mod_revision.0).collect();
    assert_eq!(revisions, (2..1602).collect::<Vec<_>>());
}

pub async fn a_watch_from_now_on_tells_nothing_of_the_past(store: AnyStore) {
    write(&*store, vec![put("a", "1")]).await;
    let mut stream = watch(&*store, "", None).await;
    write(&*store, vec![put("b", "1")]).await;
    assert_eq!(text(&events(&mut stream, 1).await[0].kv.key), "b");
}

pub async fn a_watcher_that_does_not_read_is_cut_off(store: AnyStore) {
    let mut stream = watch(&*store, "", Some(Revision(1))).await;
    // One after another, so that each is a batch of its own.
    for n in 0..5000 {
        write(&*store, vec![put("a", &n.to_string())]).await;
    }
    let last = tokio::time::timeout(Duration::from_secs(60), async {
        loop {
            match stream.next().await {
                Some(Ok(_)) => {}
                other => break other,
            }
        }
    });
    let last = last.await.expect("it was not cut off");
    assert!(matches!(last, Some(Err(StoreError::SlowWatcher { .. }))), "{last:?}");
    assert!(stream.next().await.is_none());
}

pub async fn what_lies_ahead_is_refused(store: AnyStore) {
    let ahead = Revision(100);
    let watched = store.watch(WatchRequest { prefix: Bytes::new(), from: Some(ahead) }).await.err();
    let ranged = store.range(RangeRequest { revision: Some(ahead), ..all() }).await.err();
    for error in [watched, ranged] {
        let expected = matches!(&error, Some(StoreError::FutureRevision { requested, newest })
            if *requested == ahead && *newest == Revision(1));
        assert!(expected, "{error:?}");
    }
}

pub async fn keys_end_with_their_lease(store: AnyStore) {
    let lease = store.grant_lease(3).await.unwrap();
    let leased = |key: &str| Op::Put { key: key.to_owned().into(), value: "1".into(), lease: Some(lease) };
    write(&*store, vec![leased("a"), leased("kept"), put("other", "1")]).await;
    let written = write(&*store, vec![put("kept", "2")]).await;
    let mut stream = watch(&*store, "", Some(written)).await;
    let ended = events(&mut stream, 1).await;
    assert_eq!((ended[0].kind, &ended[0].kv.key[..]), (EventKind::Delete, &b"a"[..]));
    assert_eq!(ended[0].kv.mod_revision, Revision(written.0 + 1));
    let left: Vec<String> = state(&*store, None).await.into_keys().collect();
    assert_eq!(left, ["kept", "other"]);
    let refused = store.txn(blind(vec![leased("b")])).await;
    assert!(matches!(refused, Err(StoreError::LeaseNotFound { lease: id }) if id == lease), "{refused:?}");
}

pub async fn a_lease_can_be_ended(store: AnyStore) {
    let (lease, other) = (store.grant_lease(1000).await.unwrap(), store.grant_lease(1000).await.unwrap());
    assert_ne!(lease, other);
    let put = |key: &str, lease| Op::Put { key: key.to_owned().into(), value: "1".into(), lease: Some(lease) };
    let written = write(&*store, vec![put("a", lease), put("b", lease), put("c", other)]).await;
    store.revoke_lease(lease).await.unwrap();
    assert_eq!(state(&*store, None).await.into_keys().collect::<Vec<_>>(), ["c"]);
    // All that a lease held goes at one revision.
    assert_eq!(store.revision().await.unwrap(), Revision(written.0 + 1));
    store.revoke_lease(lease).await.unwrap();
}

pub async fn of_many_who_want_the_same_one_wins(store: AnyStore) {
    for round in 0..5 {
        let key = Bytes::from(format!("k{round}"));
        let tries = (0..20).map(|n: u32| {
            let (store, key) = (store.clone(), key.clone());
            let op = Op::Put { key: key.clone(), value: n.to_string().into(), lease: None };
            async move { store.txn(Txn { compares: vec![Compare::Absent(key)], ops: vec![op] }).await.unwrap() }
        });
        let replies = futures::future::join_all(tries).await;
        let won = replies.iter().filter(|reply| matches!(reply, TxnReply::Committed { .. })).count();
        assert_eq!(won, 1, "{replies:?}");
    }
    assert_eq!(store.revision().await.unwrap(), Revision(6));
}

/// Puts, deletions and compactions at random, against a plain map.
pub async fn any_history_reads_like_a_map(store: AnyStore) {
    let seed: u64 = std::env::var("SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or_else(|| {
        std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().subsec_nanos().into()
    });
    println!("seed {seed}; SEED={seed} replays it");
    let mut random = StdRng::seed_from_u64(seed);
    let (mut model, mut revision) = (BTreeMap::new(), 1);
    for step in 0..200 {
        let (key, roll) = (random.random_range(0..8u8).to_string(), random.random_range(0..10u8));
        match roll {
            0 => store.compact(Revision(revision)).await.unwrap(),
            1..=3 => {
                revision += u64::from(model.remove(&key).is_some());
                assert_eq!(write(&*store, vec![delete(&key)]).await.0, revision, "seed {seed}, step {step}");
            }
            _ => {
                revision += 1;
                let value = step.to_string();
                assert_eq!(write(&*store, vec![put(&key, &value)]).await.0, revision, "seed {seed}, step {step}");
                model.insert(key, value);
            }
        }
        assert_eq!(store.revision().await.unwrap().0, revision, "seed {seed}, step {step}");
        assert_eq!(state(&*store, None).await, model, "seed {seed}, step {step}");
    }
}
