//! What only a store has that others keep: others write to it too, and it may be gone for a while.

use std::time::Duration;

use futures::future::BoxFuture;
use knarr_store::{Revision, Store, StoreError};

use crate::{
    etcd::Etcd,
    steps::{all, blind, events, put, reach, state, watch, write},
};

type Check = fn(Etcd) -> BoxFuture<'static, ()>;

pub const CHECKS: &[(&str, Check)] = &[
    ("two_servers_see_each_others_writes", |etcd| Box::pin(two_servers_see_each_others_writes(etcd))),
    ("a_watch_follows_what_others_write_elsewhere", |etcd| Box::pin(a_watch_follows_what_others_write(etcd))),
    ("a_lost_etcd_is_an_error_and_comes_back_by_itself", |etcd| Box::pin(a_lost_etcd_comes_back(etcd))),
    ("a_prefix_keeps_clusters_apart", |etcd| Box::pin(a_prefix_keeps_clusters_apart(etcd))),
];

async fn two_servers_see_each_others_writes(etcd: Etcd) {
    let (one, two) = (etcd.store("/registry", "/registry"), etcd.store("/registry", "/registry"));
    let mut stream = watch(&two, "/registry/", Some(Revision(1))).await;
    let written = write(&one, vec![put("/registry/pods/a", "1")]).await;
    assert_eq!(events(&mut stream, 1).await[0].kv.mod_revision, written);
    assert_eq!(two.revision().await.unwrap(), written);
    write(&two, vec![put("/registry/pods/a", "2")]).await;
    let range = knarr_store::RangeRequest { start: "/registry/".into(), end: "/registry0".into(), ..all() };
    assert_eq!(one.range(range).await.unwrap().kvs[0].value, "2");
}

/// A revision that somebody was told is reached, although nothing of it lies below the prefix, and what makes that
/// possible is seen by nobody.
async fn a_watch_follows_what_others_write(etcd: Etcd) {
    let (ours, others) = (etcd.store("", "/ours/"), etcd.store("", "/others/"));
    let mut stream = watch(&ours, "", Some(Revision(1))).await;
    write(&ours, vec![put("a", "1")]).await;
    for n in 0..5 {
        write(&others, vec![put("x", &n.to_string())]).await;
        let newest = ours.revision().await.unwrap();
        let seen = reach(&mut stream, newest).await;
        assert_eq!(seen.len(), usize::from(n == 0), "{seen:?}");
    }
    assert_eq!(state(&ours, None).await.into_keys().collect::<Vec<_>>(), ["a"]);
    let page = knarr_store::RangeRequest { limit: 1, ..all() };
    let reply = ours.range(page).await.unwrap();
    assert_eq!((reply.kvs.len(), reply.more), (1, false));
}

async fn a_lost_etcd_comes_back(mut etcd: Etcd) {
    let store = etcd.store("", "/test/");
    write(&store, vec![put("a", "1")]).await;
    let mut stream = watch(&store, "", Some(Revision(1))).await;
    events(&mut stream, 1).await;
    etcd.kill();
    let begun = std::time::Instant::now();
    for error in [store.revision().await.err(), store.txn(blind(vec![put("a", "2")])).await.err()] {
        let error = error.expect("etcd is gone");
        assert!(matches!(error, StoreError::Unavailable { .. }), "{error:?}");
        assert!(error.to_string().starts_with("etcd"), "{error}");
    }
    assert!(begun.elapsed() < Duration::from_secs(20), "errors took {:?}", begun.elapsed());
    etcd.start();
    etcd.wait().await;
    assert_eq!(state(&store, None).await["a"], "1");
    let written = write(&store, vec![put("a", "3")]).await;
    let seen = events(&mut stream, 1).await;
    assert_eq!((seen[0].kv.mod_revision, &seen[0].kv.value[..]), (written, &b"3"[..]));
}

async fn a_prefix_keeps_clusters_apart(etcd: Etcd) {
    let (one, two) = (etcd.store("/registry", "/one"), etcd.store("/registry", "/two"));
    write(&one, vec![put("/registry/pods/a", "1")]).await;
    let range = knarr_store::RangeRequest { start: "/registry/".into(), end: "/registry0".into(), ..all() };
    assert_eq!(two.range(range.clone()).await.unwrap().kvs, []);
    let kvs = one.range(range).await.unwrap().kvs;
    assert_eq!((&kvs[0].key[..], kvs.len()), (&b"/registry/pods/a"[..], 1));
    let refused = one.txn(blind(vec![put("/elsewhere", "1")])).await.err();
    assert!(matches!(refused, Some(StoreError::Engine { .. })), "{refused:?}");
}
