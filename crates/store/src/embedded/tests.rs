//! What the embedded store promises beyond the trait (`tests/promises`), on the simulated disk and on the real one.

use std::collections::BTreeMap;

use bytes::Bytes;
use futures::StreamExt;
use proptest::prelude::*;

use crate::{
    EmbeddedStore, Op, RangeRequest, Revision, Room, Store, StoreError, Txn, TxnReply, WatchRequest, WatchStream,
    engine::{
        Batch, Engine, Fact, RowId,
        disk::DiskEngine,
        memory::{Fault, MemoryEngine},
    },
};

fn put(key: &str, value: &str) -> Op {
    Op::Put { key: key.to_owned().into(), value: value.to_owned().into(), lease: None }
}

fn delete(key: &str) -> Op {
    Op::Delete { key: key.to_owned().into() }
}

fn blind(ops: Vec<Op>) -> Txn {
    Txn { compares: Vec::new(), ops }
}

fn all() -> RangeRequest {
    RangeRequest { start: Bytes::new(), end: Bytes::from_static(&[0xff]), revision: None, limit: 0, count: false }
}

fn committed(reply: TxnReply) -> Revision {
    match reply {
        TxnReply::Committed { revision } => revision,
        TxnReply::Conflict { .. } => panic!("the transaction was refused: {reply:?}"),
    }
}

async fn write(store: &impl Store, ops: Vec<Op>) -> Revision {
    committed(store.txn(blind(ops)).await.unwrap())
}

async fn state(store: &impl Store, revision: Option<Revision>) -> BTreeMap<String, String> {
    let reply = store.range(RangeRequest { revision, ..all() }).await.unwrap();
    let text = |bytes: Bytes| String::from_utf8(bytes.to_vec()).unwrap();
    reply.kvs.into_iter().map(|kv| (text(kv.key), text(kv.value))).collect()
}

async fn watch(store: &impl Store, from: u64) -> WatchStream {
    store.watch(WatchRequest { prefix: Bytes::new(), from: Some(Revision(from)) }).await.unwrap()
}

/// A disk that takes the writer down with it.
struct Panicking(MemoryEngine);

impl Engine for Panicking {
    fn check_room(&self, bytes: u64) -> Result<(), StoreError> {
        self.0.check_room(bytes)
    }

    fn commit(&self, _: Batch) -> Result<(), StoreError> {
        panic!("the engine broke")
    }

    fn read(&self, row: RowId) -> Result<Option<Vec<u8>>, StoreError> {
        self.0.read(row)
    }

    fn scan(&self, from: RowId, visit: &mut dyn FnMut(RowId, &[u8]) -> bool) -> Result<(), StoreError> {
        self.0.scan(from, visit)
    }

    fn meta(&self) -> Result<Vec<Fact>, StoreError> {
        self.0.meta()
    }

    fn check_reaches(&self, newest: u64) -> Result<(), StoreError> {
        self.0.check_reaches(newest)
    }

    fn size_bytes(&self) -> Result<u64, StoreError> {
        self.0.size_bytes()
    }

    fn blocks(&self) -> bool {
        false
    }
}

#[tokio::test]
async fn a_store_whose_writer_is_gone_says_so_to_all() {
    let store = EmbeddedStore::open(Panicking(MemoryEngine::default())).unwrap();
    let mut stream = watch(&store, 1).await;
    assert!(stream.next().await.unwrap().unwrap().events.is_empty());
    let written = store.txn(blind(vec![put("a", "1")])).await;
    assert!(matches!(written, Err(StoreError::Closed)), "{written:?}");
    assert!(matches!(stream.next().await, Some(Err(StoreError::Closed))));
    assert!(matches!(store.revision().await, Err(StoreError::Closed)));
}

#[tokio::test]
async fn a_restart_after_compaction_reuses_no_revision() {
    let engine = MemoryEngine::default();
    let store = EmbeddedStore::open(engine.clone()).unwrap();
    write(&store, vec![put("a", "1")]).await;
    let newest = write(&store, vec![delete("a")]).await;
    store.compact(newest).await.unwrap();
    while store.size_bytes().await.unwrap() > 0 {
        tokio::task::yield_now().await;
    }
    let again = EmbeddedStore::open(engine).unwrap();
    assert_eq!(again.revision().await.unwrap(), newest);
    assert_eq!(write(&again, vec![put("b", "1")]).await, Revision(newest.0 + 1));
}

