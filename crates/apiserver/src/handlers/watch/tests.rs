use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use knarr_api::registry::by_plural;
use knarr_store::{MemoryStore, Op, Store, Txn};
use serde_json::{Value, json};
use tokio::time::Instant;

use super::{beginning::Beginning, *};
use crate::{
    cache::{Start, Topic, splice, store_key},
    env::Env,
    route::Query,
};

#[test]
fn a_watch_begins_where_its_query_says() {
    let now = |snapshot| Start::Now { snapshot };
    let rows = [
        ("", now(true), false),
        ("allowWatchBookmarks=true", now(true), true),
        ("resourceVersion=0&allowWatchBookmarks=true", now(true), true),
        ("resourceVersion=7&allowWatchBookmarks=true", Start::After(7), false),
        ("sendInitialEvents=true&resourceVersionMatch=NotOlderThan", now(true), false),
        ("sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=1", now(true), true),
        ("sendInitialEvents=true&resourceVersionMatch=NotOlderThan&resourceVersion=7", now(true), false),
        ("sendInitialEvents=false&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=1", now(false), false),
        ("sendInitialEvents=false&resourceVersionMatch=NotOlderThan&resourceVersion=0", now(false), false),
        ("sendInitialEvents=false&resourceVersionMatch=NotOlderThan&resourceVersion=7", Start::After(7), false),
    ];
    for (query, start, mark_initial) in rows {
        let (beginning, _) = Beginning::of(&Query::parse(Some(query))).unwrap();
        assert_eq!(beginning, Beginning { start, mark_initial }, "{query}");
    }
}

#[test]
fn what_a_watch_may_not_ask_for_is_said_in_full() {
    let alone = "resourceVersionMatch: Forbidden: resourceVersionMatch is forbidden for watch unless sendInitialEvents \
                 is provided";
    let needs =
        "resourceVersionMatch: Forbidden: sendInitialEvents requires setting resourceVersionMatch to NotOlderThan";
    let exact = "resourceVersionMatch: Unsupported value: \"Exact\": supported values: \"NotOlderThan\"";
    let page =
        "resourceVersionMatch: Forbidden: resourceVersionMatch is forbidden when continue is provided".to_owned();
    let rows = [
        ("resourceVersionMatch=NotOlderThan", alone.to_owned()),
        ("sendInitialEvents=true", needs.to_owned()),
        ("sendInitialEvents=true&resourceVersionMatch=Exact", format!("[{needs}, {exact}]")),
        ("resourceVersionMatch=Exact", format!("[{alone}, {exact}]")),
        ("sendInitialEvents=true&resourceVersionMatch=NotOlderThan&continue=x", page),
    ];
    for (query, expected) in rows {
        let error = Beginning::of(&Query::parse(Some(query))).unwrap_err();
        assert_eq!(error.message(), format!("ListOptions.meta.k8s.io \"\" is invalid: {expected}"));
    }
}

#[tokio::test]
async fn a_bookmark_names_nothing_that_was_not_sent() {
    let store = Arc::new(MemoryStore::default());
    let caches = Caches::start(store.clone()).await.unwrap();
    let resource = by_plural("", "v1", "configmaps").unwrap();
    let cache = caches.of(resource).unwrap();
    let watcher = cache.watch(Start::Now { snapshot: false }, Topic::Everything, |_| true).unwrap();
    for name in 0..4 {
        let object = json!({"apiVersion": "v1", "kind": "ConfigMap",
            "metadata": {"name": name.to_string(), "namespace": "n"}, "data": {"k": "x".repeat(100_000)}});
        let key = store_key(resource, "n", &name.to_string());
        let op = Op::Put { key, value: Bytes::from(splice::encode(&object)), lease: None };
        store.txn(Txn { compares: Vec::new(), ops: vec![op] }).await.unwrap();
    }
    let newest = caches.fresh().await.unwrap();
    let query = Query::parse(None);
    let view = View {
        resource,
        custom: None,
        selection: Selection::parse(resource, None, "", &query).unwrap(),
        accept: Accept::JSON,
        env: Env::host(),
    };
    let mut session = Session {
        watcher,
        view,
        bookmarks: true,
        deadline: Instant::now() + Duration::from_secs(60),
        next_bookmark: Instant::now(),
        caches,
        shutdown: CancellationToken::new(),
        server: std::sync::Weak::new(),
        initial: Vec::new().into_iter(),
        initial_bookmark: None,
        ready: BytesMut::new(),
        events: Vec::new(),
        expired: false,
        ended: false,
    };
    session.tick().await;
    let lines = session.ready.split_inclusive(|byte| *byte == b'\n');
    let lines: Vec<Value> = lines.map(|line| serde_json::from_slice(line).unwrap()).collect();
    let kinds: Vec<&str> = lines.iter().map(|line| line["type"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["ADDED", "ADDED", "ADDED", "ADDED", "BOOKMARK"]);
    assert_eq!(lines[4]["object"]["metadata"]["resourceVersion"], newest.to_string());
}
