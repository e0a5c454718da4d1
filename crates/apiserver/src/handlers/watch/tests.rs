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

/// A watch of ConfigMaps, and the store that they are put into.
struct Watched {
    store: Arc<MemoryStore>,
    session: Session,
}

impl Watched {
    async fn start() -> Self {
        let store = Arc::new(MemoryStore::default());
        let caches = Caches::start(store.clone()).await.unwrap();
        let resource = by_plural("", "v1", "configmaps").unwrap();
        let cache = caches.of(resource).unwrap();
        let watcher = cache.watch(Start::Now { snapshot: false }, Topic::Everything, |_| true).unwrap();
        let view = View {
            resource,
            custom: None,
            selection: Selection::parse(resource, None, "", &Query::parse(None)).unwrap(),
            accept: Accept::JSON,
            env: Env::host(),
        };
        let session = Session {
            watcher,
            view,
            bookmarks: true,
            deadline: Instant::now() + Duration::from_secs(60),
            next_bookmark: Instant::now() + Duration::from_secs(30),
            caches,
            shutdown: CancellationToken::new(),
            server: std::sync::Weak::new(),
            initial: Vec::new().into_iter(),
            initial_bookmark: None,
            ready: BytesMut::new(),
            pace: Pace::starting(Instant::now()),
            events: Vec::new(),
            expired: false,
            ended: false,
        };
        Self { store, session }
    }

    /// Answers the revision at which it is to be seen.
    async fn put(&self, name: usize, bytes: usize) -> u64 {
        let object = json!({"apiVersion": "v1", "kind": "ConfigMap",
            "metadata": {"name": name.to_string(), "namespace": "n"}, "data": {"k": "x".repeat(bytes)}});
        let key = store_key(self.session.view.resource, "n", &name.to_string());
        let op = Op::Put { key, value: Bytes::from(splice::encode(&object)), lease: None };
        self.store.txn(Txn { compares: Vec::new(), ops: vec![op] }).await.unwrap();
        self.session.caches.fresh().await.unwrap()
    }
}

fn lines(piece: &[u8]) -> Vec<Value> {
    piece.split_inclusive(|byte| *byte == b'\n').map(|line| serde_json::from_slice(line).unwrap()).collect()
}

fn names(piece: &[u8]) -> Vec<usize> {
    lines(piece).iter().map(|event| event["object"]["metadata"]["name"].as_str().unwrap().parse().unwrap()).collect()
}

#[tokio::test]
async fn a_bookmark_names_nothing_that_was_not_sent() {
    let mut watched = Watched::start().await;
    let mut newest = 0;
    for name in 0..4 {
        newest = watched.put(name, 100_000).await;
    }
    watched.session.tick(Instant::now()).await;
    let lines = lines(&watched.session.ready);
    let kinds: Vec<&str> = lines.iter().map(|line| line["type"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["ADDED", "ADDED", "ADDED", "ADDED", "BOOKMARK"]);
    assert_eq!(lines[4]["object"]["metadata"]["resourceVersion"], newest.to_string());
}

#[tokio::test(start_paused = true)]
async fn a_flood_is_gathered_and_nothing_of_it_is_lost() {
    let mut watched = Watched::start().await;
    let mut sent = 0;
    // One by one, each goes at once, until so many have come that the others gather.
    while watched.session.pace.due(Instant::now()).is_none() {
        watched.put(sent, 10).await;
        assert_eq!(names(&watched.session.next().await.unwrap()), [sent]);
        sent += 1;
        assert!(sent < 1_000, "a flood is never gathered");
    }
    for name in sent..sent + 5 {
        watched.put(name, 10).await;
    }
    assert_eq!(names(&watched.session.next().await.unwrap()), (sent..sent + 5).collect::<Vec<_>>());
}

/// Who watches what never stops changing is told to come again, too.
#[tokio::test(start_paused = true)]
async fn a_watch_without_a_quiet_moment_ends_in_time() {
    let mut watched = Watched::start().await;
    watched.session.bookmarks = false;
    tokio::time::advance(Duration::from_secs(61)).await;
    watched.put(0, 10).await;
    assert_eq!(watched.session.next().await, None);
}
