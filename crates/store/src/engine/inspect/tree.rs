//! A tree of the engine's (lsm-tree 3): `current` names the version that counts, `vN`; that lists the tables. Each has the
//! XXH3 of what it names beside it.
//!
//! Layout (integers little-endian): `current` is the version's number `u64`, its checksum `u128` and 0, the kind of
//! checksum. In `vN` the section `tables` has the number of levels `u8`; each has its number of runs `u8`, each run its
//! number of tables `u32`, each table its number `u64`, 0, its checksum `u128`, and a sequence number `u64`.

use std::{
    collections::BTreeSet,
    fs::{self, File},
    io::{Cursor, ErrorKind, Read},
    path::{Path, PathBuf},
};

use bytes::Buf;
use xxhash_rust::xxh3::{Xxh3Default, xxh3_128};

use super::{damaged, unreadable};
use crate::StoreError;

const CHUNK_BYTES: usize = 128 << 10;
/// The engine's own tree, which names all others. Without it the engine would take them for leftovers and remove them.
const FIRST: &str = "0";

/// The folders of all trees of a store.
pub fn all(path: &Path) -> Result<BTreeSet<PathBuf>, StoreError> {
    let folder = path.join("keyspaces");
    match names(&folder)? {
        None => Err(damaged(path, "its folder keyspaces is missing".into())),
        Some(names) => Ok(names.into_iter().chain([FIRST.to_owned()]).map(|name| folder.join(name)).collect()),
    }
}

/// True where a tree has a table.
pub fn any_table(path: &Path) -> Result<bool, StoreError> {
    let folder = path.join("keyspaces");
    for tree in names(&folder)?.unwrap_or_default() {
        if has_tables(&folder.join(tree))? {
            return Ok(true);
        }
    }
    Ok(false)
}

fn has_tables(tree: &Path) -> Result<bool, StoreError> {
    Ok(names(&tree.join("tables"))?.is_some_and(|tables| !tables.is_empty()))
}

/// What is in a folder, if it is there.
fn names(folder: &Path) -> Result<Option<Vec<String>>, StoreError> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(unreadable(folder, error)),
    };
    let name = |entry: std::io::Result<fs::DirEntry>| Ok(entry?.file_name().to_string_lossy().into_owned());
    entries.map(name).collect::<std::io::Result<_>>().map(Some).map_err(|error| unreadable(folder, error))
}

/// Reads all of a tree's files. `is_used` tells whether something was ever written to the store: a crash in its first
/// instant leaves trees without a version.
pub fn check(path: &Path, tree: &Path, is_used: bool) -> Result<(), StoreError> {
    let inside = |file: &Path| file.strip_prefix(path).unwrap_or(file).display().to_string();
    let changed = |file: &Path| damaged(path, format!("its file {} was changed", inside(file)));
    let missing = |file: &Path| damaged(path, format!("its file {} is missing", inside(file)));
    let current = tree.join("current");
    let Some(head) = content(&current)? else {
        return if is_used || has_tables(tree)? { Err(missing(&current)) } else { Ok(()) };
    };
    let mut head = head.as_slice();
    if head.len() != 25 {
        return Err(changed(&current));
    }
    let (version, expected) = (tree.join(format!("v{}", head.get_u64_le())), head.get_u128_le());
    let listed = content(&version)?.ok_or_else(|| missing(&version))?;
    if xxh3_128(&listed) != expected {
        return Err(changed(&version));
    }
    for (table, expected) in tables(&listed).ok_or_else(|| changed(&version))? {
        let table = tree.join("tables").join(table.to_string());
        match digest(&table)? {
            None => return Err(missing(&table)),
            Some(digest) if digest != expected => return Err(changed(&table)),
            Some(_) => {}
        }
    }
    Ok(())
}

fn content(file: &Path) -> Result<Option<Vec<u8>>, StoreError> {
    match fs::read(file) {
        Ok(content) => Ok(Some(content)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(unreadable(file, error)),
    }
}

fn digest(file: &Path) -> Result<Option<u128>, StoreError> {
    let fail = |error| unreadable(file, error);
    let mut content = match File::open(file) {
        Ok(content) => content,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(fail(error)),
    };
    let (mut digest, mut chunk) = (Xxh3Default::new(), vec![0; CHUNK_BYTES]);
    loop {
        match content.read(&mut chunk).map_err(fail)? {
            0 => return Ok(Some(digest.digest128())),
            read => digest.update(&chunk[..read]),
        }
    }
}

/// The tables that a version lists, each with its checksum.
fn tables(version: &[u8]) -> Option<Vec<(u64, u128)>> {
    let archive = sfa::Reader::from_reader(&mut Cursor::new(version)).ok()?;
    let section = archive.toc().section(b"tables")?;
    let begin = usize::try_from(section.pos()).ok()?;
    let mut section = version.get(begin..begin.checked_add(usize::try_from(section.len()).ok()?)?)?;
    let mut found = Vec::new();
    for _level in 0..section.try_get_u8().ok()? {
        for _run in 0..section.try_get_u8().ok()? {
            for _table in 0..section.try_get_u32_le().ok()? {
                let (number, _kind) = (section.try_get_u64_le().ok()?, section.try_get_u8().ok()?);
                found.push((number, section.try_get_u128_le().ok()?));
                section.try_get_u64_le().ok()?;
            }
        }
    }
    Some(found)
}
