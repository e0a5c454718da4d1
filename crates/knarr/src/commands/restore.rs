//! `knarr restore`: a data directory from a backup. Nothing is written before the whole backup was read and found
//! undamaged.

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io::{BufReader, Seek, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::Path,
};

use anyhow::{Context, Result, bail};
use knarr_store::{
    Restore,
    engine::disk::DiskEngine,
    snapshot::{self, Entry, SnapshotError, Summary},
};

use crate::{
    cli::RestoreArgs,
    datadir::{DataDir, Running},
    record::Record,
    say::say,
    server::{
        backup::{About, PKI},
        datastore::free_bytes,
    },
};

/// Events are put with leases, which a backup does not have: they get the time that they are kept for again.
const EVENTS: &[u8] = b"/registry/events/";
const EVENTS_SECONDS: u64 = 3_600;

pub async fn run(args: RestoreArgs) -> Result<()> {
    let RestoreArgs { file, data_dir } = args;
    let data = DataDir::at(&data_dir)?;
    let backup = File::open(&file).with_context(|| format!("cannot read {}", file.display()))?;
    let summary = restore(&backup, &data).with_context(|| format!("{} was not restored", file.display()))?;
    say!(
        "{} holds the {} objects of revision {}; start it with `knarr up --data-dir {0}`, or `knarr server`",
        data.root().display(),
        summary.keys,
        summary.revision
    );
    Ok(())
}

fn restore(mut backup: &File, data: &DataDir) -> Result<Summary> {
    let (ours, others) = data.entries()?;
    if let Some(there) = ours.iter().chain(&others).next() {
        bail!("{} has {there} in it: name an empty or a new directory", data.root().display());
    }
    let summary = snapshot::read(BufReader::new(backup), &mut |entry| check(&entry))?;
    let about: About = serde_json::from_str(&summary.about).context("the backup does not say what it is of")?;
    backup.rewind()?;
    data.prepare()?;
    let lock = data.lock(&Running::command())?;
    let written = write(backup, data, &about);
    drop(lock);
    if written.is_err() {
        // It was empty, so that all in it is of this attempt.
        for path in [data.store(), data.pki()] {
            let _ = fs::remove_dir_all(path);
        }
        let _ = fs::remove_file(data.record_file());
        let _ = fs::remove_file(data.root().join("lock"));
    }
    written.map(|()| summary)
}

/// A name that leads elsewhere is not written to.
fn plain_name(name: &str) -> Option<&str> {
    name.strip_prefix(PKI).filter(|name| !name.is_empty() && !name.starts_with('.') && !name.contains('/'))
}

fn check(entry: &Entry) -> Result<(), SnapshotError> {
    match entry {
        Entry::File { name, .. } if plain_name(name).is_none() => Err(SnapshotError::Refused {
            detail: format!("it has a file {name:?}, which belongs in no data directory"),
        }),
        _ => Ok(()),
    }
}

fn write(backup: &File, data: &DataDir, about: &About) -> Result<()> {
    let refused = |path: &Path, error: std::io::Error| SnapshotError::Refused {
        detail: format!("cannot write {}: {error}", path.display()),
    };
    let pki = data.pki();
    DirBuilder::new().mode(0o700).create(&pki).map_err(|error| refused(&pki, error))?;
    let mut store = Restore::begin(DiskEngine::open(&data.store(), free_bytes)?, &data.store())?;
    let summary = snapshot::read(BufReader::new(backup), &mut |entry| match entry {
        Entry::Begin { .. } => Ok(()),
        Entry::File { name, content } => {
            let path = pki.join(plain_name(&name).unwrap_or_default());
            private(&path, &content).map_err(|error| refused(&path, error))
        }
        Entry::Key(kv) => {
            let leased = kv.key.starts_with(EVENTS);
            Ok(store.put(kv, leased)?)
        }
    })?;
    store.finish(summary.revision, EVENTS_SECONDS)?;
    // Last, for it is what makes the directory a cluster's.
    Record::new(&about.node_name, None).write(&data.record_file())
}