#[tokio::test]
async fn a_full_disk_refuses_writes_and_loses_nothing() {
    let engine = MemoryEngine::default();
    let store = EmbeddedStore::open(engine.clone()).unwrap();
    write(&store, vec![put("a", "1")]).await;
    engine.set_fault(Some(Fault::Full));
    let refused = store.txn(blind(vec![put("a", "2")])).await;
    assert!(matches!(refused, Err(StoreError::DiskFull { .. })), "{refused:?}");
    assert_eq!(state(&store, None).await["a"], "1");
    engine.set_fault(None);
    assert_eq!(write(&store, vec![put("a", "3")]).await, Revision(3));
}

#[tokio::test]
async fn what_only_deletes_goes_on_where_little_is_left() {
    let engine = MemoryEngine::default();
    let store = EmbeddedStore::open(engine.clone()).unwrap();
    let lease = store.grant_lease(10).await.unwrap();
    write(&store, vec![put("a", "1"), put("b", "1")]).await;
    engine.set_fault(Some(Fault::Low));
    // Together, so that they would be one group.
    let (put, deleted, granted, revoked) = tokio::join!(
        store.txn(blind(vec![put("c", "1")])),
        store.txn(blind(vec![delete("a")])),
        store.grant_lease(10),
        store.revoke_lease(lease),
    );
    assert!(matches!(put, Err(StoreError::DiskFull { .. })), "{put:?}");
    assert!(matches!(granted, Err(StoreError::DiskFull { .. })), "{granted:?}");
    assert_eq!(committed(deleted.unwrap()), Revision(3));
    revoked.unwrap();
    assert_eq!(state(&store, None).await.keys().collect::<Vec<_>>(), ["b"]);
}

/// Rows go in a later group than the one that said until where history is gone. That one may have failed.
#[tokio::test]
async fn a_compaction_that_failed_is_not_half_done() {
    let engine = MemoryEngine::default();
    let store = EmbeddedStore::open(engine.clone()).unwrap();
    write(&store, vec![put("a", "1")]).await;
    let newest = write(&store, vec![delete("a")]).await;
    engine.set_fault(Some(Fault::Full));
    store.compact(newest).await.unwrap_err();
    engine.set_fault(None);
    store.compact(newest).await.unwrap();
    assert_eq!(store.size_bytes().await.unwrap(), 0);
    let again = EmbeddedStore::open(engine).unwrap();
    assert_eq!(again.revision().await.unwrap(), newest);
}

#[tokio::test(start_paused = true)]
async fn a_lease_that_cannot_end_is_tried_again_in_peace() {
    let engine = MemoryEngine::default();
    let store = EmbeddedStore::open(engine.clone()).unwrap();
    let lease = store.grant_lease(10).await.unwrap();
    let leased = Op::Put { key: "a".into(), value: "1".into(), lease: Some(lease) };
    write(&store, vec![leased]).await;
    engine.set_fault(Some(Fault::Full));
    let before = engine.commits();
    tokio::time::sleep(std::time::Duration::from_secs(20)).await;
    let tried = engine.commits() - before;
    assert!((9..=11).contains(&tried), "tried {tried} times in 10 seconds");
    engine.set_fault(None);
    tokio::time::sleep(std::time::Duration::from_secs(2)).await;
    assert_eq!(state(&store, None).await, BTreeMap::new());
}

#[tokio::test]
async fn the_real_disk_keeps_what_was_answered() {
    let dir = tempfile::tempdir().unwrap();
    let open = || EmbeddedStore::open(DiskEngine::open(dir.path(), |_| None).unwrap());
    let store = open().unwrap();
    let revision = write(&store, vec![put("a", "1"), put("b", "2")]).await;
    let locked = DiskEngine::open(dir.path(), |_| None).err();
    assert!(matches!(locked, Some(StoreError::Locked { .. })), "{locked:?}");
    let expected = state(&store, None).await;
    drop(store);
    // The writer lets go of the files on its own task.
    let again = loop {
        match DiskEngine::open(dir.path(), |_| None) {
            Ok(engine) => break EmbeddedStore::open(engine).unwrap(),
            Err(StoreError::Locked { .. }) => tokio::task::yield_now().await,
            Err(error) => panic!("{error}"),
        }
    };
    assert_eq!((again.revision().await.unwrap(), state(&again, None).await), (revision, expected));
}

