//! Files are damaged in all the ways that come to mind. What a crash does is mended; of anything else the file is named,
//! and none is changed.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    path::{Path, PathBuf},
};

use proptest::prelude::*;
use xxhash_rust::xxh3::xxh3_128;

use super::journal::{Journal, Rest};
use crate::{
    StoreError,
    engine::{Batch, Engine, RowId, disk::DiskEngine, opened::Opened},
};

const NEWEST: u64 = 11;

fn row(revision: u64) -> (RowId, Vec<u8>) {
    (RowId::first_of(revision), format!("this is row {revision}").into_bytes())
}

/// A store with rows in a table (2 to 6) and rows in its journal alone (7 to 11).
fn store() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let engine = DiskEngine::open(dir.path(), |_| None).unwrap();
    for revision in 2..=6 {
        engine.commit(Batch { puts: vec![row(revision)], ..Batch::default() }).unwrap();
    }
    drop(engine);
    let opened = Opened::at(dir.path()).unwrap();
    opened.log.rotate_memtable_and_wait().unwrap();
    drop(opened);
    let engine = DiskEngine::open(dir.path(), |_| None).unwrap();
    for revision in 7..=NEWEST {
        engine.commit(Batch { puts: vec![row(revision)], ..Batch::default() }).unwrap();
    }
    drop(engine);
    dir
}

/// Opens a store as the embedded one does; the revisions of its rows.
fn open(path: &Path) -> Result<Vec<u64>, StoreError> {
    let engine = DiskEngine::open(path, |_| None)?;
    let mut revisions = Vec::new();
    engine.scan(RowId::first_of(0), &mut |id, bytes| {
        assert_eq!((id, bytes.to_vec()), row(id.revision));
        revisions.push(id.revision);
        true
    })?;
    engine.check_reaches(revisions.last().copied().unwrap_or(0))?;
    Ok(revisions)
}

fn files(path: &Path) -> BTreeMap<PathBuf, u128> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(path).unwrap() {
        let entry = entry.unwrap().path();
        if entry.is_dir() {
            found.extend(files(&entry));
        } else {
            found.insert(entry.clone(), xxh3_128(&fs::read(&entry).unwrap()));
        }
    }
    found
}

fn change(file: &Path, change: impl FnOnce(&mut Vec<u8>)) {
    let mut bytes = fs::read(file).unwrap();
    change(&mut bytes);
    fs::write(file, bytes).unwrap();
}

fn flip(file: &Path, at: usize) {
    change(file, |bytes| bytes[at] ^= 1);
}

/// Where a row's batch begins in the journal, and where it ends.
fn batch_of(journal: &[u8], revision: u64) -> (usize, usize) {
    let wanted = row(revision).1;
    let at = journal.windows(wanted.len()).position(|window| window == wanted).unwrap();
    (at - 12 - 21 - 13, at + wanted.len() + 13)
}

fn batch_in(path: &Path, revision: u64) -> (usize, usize) {
    batch_of(&fs::read(path.join("0.jnl")).unwrap(), revision)
}

/// The folder of the tree that has the rows, and its table.
fn table(path: &Path) -> (PathBuf, PathBuf) {
    let text = row(2).1;
    let holds = |file: &&PathBuf| fs::read(file).unwrap().windows(text.len()).any(|window| window == text);
    let table = files(path).into_keys().filter(|file| file.parent().unwrap().ends_with("tables"));
    let table = table.collect::<Vec<_>>().iter().find(holds).unwrap().clone();
    (table.parent().unwrap().parent().unwrap().to_owned(), table)
}

fn version(tree: &Path) -> PathBuf {
    let version = fs::read(tree.join("current")).unwrap()[..8].try_into().unwrap();
    tree.join(format!("v{}", u64::from_le_bytes(version)))
}

