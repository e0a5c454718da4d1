//! What the promises are written with.

use std::{collections::BTreeMap, time::Duration};

use bytes::Bytes;
use futures::StreamExt;
use knarr_store::{Event, Op, RangeRequest, Revision, Store, Txn, TxnReply, WatchRequest, WatchStream};

pub fn put(key: &str, value: &str) -> Op {
    Op::Put { key: key.to_owned().into(), value: value.to_owned().into(), lease: None }
}

pub fn delete(key: &str) -> Op {
    Op::Delete { key: key.to_owned().into() }
}

pub fn blind(ops: Vec<Op>) -> Txn {
    Txn { compares: Vec::new(), ops }
}

pub fn all() -> RangeRequest {
    RangeRequest { start: Bytes::new(), end: Bytes::from_static(&[0xff]), revision: None, limit: 0, count: false }
}

pub fn committed(reply: TxnReply) -> Revision {
    match reply {
        TxnReply::Committed { revision } => revision,
        TxnReply::Conflict { .. } => panic!("the transaction was refused: {reply:?}"),
    }
}

pub async fn write(store: &dyn Store, ops: Vec<Op>) -> Revision {
    committed(store.txn(blind(ops)).await.unwrap())
}

pub async fn state(store: &dyn Store, revision: Option<Revision>) -> BTreeMap<String, String> {
    let reply = store.range(RangeRequest { revision, ..all() }).await.unwrap();
    reply.kvs.into_iter().map(|kv| (text(&kv.key), text(&kv.value))).collect()
}

pub fn text(bytes: &Bytes) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

pub async fn watch(store: &dyn Store, prefix: &'static str, from: Option<Revision>) -> WatchStream {
    store.watch(WatchRequest { prefix: prefix.into(), from }).await.unwrap()
}

/// The next `count` events; waits at most a minute for them.
pub async fn events(stream: &mut WatchStream, count: usize) -> Vec<Event> {
    let mut seen = Vec::new();
    let read = async {
        while seen.len() < count {
            seen.extend(stream.next().await.unwrap().unwrap().events);
        }
    };
    tokio::time::timeout(Duration::from_secs(60), read).await.expect("the watch stalled");
    assert_eq!(seen.len(), count, "{seen:?}");
    seen
}

/// Reads batches until the stream has told of everything up to a revision.
pub async fn reach(stream: &mut WatchStream, revision: Revision) -> Vec<Event> {
    let mut seen = Vec::new();
    let read = async {
        loop {
            let batch = stream.next().await.unwrap().unwrap();
            seen.extend(batch.events);
            if batch.revision >= revision {
                return;
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(60), read).await.expect("the watch stalled");
    seen
}
