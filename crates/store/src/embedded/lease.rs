//! Leases: which keys end when. A restart gives every lease its full time again, as etcd does.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    time::Duration,
};

use bytes::Bytes;
use tokio::time::Instant;

use crate::{LeaseId, engine::Fact};

const META_PREFIX: &[u8] = b"lease/";

#[derive(Debug)]
struct Lease {
    deadline: Instant,
    keys: BTreeSet<Bytes>,
}

#[derive(Debug, Default)]
pub struct Leases {
    by_id: BTreeMap<LeaseId, Lease>,
    /// Where a key is held by a lease, by which.
    holder: HashMap<Bytes, LeaseId>,
    next: u64,
}

impl Leases {
    /// Rebuilds the leases from the facts that [`meta_entry`] wrote.
    pub fn load(meta: &[Fact], now: Instant) -> Self {
        let mut leases = Self { next: 1, ..Self::default() };
        for (name, value) in meta {
            let id = name.strip_prefix(META_PREFIX).and_then(|id| id.try_into().ok()).map(u64::from_be_bytes);
            let ttl = value.as_slice().try_into().ok().map(u64::from_be_bytes);
            if let (Some(id), Some(ttl)) = (id, ttl) {
                leases.insert(LeaseId(id), ttl, now);
            }
        }
        leases
    }

    pub fn next_id(&mut self) -> LeaseId {
        let id = self.next;
        self.next += 1;
        LeaseId(id)
    }

    pub fn insert(&mut self, id: LeaseId, ttl_seconds: u64, now: Instant) {
        self.next = self.next.max(id.0 + 1);
        let deadline = now + Duration::from_secs(ttl_seconds);
        self.by_id.insert(id, Lease { deadline, keys: BTreeSet::new() });
    }

    pub fn remove(&mut self, id: LeaseId) {
        self.by_id.remove(&id);
    }

    pub fn contains(&self, id: LeaseId) -> bool {
        self.by_id.contains_key(&id)
    }

    /// Notes that a key was written with or without a lease, or deleted (`None`).
    pub fn hold(&mut self, key: &Bytes, lease: Option<LeaseId>) {
        if self.holder.is_empty() && lease.is_none() {
            return;
        }
        if let Some(previous) = self.holder.remove(key)
            && let Some(previous) = self.by_id.get_mut(&previous)
        {
            previous.keys.remove(key);
        }
        if let Some(id) = lease
            && let Some(lease) = self.by_id.get_mut(&id)
        {
            lease.keys.insert(key.clone());
            self.holder.insert(key.clone(), id);
        }
    }

    pub fn keys(&self, id: LeaseId) -> Vec<Bytes> {
        self.by_id.get(&id).map(|lease| lease.keys.iter().cloned().collect()).unwrap_or_default()
    }

    pub fn next_deadline(&self) -> Option<Instant> {
        self.by_id.values().map(|lease| lease.deadline).min()
    }

    pub fn expired(&self, now: Instant) -> Vec<LeaseId> {
        self.by_id.iter().filter(|(_, lease)| lease.deadline <= now).map(|(id, _)| *id).collect()
    }
}

/// How a lease is remembered across restarts: its name, and its time in seconds.
pub fn meta_entry(id: LeaseId, ttl_seconds: Option<u64>) -> (Vec<u8>, Option<Vec<u8>>) {
    let mut name = META_PREFIX.to_vec();
    name.extend(id.0.to_be_bytes());
    (name, ttl_seconds.map(|ttl| ttl.to_be_bytes().to_vec()))
}
