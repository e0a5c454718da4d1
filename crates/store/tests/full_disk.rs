//! A disk that is full, really: a small tmpfs in a mount namespace of its own.
//!
//! Where no such namespace can be made (that takes root, or user namespaces) the tests count as ignored and say why.

#![allow(clippy::disallowed_methods)] // each test is a process of its own, with mounts of its own

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::Write,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use bytes::Bytes;
use futures::StreamExt;
use knarr_store::{
    EmbeddedStore, Op, RangeRequest, Revision, Store, StoreError, Txn, TxnReply, WatchRequest, engine::disk::DiskEngine,
};
use libtest_mimic::{Arguments, Failed, Trial};

const DIR: &str = "KNARR_STORE_FULL_DISK";
const MIB: u64 = 1 << 20;
const PATIENCE: Duration = Duration::from_secs(60);

type Test = fn(PathBuf) -> futures::future::BoxFuture<'static, ()>;

macro_rules! tests {
    ($($name:ident),+ $(,)?) => { &[$((stringify!($name), |dir| Box::pin($name(dir)))),+] };
}

const TESTS: &[(&str, Test)] = tests![
    writes_stop_before_the_disk_is_full,
    a_disk_that_fills_up_in_a_write_loses_nothing,
    a_disk_that_fills_up_in_the_background_loses_nothing,
];

fn main() {
    if let Some(named) = std::env::var_os(DIR) {
        return run_in(Path::new(&named));
    }
    let arguments = Arguments::from_args();
    let unshare = namespaces();
    if unshare.is_none() {
        eprintln!("no mount namespace can be made here (as root, or with user namespaces): the tests are ignored");
    }
    let trials = TESTS.iter().map(|(name, _)| {
        Trial::test(*name, move || run_apart(name, unshare.unwrap_or_default())).with_ignored_flag(unshare.is_none())
    });
    libtest_mimic::run(&arguments, trials.collect()).exit();
}

/// What `unshare` is to be told on this machine.
fn namespaces() -> Option<&'static [&'static str]> {
    let ways: [&[&str]; 2] = [&["--mount"], &["--mount", "--user", "--map-root-user"]];
    ways.into_iter().find(|way| {
        let tried = Command::new("unshare").args(*way).args(["mount", "-t", "tmpfs", "tmpfs", "/mnt"]).output();
        tried.is_ok_and(|output| output.status.success())
    })
}

fn run_apart(name: &str, unshare: &[&str]) -> Result<(), Failed> {
    let dir = tempfile::tempdir()?;
    let disk = dir.path().join(name);
    fs::create_dir(&disk)?;
    let mut child = Command::new("unshare");
    child.args(unshare).arg(std::env::current_exe()?).env(DIR, &disk);
    let output = child.output()?;
    let said = [output.stdout, output.stderr].concat();
    if output.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&said).into_owned().into()) }
}

fn run_in(disk: &Path) {
    let test = TESTS.iter().find(|(name, _)| disk.ends_with(name)).unwrap().1;
    let mut mount = Command::new("mount");
    mount.args(["-t", "tmpfs", "-o", "size=32m", "tmpfs"]).arg(disk);
    assert!(mount.status().unwrap().success());
    tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap().block_on(test(disk.to_owned()));
}

fn free_bytes(path: &Path) -> Option<u64> {
    let stat = rustix::fs::statvfs(path).ok()?;
    Some(stat.f_bavail * stat.f_frsize)
}

/// Leaves so much of the disk to others.
fn fill(disk: &Path, leave_bytes: u64) {
    let mut filler = File::create(disk.join("filler")).unwrap();
    let zeros = vec![0; 64 << 10];
    while free_bytes(disk).unwrap() > leave_bytes {
        let most = (free_bytes(disk).unwrap() - leave_bytes).min(zeros.len() as u64);
        filler.write_all(&zeros[..most as usize]).unwrap();
    }
}

fn empty(disk: &Path) {
    fs::remove_file(disk.join("filler")).unwrap();
}

type Disk = EmbeddedStore<DiskEngine>;

/// A store that looks at the disk, or one that does not and meets its end.
async fn open(disk: &Path, looks: bool) -> Disk {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match DiskEngine::open(&disk.join("store"), move |path| free_bytes(path).filter(|_| looks)) {
            Ok(engine) => return EmbeddedStore::open(engine).unwrap(),
            // The writer of the one before lets go of the files on its own task.
            Err(StoreError::Locked { .. }) if Instant::now() < deadline => tokio::task::yield_now().await,
            Err(error) => panic!("{error}"),
        }
    }
}

async fn put(store: &Disk, key: &str, bytes: usize) -> Result<Revision, StoreError> {
    let put = Op::Put { key: key.to_owned().into(), value: vec![b'x'; bytes].into(), lease: None };
    txn(store, put).await
}

async fn delete(store: &Disk, key: &str) -> Result<Revision, StoreError> {
    txn(store, Op::Delete { key: key.to_owned().into() }).await
}