#[test]
fn what_somebody_else_is_writing_is_left_alone() {
    let dir = store();
    let engine = DiskEngine::open(dir.path(), |_| None).unwrap();
    // The half of a write that is on its way to the disk.
    let journal = dir.path().join("0.jnl");
    let (from, to) = batch_in(dir.path(), NEWEST);
    change(&journal, |bytes| {
        let torn = bytes[from..from + (to - from) / 2].to_vec();
        bytes.splice(to..to, torn);
    });
    let before = fs::metadata(&journal).unwrap().len();
    let refused = DiskEngine::open(dir.path(), |_| None).err();
    assert!(matches!(refused, Some(StoreError::Locked { .. })), "{refused:?}");
    assert_eq!(fs::metadata(&journal).unwrap().len(), before);
    drop(engine);
}

#[test]
fn what_a_crash_leaves_behind_is_mended() {
    type Crash = fn(&Path, &mut Vec<u8>);
    let rows: [Crash; 7] = [
        |_, _| {},
        // A write that was begun, once in full length with a hole in it, once cut short, once barely.
        |path, journal| {
            let (from, to) = batch_in(path, NEWEST);
            let mut torn = journal[from..to].to_vec();
            torn[30..40].fill(0);
            journal.splice(to..to, torn);
        },
        |path, journal| {
            let (from, to) = batch_in(path, NEWEST);
            journal.truncate(to);
            journal.extend_from_within(from..from + 30);
        },
        |path, journal| journal[batch_in(path, NEWEST).1] = 1,
        // Nothing, at the length that the journal has before it is full.
        |_, journal| journal.resize(1 << 20, 0),
        |path, _| fs::remove_file(path.join("lock")).unwrap(),
        |path, _| fs::write(path.join("keyspaces/1/tables/99"), b"never finished").unwrap(),
    ];
    for (number, crash) in rows.into_iter().enumerate() {
        let dir = store();
        change(&dir.path().join("0.jnl"), |journal| {
            let end = batch_of(journal, NEWEST).1;
            journal.resize(end + 4096, 0);
            crash(dir.path(), journal);
        });
        let opened = open(dir.path());
        assert_eq!(opened.unwrap(), (2..=NEWEST).collect::<Vec<_>>(), "row {number}");
        // And again, with what the first start left.
        assert_eq!(open(dir.path()).unwrap().len(), 10, "row {number}");
    }
}

#[test]
fn a_store_that_was_hardly_begun_is_begun_anew() {
    let dir = tempfile::tempdir().unwrap();
    drop(DiskEngine::open(dir.path(), |_| None).unwrap());
    fs::remove_dir_all(dir.path().join("keyspaces")).unwrap();
    fs::create_dir(dir.path().join("keyspaces")).unwrap();
    fs::remove_file(dir.path().join("version")).unwrap();
    File::create(dir.path().join("0.jnl")).unwrap().set_len(1 << 20).unwrap();
    assert_eq!(open(dir.path()).unwrap(), []);
}

