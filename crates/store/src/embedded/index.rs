//! Which rows hold which versions of which key. The only structure that reads look through; it is rebuilt
//! from the log at start.

use std::{
    collections::{BTreeMap, VecDeque},
    ops::Bound,
};

use bytes::Bytes;

use crate::{LeaseId, RangeRequest, Revision, engine::RowId};

/// One version of a key: where its row is, and whether that row is a deletion.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Version {
    pub row: RowId,
    pub create_revision: Revision,
    pub lease: Option<LeaseId>,
    pub live: bool,
}

impl Version {
    pub fn revision(&self) -> Revision {
        Revision(self.row.revision)
    }
}

/// A row that nobody needs any more once history up to `since` is forgotten.
#[derive(Clone, Debug)]
struct Garbage {
    since: Revision,
    row: RowId,
    key: Bytes,
}

#[derive(Debug, Default)]
pub struct Index {
    /// Versions of each key, oldest first; almost always one.
    keys: BTreeMap<Bytes, Vec<Version>>,
    /// Ordered by `since`, because versions are inserted in commit order.
    garbage: VecDeque<Garbage>,
    pub revision: Revision,
    pub compacted: Revision,
}

impl Index {
    pub fn new(revision: Revision, compacted: Revision) -> Self {
        Self { revision, compacted, ..Self::default() }
    }

    /// The newest version of a key, if the key exists.
    pub fn head(&self, key: &[u8]) -> Option<Version> {
        self.keys.get(key).and_then(|versions| versions.last()).filter(|version| version.live).copied()
    }

    /// Records a committed row. Rows come in commit order.
    pub fn insert(&mut self, key: Bytes, version: Version) {
        let since = version.revision();
        let versions = self.keys.entry(key.clone()).or_insert_with(|| Vec::with_capacity(1));
        if let Some(previous) = versions.last().filter(|previous| previous.live) {
            self.garbage.push_back(Garbage { since, row: previous.row, key: key.clone() });
        }
        if !version.live {
            self.garbage.push_back(Garbage { since, row: version.row, key });
        }
        versions.push(version);
        self.revision = self.revision.max(since);
    }

    /// The keys in the range that exist as of `revision`, as many as its limit allows, and how many more there are: where
    /// they are not to be counted, 1 at most.
    pub fn range(&self, range: &RangeRequest, revision: Revision) -> (Vec<(Bytes, Version)>, usize) {
        let RangeRequest { start, end, limit, count, revision: _ } = range;
        let mut found = Vec::new();
        let mut remaining = 0;
        if start >= end {
            return (found, remaining);
        }
        for (key, versions) in self.keys.range::<Bytes, _>((Bound::Included(start), Bound::Excluded(end))) {
            let version = versions.iter().rev().find(|version| version.revision() <= revision);
            let Some(version) = version.filter(|version| version.live) else { continue };
            if *limit != 0 && found.len() == *limit {
                remaining += 1;
                if !count {
                    break;
                }
            } else {
                found.push((key.clone(), *version));
            }
        }
        (found, remaining)
    }

    /// Takes out up to `limit` rows that a compaction to `self.compacted` made useless.
    pub fn collect_garbage(&mut self, limit: usize) -> Vec<RowId> {
        let mut rows = Vec::new();
        while rows.len() < limit && self.garbage.front().is_some_and(|garbage| garbage.since <= self.compacted) {
            let Some(Garbage { row, key, .. }) = self.garbage.pop_front() else { break };
            if let Some(versions) = self.keys.get_mut(&key) {
                versions.retain(|version| version.row != row);
                versions.shrink_to_fit();
                if versions.is_empty() {
                    self.keys.remove(&key);
                }
            }
            rows.push(row);
        }
        rows
    }

    /// Every existing key with its lease, for rebuilding what leases hold.
    pub fn leased(&self) -> impl Iterator<Item = (&Bytes, LeaseId)> {
        self.keys.iter().filter_map(|(key, versions)| {
            let version = versions.last().filter(|version| version.live)?;
            Some((key, version.lease?))
        })
    }
}
