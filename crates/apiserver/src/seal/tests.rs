use std::{path::Path, sync::Arc};

use bytes::Bytes;
use futures::StreamExt;
use knarr_store::{Compare, MemoryStore, Op, RangeRequest, Revision, Store, Txn, TxnReply, WatchRequest};

use super::{KeyError, Keys, OpenError, SealError, SealedStore, has_sealed};

const SECRET: &str = "/registry/secrets/d/login";
const MAP: &str = "/registry/configmaps/d/settings";
const OLD: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
const NEW: &str = "//79/Pv6+fj39vX08/Lx8O/u7ezr6uno5+bl5OPi4eA=";

fn keys(lines: &[&str]) -> Keys {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("k"), lines.join("\n")).unwrap();
    Keys::read(&dir.path().join("k")).unwrap()
}

async fn put(store: &dyn Store, key: &str, value: &str) -> u64 {
    let op = Op::Put { key: Bytes::copy_from_slice(key.as_bytes()), value: value.to_owned().into(), lease: None };
    match store.txn(Txn { compares: vec![], ops: vec![op] }).await.unwrap() {
        TxnReply::Committed { revision } => revision.0,
        conflict => panic!("{conflict:?}"),
    }
}

async fn all(store: &dyn Store) -> Vec<(String, Vec<u8>)> {
    let request = RangeRequest { start: "/".into(), end: "0".into(), revision: None, limit: 0, count: false };
    let kvs = store.range(request).await.unwrap().kvs;
    kvs.into_iter().map(|kv| (String::from_utf8(kv.key.to_vec()).unwrap(), kv.value.to_vec())).collect()
}

fn contains(bytes: &[u8], part: &str) -> bool {
    bytes.windows(part.len()).any(|window| window == part.as_bytes())
}

#[tokio::test]
async fn only_secrets_are_sealed_and_nobody_above_sees_it() {
    let below = Arc::new(MemoryStore::default());
    let store = SealedStore::open(below.clone(), keys(&[OLD])).await.unwrap();
    let mut watch = store.watch(WatchRequest { prefix: "/".into(), from: Some(Revision(1)) }).await.unwrap();
    for key in [SECRET, MAP] {
        put(&store, key, "{\"hidden\":1}").await;
    }
    let expected = [(MAP.to_owned(), b"{\"hidden\":1}".to_vec()), (SECRET.to_owned(), b"{\"hidden\":1}".to_vec())];
    assert_eq!(all(&store).await, expected);
    for (key, value) in all(&*below).await {
        assert_eq!(contains(&value, "hidden"), key == MAP, "{key}");
    }
    let mut seen = Vec::new();
    while seen.len() < 2 {
        let batch = watch.next().await.unwrap().unwrap();
        seen.extend(batch.events.into_iter().map(|event| event.kv.value));
    }
    assert!(seen.iter().all(|value| value == "{\"hidden\":1}"), "{seen:?}");
    // Whoever loses against another write is shown what that wrote.
    let compares = vec![Compare::Absent(SECRET.into())];
    match store.txn(Txn { compares, ops: vec![] }).await.unwrap() {
        TxnReply::Conflict { current, .. } => assert_eq!(current[0].as_ref().unwrap().value, "{\"hidden\":1}"),
        committed => panic!("{committed:?}"),
    }
    let (first, second) = (put(&store, SECRET, "x").await, put(&store, SECRET, "x").await);
    assert_eq!(second, first + 1, "one write is one revision");
}

#[tokio::test]
async fn one_text_never_looks_the_same_twice_and_stays_in_its_place() {
    let keys = keys(&[OLD]);
    let (a, b) = (keys.seal(b"p", b"text"), keys.seal(b"p", b"text"));
    assert_ne!(a, b);
    assert_eq!(keys.open(b"p", &a).unwrap(), "text");
    assert!(matches!(keys.open(b"q", &a), Err(OpenError::Damaged { .. })), "moved to another name");
    let mut flipped = a.to_vec();
    *flipped.last_mut().unwrap() ^= 1;
    assert!(matches!(keys.open(b"p", &flipped.into()), Err(OpenError::Damaged { .. })));
    assert!(matches!(keys.open(b"p", &a.slice(..30)), Err(OpenError::Damaged { .. })), "cut short");
}

#[tokio::test]
async fn plain_records_and_older_keys_are_replaced_at_the_start() {
    let below = Arc::new(MemoryStore::default());
    put(&*below, SECRET, "{\"plain\":1}").await;
    let mut sealed_by = Vec::new();
    for keys_in_file in [&[OLD][..], &[NEW, OLD], &[NEW]] {
        let store = SealedStore::open(below.clone(), keys(keys_in_file)).await.unwrap();
        assert_eq!(all(&store).await, [(SECRET.to_owned(), b"{\"plain\":1}".to_vec())]);
        let raw = all(&*below).await[0].1.clone();
        assert!(!contains(&raw, "plain"));
        sealed_by.push(raw[..26].to_vec());
    }
    assert_ne!(sealed_by[0], sealed_by[1]);
    assert_eq!(sealed_by[1], sealed_by[2]);
    let before = all(&*below).await;
    let refused = SealedStore::open(below.clone(), keys(&[OLD])).await.err().unwrap();
    assert!(
        matches!(&refused, SealError::Open(OpenError::UnknownKey { secret, .. }) if secret == "d/login"),
        "{refused}"
    );
    assert_eq!(all(&*below).await, before, "a wrong key changes nothing");
}

#[tokio::test]
async fn a_key_is_made_once_and_never_beside_what_another_sealed() {
    let dir = tempfile::tempdir().unwrap();
    let made = Keys::open_in(dir.path(), false).unwrap();
    let sealed = made.seal(b"p", b"text");
    assert_eq!(Keys::open_in(dir.path(), true).unwrap().open(b"p", &sealed).unwrap(), "text");
    use std::os::unix::fs::PermissionsExt;
    let file = dir.path().join("encryption.key");
    assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    std::fs::remove_file(&file).unwrap();
    assert!(matches!(Keys::open_in(dir.path(), true), Err(KeyError::Missing { .. })));
    assert!(!file.exists());
    let below = MemoryStore::default();
    put(&below, SECRET, "{}").await;
    assert!(!has_sealed(&below).await.unwrap());
    put(&below, SECRET, "k8s:enc:aesgcm:v1:00:x").await;
    assert!(has_sealed(&below).await.unwrap());
}

#[test]
fn key_files() {
    let check = |text: &str| match Keys::parse(text, Path::new("f")) {
        Ok(keys) => format!("{} keys", 1 + keys.older.len()),
        Err(error) => error.to_string(),
    };
    let malformed = |line: u32| {
        format!("f, line {line}: an encryption key is 32 bytes in base64, one a line, the one to write with first")
    };
    for (text, expected) in [
        (format!("# comment\n\n{NEW}\n{OLD}\n"), "2 keys".to_owned()),
        (format!("{OLD}\nnonsense"), malformed(2)),
        ("c2hvcnQ=".to_owned(), malformed(1)),
        (
            "# nothing\n".to_owned(),
            "f holds no encryption key; put the key back that the Secrets were encrypted with".to_owned(),
        ),
    ] {
        assert_eq!(check(&text), expected, "{text}");
    }
}