async fn txn(store: &Disk, op: Op) -> Result<Revision, StoreError> {
    let written = store.txn(Txn { compares: vec![], ops: vec![op] });
    match tokio::time::timeout(PATIENCE, written).await.expect("a write is answered")? {
        TxnReply::Committed { revision } => Ok(revision),
        TxnReply::Conflict { .. } => panic!("nothing was compared"),
    }
}

/// Every key with the revision that wrote it.
async fn content(store: &Disk) -> BTreeMap<String, Revision> {
    let all =
        RangeRequest { start: Bytes::new(), end: Bytes::from_static(&[0xff]), revision: None, limit: 0, count: false };
    let kvs = store.range(all).await.unwrap().kvs;
    kvs.into_iter().map(|kv| (String::from_utf8(kv.key.to_vec()).unwrap(), kv.mod_revision)).collect()
}

/// Puts until one is refused; what was acknowledged, and the refusal.
async fn put_until_refused(store: &Disk, bytes: usize) -> (BTreeMap<String, Revision>, StoreError) {
    let mut acknowledged = content(store).await;
    for n in 0..100_000 {
        let key = format!("{bytes}/{n}");
        match put(store, &key, bytes).await {
            Ok(revision) => drop(acknowledged.insert(key, revision)),
            Err(error) => return (acknowledged, error),
        }
    }
    panic!("the disk is never full");
}

/// As soon as there is room, and without another start.
async fn put_once_there_is_room(store: &Disk, key: &str) -> Revision {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match put(store, key, 10).await {
            Ok(revision) => return revision,
            Err(error) => assert!(Instant::now() < deadline, "{error}"),
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

async fn writes_stop_before_the_disk_is_full(disk: PathBuf) {
    let store = open(&disk, true).await;
    put(&store, "first", 10).await.unwrap();
    put(&store, "second", 10).await.unwrap();
    let watch = WatchRequest { prefix: Bytes::new(), from: Some(Revision(3)) };
    let mut events = store.watch(watch).await.unwrap();
    fill(&disk, 8 * MIB);
    let said = put(&store, "refused", 10).await.unwrap_err().to_string();
    assert!(said.contains("is full (8 MiB are free, and writing needs 17 MiB): nothing was written"), "{said}");
    delete(&store, "first").await.expect("deletions have room longer");
    fill(&disk, MIB);
    let error = delete(&store, "second").await.unwrap_err();
    assert!(matches!(error, StoreError::DiskFull { .. }), "{error}");
    let before = content(&store).await;
    assert_eq!(before.keys().collect::<Vec<_>>(), ["second"]);
    empty(&disk);
    put(&store, "third", 10).await.expect("there is room at once");
    let mut seen = Vec::new();
    while seen.len() < 2 {
        seen.extend(events.next().await.unwrap().unwrap().events.into_iter().map(|event| event.kv.key));
    }
    assert_eq!(seen, ["first", "third"]);
    let expected = content(&store).await;
    drop((store, events));
    assert_eq!(content(&open(&disk, true).await).await, expected);
}

/// The engine is not told how full the disk is, as if somebody else took the last of it in the same instant.
async fn a_disk_that_fills_up_in_a_write_loses_nothing(disk: PathBuf) {
    for bytes in [300, 100_000] {
        let store = open(&disk, false).await;
        put(&store, "first", 10).await.unwrap();
        fill(&disk, 2 * MIB);
        let (mut acknowledged, error) = put_until_refused(&store, bytes).await;
        assert!(matches!(error, StoreError::DiskFull { .. }), "{error:?}");
        assert!(acknowledged.len() > 1, "{error}");
        assert_eq!(content(&store).await, acknowledged, "reads go on");
        for n in 0..5 {
            // What was refused has left some bytes, which may do for one more.
            let key = format!("more/{n}");
            match put(&store, &key, bytes).await {
                Ok(revision) => drop(acknowledged.insert(key, revision)),
                Err(error) => assert!(matches!(error, StoreError::DiskFull { .. }), "{error:?}"),
            }
        }
        assert_eq!(content(&store).await, acknowledged);
        empty(&disk);
        let newest = put_once_there_is_room(&store, "last").await;
        assert_eq!(newest.0, acknowledged.values().max().unwrap().0 + 1, "what was refused took no revision");
        let expected = content(&store).await;
        assert_eq!(expected.len(), acknowledged.len() + usize::from(!acknowledged.contains_key("last")));
        drop(store);
        assert_eq!(content(&open(&disk, false).await).await, expected);
    }
}

/// There is room for the journal, but not for the tables that the engine makes of it in its own thread.
async fn a_disk_that_fills_up_in_the_background_loses_nothing(disk: PathBuf) {
    let store = open(&disk, false).await;
    fill(&disk, 7 * MIB);
    let (acknowledged, error) = put_until_refused(&store, 50_000).await;
    let size: usize = acknowledged.len() * 50_000;
    assert!(size > 4 << 20, "the disk was full after {size} bytes: {error}");
    assert_eq!(content(&store).await, acknowledged, "reads go on");
    empty(&disk);
    put_once_there_is_room(&store, "last").await;
    let expected = content(&store).await;
    assert_eq!(expected.len(), acknowledged.len() + 1);
    drop(store);
    assert_eq!(content(&open(&disk, false).await).await, expected);
}