fn private(path: &Path, content: &[u8]) -> std::io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(content)?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use std::{os::unix::fs::PermissionsExt, path::PathBuf, sync::Arc};

    use knarr_apiserver::seal::{Keys, SealedStore};
    use knarr_store::{EmbeddedStore, KeyValue, Op, RangeRequest, Store, StoreError, Txn};

    use super::*;
    use crate::{
        cli::{BackupArgs, DataArgs},
        commands::backup,
    };

    fn data(dir: &Path) -> DataDir {
        DataDir::at(dir).unwrap()
    }

    /// The writer of a store that was dropped lets go of the files on its own task.
    async fn open(data: &DataDir) -> EmbeddedStore<DiskEngine> {
        loop {
            match DiskEngine::open(&data.store(), |_| None) {
                Ok(engine) => return EmbeddedStore::open(engine).unwrap(),
                Err(StoreError::Locked { .. }) => tokio::task::yield_now().await,
                Err(error) => panic!("{error}"),
            }
        }
    }

    async fn all(store: &dyn Store) -> Vec<KeyValue> {
        let (start, end) = ("/registry/".into(), "/registry0".into());
        store.range(RangeRequest { start, end, revision: None, limit: 0, count: false }).await.unwrap().kvs
    }

    /// A cluster of a plain object, an event and a Secret, and its backup.
    async fn cluster(dir: &Path) -> (PathBuf, Vec<KeyValue>) {
        let data = data(&dir.join("data"));
        data.prepare().unwrap();
        DirBuilder::new().mode(0o700).create(data.pki()).unwrap();
        private(&data.pki().join("ca.key"), b"the authority").unwrap();
        let keys = Keys::open_in(&data.pki(), false).unwrap();
        let store = SealedStore::open(Arc::new(open(&data).await), keys).await.unwrap();
        for key in ["pods/default/a", "events/default/e", "secrets/default/s", "pods/default/a"] {
            let key = format!("/registry/{key}").into();
            let op = Op::Put { key, value: "value".into(), lease: None };
            store.txn(Txn { compares: vec![], ops: vec![op] }).await.unwrap();
        }
        let before = all(&store).await;
        Record::new("node-1", None).write(&data.record_file()).unwrap();
        drop(store);
        drop(open(&data).await);
        let file = dir.join("backup");
        while DiskEngine::open(&data.store(), |_| None).is_err() {
            tokio::task::yield_now().await;
        }
        let data = DataArgs { data_dir: data.root().to_owned() };
        backup::run(BackupArgs { file: file.clone(), data, encryption_key_file: None }).await.unwrap();
        (file, before)
    }

    #[tokio::test]
    async fn what_was_backed_up_is_restored() {
        let dir = tempfile::tempdir().unwrap();
        let (file, before) = cluster(dir.path()).await;
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(!dir.path().join("backup.unfinished").exists());
        let bytes = fs::read(&file).unwrap();
        assert!(!bytes.windows(b"secrets/default/svalue".len()).any(|part| part == b"secrets/default/svalue"));

        let target = data(&dir.path().join("restored"));
        run(RestoreArgs { file, data_dir: target.root().to_owned() }).await.unwrap();
        assert_eq!(target.record().unwrap().unwrap().node_name, "node-1");
        assert_eq!(fs::read(target.pki().join("ca.key")).unwrap(), b"the authority");
        let mode = fs::metadata(target.pki().join("ca.key")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let below = Arc::new(open(&target).await);
        let keys = Keys::open_in(&target.pki(), true).unwrap();
        let restored = SealedStore::open(below.clone(), keys).await.unwrap();
        assert_eq!(all(&restored).await, before);
        // No revision that somebody may have seen is used again, and whoever asks for one lists anew.
        let newest = restored.revision().await.unwrap();
        assert!(newest.0 > 1_000_000_000, "{newest}");
        let old = RangeRequest {
            start: "/".into(),
            end: "0".into(),
            revision: Some(knarr_store::Revision(5)),
            limit: 0,
            count: false,
        };
        assert!(matches!(restored.range(old).await, Err(StoreError::Compacted { .. })));
    }

    #[tokio::test]
    async fn nothing_is_written_where_something_is_wrong() {
        let dir = tempfile::tempdir().unwrap();
        let (file, _) = cluster(dir.path()).await;
        let whole = fs::read(&file).unwrap();
        let damages: [fn(&mut Vec<u8>); 3] =
            [|bytes| bytes.truncate(bytes.len() - 1), |bytes| bytes[300] ^= 1, |bytes| bytes.extend(b"more")];
        for damage in damages {
            let mut bytes = whole.clone();
            damage(&mut bytes);
            let damaged = dir.path().join("damaged");
            fs::write(&damaged, bytes).unwrap();
            let target = dir.path().join("new");
            let refused = run(RestoreArgs { file: damaged, data_dir: target.clone() }).await.unwrap_err();
            assert!(refused.to_string().contains("was not restored"), "{refused:#}");
            assert!(!target.exists());
        }
        let target = dir.path().join("taken");
        fs::create_dir(&target).unwrap();
        fs::write(target.join("thesis.tex"), "").unwrap();
        let refused = run(RestoreArgs { file: file.clone(), data_dir: target.clone() }).await.unwrap_err();
        assert!(format!("{refused:#}").contains("has thesis.tex in it"), "{refused:#}");
        assert_eq!(fs::read_dir(&target).unwrap().count(), 1);
        // And no backup is written over.
        let data = DataArgs { data_dir: dir.path().join("data") };
        let refused = backup::run(BackupArgs { file, data, encryption_key_file: None }).await.unwrap_err();
        assert!(refused.to_string().contains("is there already"), "{refused}");
    }

    #[test]
    fn names_that_lead_elsewhere_are_refused() {
        for (name, expected) in [
            ("pki/ca.key", Some("ca.key")),
            ("pki/", None),
            ("pki/../x", None),
            ("pki/a/b", None),
            ("pki/.hidden", None),
            ("/etc/passwd", None),
            ("store/0.jnl", None),
        ] {
            assert_eq!(plain_name(name), expected, "{name}");
        }
    }
}