#[test]
fn damage_is_named_and_nothing_is_changed() {
    type Damage = fn(&Path);
    let rows: [(&str, Damage); 22] = [
        ("its journal 0.jnl was changed between byte", |path| {
            let (from, to) = batch_in(path, 9);
            flip(&path.join("0.jnl"), to - 20);
            assert!(from < to - 20);
        }),
        ("its journal 0.jnl was changed between byte", |path| flip(&path.join("0.jnl"), batch_in(path, 9).0)),
        ("its journal 0.jnl was changed between byte", |path| flip(&path.join("0.jnl"), batch_in(path, 9).0 + 1)),
        ("its journal 0.jnl was changed between byte", |path| flip(&path.join("0.jnl"), batch_in(path, 9).1 - 1)),
        ("its journal 0.jnl was changed between byte", |path| {
            let (from, to) = batch_in(path, 9);
            change(&path.join("0.jnl"), |journal| journal[from..to].fill(0));
        }),
        ("revision 10, but revision 11 was acknowledged", |path| {
            flip(&path.join("0.jnl"), batch_in(path, NEWEST).1 - 1);
        }),
        ("its journal 0.jnl was cut short or changed at byte", |path| {
            let end = batch_in(path, NEWEST).1;
            change(&path.join("0.jnl"), |journal| journal.truncate(end - 1));
        }),
        ("revision 8, but revision 11 was acknowledged", |path| {
            let end = batch_in(path, 9).1;
            change(&path.join("0.jnl"), |journal| journal.truncate(end - 1));
        }),
        ("its journal 0.jnl was changed at byte", |path| {
            let end = batch_in(path, 9).1;
            fs::copy(path.join("0.jnl"), path.join("1.jnl")).unwrap();
            change(&path.join("0.jnl"), |journal| journal.truncate(end - 1));
        }),
        ("its journal 1.jnl is missing", |path| {
            fs::copy(path.join("0.jnl"), path.join("2.jnl")).unwrap();
        }),
        ("was changed", |path| flip(&table(path).1, 0)),
        ("was changed", |path| change(&table(path).1, |table| *table.last_mut().unwrap() ^= 1)),
        ("was changed", |path| change(&table(path).1, |table| table.truncate(table.len() / 2))),
        ("is missing", |path| fs::remove_file(table(path).1).unwrap()),
        ("current is missing", |path| fs::remove_file(table(path).0.join("current")).unwrap()),
        ("current was changed", |path| change(&table(path).0.join("current"), |current| current.truncate(7))),
        ("is missing", |path| fs::remove_file(version(&table(path).0)).unwrap()),
        ("was changed", |path| flip(&version(&table(path).0), 3)),
        ("its file keyspaces/0/current is missing", |path| fs::remove_dir_all(path.join("keyspaces/0")).unwrap()),
        ("its folder keyspaces is missing", |path| fs::remove_dir_all(path.join("keyspaces")).unwrap()),
        ("its file `version` is missing", |path| fs::remove_file(path.join("version")).unwrap()),
        ("its file `version` is not one of this program's", |path| fs::write(path.join("version"), "FJL\x04").unwrap()),
    ];
    for (number, (expected, damage)) in rows.into_iter().enumerate() {
        let dir = store();
        damage(dir.path());
        let before = files(dir.path());
        let error = open(dir.path()).expect_err(&format!("row {number}: {expected}"));
        let said = error.to_string();
        assert!(matches!(error, StoreError::Damaged { .. }), "row {number}: {said}");
        assert!(said.contains(expected) && said.contains("`knarr restore`"), "row {number}: {said}");
        assert_eq!(files(dir.path()), before, "row {number}: {said}");
    }
}

/// Without any journal the engine begins one; what was acknowledged is missed all the same.
#[test]
fn a_journal_that_is_gone_is_missed() {
    let dir = store();
    fs::remove_file(dir.path().join("0.jnl")).unwrap();
    let said = open(dir.path()).unwrap_err().to_string();
    assert!(said.contains("it ends at revision 6, but revision 11 was acknowledged"), "{said}");
}

#[test]
fn journals_are_read_as_the_engine_writes_them() {
    let dir = tempfile::tempdir().unwrap();
    let engine = DiskEngine::open(dir.path(), |_| None).unwrap();
    for revision in 2..=100 {
        let batch = Batch {
            puts: (0..revision % 4).map(|op| (RowId { revision, op: op as u32 }, vec![b'x'; 5000])).collect(),
            removes: (1..revision % 3).map(RowId::first_of).collect(),
            meta: vec![(b"compacted".to_vec(), Some(vec![1; 8])), (b"lease".to_vec(), None)],
        };
        engine.commit(batch).unwrap();
    }
    drop(engine);
    let journal = Journal::read(&dir.path().join("0.jnl")).unwrap();
    assert_eq!((journal.newest, journal.rest), (Some(99), Rest::Nothing));
    assert!(journal.whole_bytes > 700_000);
}

proptest! {
    #[test]
    fn any_bytes_are_a_journal_or_the_rest_of_one(bytes: Vec<u8>) {
        let file = tempfile::NamedTempFile::new().unwrap();
        // As they are, and as an item of a batch.
        let items = 3_u32.to_le_bytes();
        for bytes in [bytes.clone(), [&[1][..], &items, &[0; 8], &[2, 0, 0], &[0; 8], &bytes].concat()] {
            fs::write(file.path(), &bytes).unwrap();
            let journal = Journal::read(file.path()).unwrap();
            prop_assert!(journal.whole_bytes <= bytes.len() as u64);
        }
    }
}