/// What somebody did to the files must not pass for what a power cut does to them: either all that was acknowledged
/// is there, or the store says that it is not.
#[tokio::test]
async fn a_store_that_lost_acknowledged_writes_is_refused() {
    type Damage = fn(&mut Vec<u8>);
    let rows: [(Damage, bool); 6] = [
        (|_| {}, false),
        (|journal| journal.truncate(journal.len() / 2), true),
        (Vec::clear, true),
        (|journal| journal.truncate(journal.len() - 1), true),
        (|journal| journal[700] ^= 0xff, true),
        (|journal| *journal.last_mut().unwrap() ^= 0xff, true),
    ];
    for (row, (damage, refused)) in rows.into_iter().enumerate() {
        let dir = tempfile::tempdir().unwrap();
        let store = EmbeddedStore::open(DiskEngine::open(dir.path(), |_| None).unwrap()).unwrap();
        for n in 0..20 {
            write(&store, vec![put("a", &n.to_string())]).await;
        }
        drop(store);
        let journal = dir.path().join("0.jnl");
        while matches!(DiskEngine::open(dir.path(), |_| None), Err(StoreError::Locked { .. })) {
            tokio::task::yield_now().await;
        }
        let mut bytes = std::fs::read(&journal).unwrap();
        damage(&mut bytes);
        std::fs::write(&journal, bytes).unwrap();
        let reopened = DiskEngine::open(dir.path(), |_| None).and_then(EmbeddedStore::open).map(drop);
        let said_so = matches!(reopened, Err(StoreError::Damaged { .. }));
        assert_eq!((said_so, reopened.is_ok()), (refused, !refused), "row {row}: {reopened:?}");
    }
}

#[tokio::test]
async fn a_disk_that_is_nearly_full_is_told_so() {
    let dir = tempfile::tempdir().unwrap();
    let store = EmbeddedStore::open(DiskEngine::open(dir.path(), |_| Some(1 << 20)).unwrap()).unwrap();
    let refused = store.txn(blind(vec![put("a", "1")])).await;
    assert!(matches!(refused, Err(StoreError::DiskFull { .. })), "{refused:?}");
    let said = refused.unwrap_err().to_string();
    assert!(said.contains("is full (1 MiB are free, and writing needs 17 MiB): nothing was written"), "{said}");
    assert_eq!(store.room(), Some(Room { free_bytes: 1 << 20, needed_bytes: 16 << 20 }));
    assert_eq!(EmbeddedStore::open(MemoryEngine::default()).unwrap().room(), None);
}

/// One step of a history: what is written, or that the power is cut.
#[derive(Clone, Debug)]
enum Step {
    Put(u8, u8),
    Delete(u8),
    Compact,
    Crash { reached_disk: bool },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        6 => (0..8u8, any::<u8>()).prop_map(|(key, value)| Step::Put(key, value)),
        3 => (0..8u8).prop_map(Step::Delete),
        1 => Just(Step::Compact),
        1 => any::<bool>().prop_map(|reached_disk| Step::Crash { reached_disk }),
    ];
    prop::collection::vec(step, 1..60)
}

/// Runs a history against a plain map and compares state and revision after each step.
async fn check_history(history: Vec<Step>) {
    let engine = MemoryEngine::default();
    let mut store = EmbeddedStore::open(engine.clone()).unwrap();
    let (mut model, mut revision) = (BTreeMap::new(), 1);
    for step in history {
        match step {
            Step::Put(key, value) => {
                revision += 1;
                let written = write(&store, vec![put(&key.to_string(), &value.to_string())]).await;
                assert_eq!(written.0, revision);
                model.insert(key.to_string(), value.to_string());
            }
            Step::Delete(key) => {
                revision += u64::from(model.remove(&key.to_string()).is_some());
                assert_eq!(write(&store, vec![delete(&key.to_string())]).await.0, revision);
            }
            Step::Compact => store.compact(Revision(revision)).await.unwrap(),
            Step::Crash { reached_disk } => {
                engine.set_fault(Some(if reached_disk { Fault::CrashAfter } else { Fault::CrashBefore }));
                store.txn(blind(vec![put("crash", "x")])).await.unwrap_err();
                engine.set_fault(None);
                if reached_disk {
                    revision += 1;
                    model.insert("crash".into(), "x".into());
                }
                store = EmbeddedStore::open(engine.clone()).unwrap();
            }
        }
        assert_eq!(store.revision().await.unwrap().0, revision);
        assert_eq!(state(&store, None).await, model);
    }
}

proptest! {
    #[test]
    fn any_history_reads_like_a_map(history in steps()) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(check_history(history));
    }
}
