//! The single writer: takes all that waits, makes it durable with one sync, then tells everyone.

use std::{
    sync::{Arc, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use tokio::{
    sync::mpsc,
    time::{Instant, sleep_until},
};

use super::{
    Shared,
    group::{Answer, Group, Outcome},
    lease::{self, Leases},
    request::Request,
};
use crate::{
    Event, LeaseId, Revision, StoreError, TxnReply,
    embedded::index::Version,
    engine::{Batch, Engine, RowId},
};

/// Bounds of one group; what does not fit waits for the next.
const GROUP_REQUESTS: usize = 1024;
const GROUP_BYTES: usize = 8 << 20;
/// Rows removed beside one group, so that a large compaction never holds up writes for long.
const GARBAGE_PER_GROUP: usize = 2000;
/// A lease that ended is tried again after this long where the disk refused its deletions.
const AGAIN: Duration = Duration::from_secs(1);

/// What to say once the group is durable.
enum Reply {
    Txn(Outcome, Answer<TxnReply>),
    Done(Answer<()>),
    Granted(LeaseId, Answer<LeaseId>),
}

pub struct Writer<E> {
    pub shared: Arc<Shared<E>>,
    pub leases: Leases,
    pub requests: mpsc::Receiver<Request>,
    /// Rows whose removal failed with the group it was in.
    pub unremoved: Vec<RowId>,
    /// The disk refused what came last. Said once, for a full disk refuses every request that comes.
    pub refused: bool,
    /// No lease is looked at before.
    pub leases_from: Option<Instant>,
}

/// However the writer ends, a panic included, whoever watches hears that nothing more will come.
struct EndOfWatches<E>(Arc<Shared<E>>);

impl<E> Drop for EndOfWatches<E> {
    fn drop(&mut self) {
        self.0.hub.close();
    }
}

/// What a group becomes once it no longer borrows the index.
struct Prepared {
    revision: Revision,
    batch: Batch,
    versions: Vec<(Bytes, Version)>,
    events: Vec<Event>,
    replies: Vec<Reply>,
    granted: Vec<(LeaseId, u64)>,
    revoked: Vec<LeaseId>,
    compact: Option<Revision>,
}

impl<E: Engine> Writer<E> {
    pub async fn run(mut self) {
        let _end = EndOfWatches(self.shared.clone());
        let mut garbage_left = true;
        loop {
            let waiting = self.next_requests(garbage_left).await;
            let Some(waiting) = waiting else { return };
            let waiting = self.admit(waiting);
            let mut prepared = self.prepare(waiting);
            let more = self.add_garbage(&mut prepared);
            // After a failure the next request tries again, so that a full disk does not keep a core busy.
            garbage_left = self.commit(prepared).await && more;
        }
    }

    /// Waits for work: requests, a lease that ends, or garbage that is left over. `None` when all handles are gone.
    async fn next_requests(&mut self, garbage_left: bool) -> Option<Vec<Request>> {
        let mut waiting = Vec::new();
        let deadline = self.leases.next_deadline().map(|end| self.leases_from.map_or(end, |from| end.max(from)));
        let first = async {
            match deadline {
                _ if garbage_left => tokio::task::yield_now().await,
                Some(deadline) => sleep_until(deadline).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            received = self.requests.recv() => waiting.push(received?),
            () = first => {}
        }
        // Whoever is about to ask for something may come along: each group costs a wait for the disk.
        tokio::task::yield_now().await;
        let mut bytes: usize = waiting.iter().map(Request::size_bytes).sum();
        while waiting.len() < GROUP_REQUESTS && bytes < GROUP_BYTES {
            let Ok(request) = self.requests.try_recv() else { break };
            bytes += request.size_bytes();
            waiting.push(request);
        }
        Some(waiting)
    }

    /// Refuses what would fill the disk, and leaves what makes room.
    fn admit(&mut self, waiting: Vec<Request>) -> Vec<Request> {
        let mut growing = waiting.iter().filter(|request| request.grows()).map(Request::size_bytes).peekable();
        if growing.peek().is_none() {
            return waiting;
        }
        let bytes: usize = growing.sum();
        let Err(error) = self.shared.engine.check_room(bytes as u64) else { return waiting };
        self.say_refused(&error);
        let (refused, admitted): (Vec<_>, Vec<_>) = waiting.into_iter().partition(Request::grows);
        refused.into_iter().for_each(|request| request.refuse(&error));
        admitted
    }

    fn say_refused(&mut self, error: &StoreError) {
        if !std::mem::replace(&mut self.refused, true) {
            let cause = std::error::Error::source(error).map(ToString::to_string);
            tracing::error!(%error, cause, "the store refuses writes");
        }
    }

    fn prepare(&mut self, waiting: Vec<Request>) -> Prepared {
        let index = self.shared.index.read().unwrap_or_else(PoisonError::into_inner);
        let mut group = Group::new(&index);
        let (mut replies, mut granted, mut revoked, mut compact) = (Vec::new(), Vec::new(), Vec::new(), None);
        for request in waiting {
            match request {
                Request::Txn(txn, answer) => {
                    let exists = |lease| self.leases.contains(lease) && !revoked.contains(&lease);
                    match group.apply(txn, exists) {
                        Ok(outcome) => replies.push(Reply::Txn(outcome, answer)),
                        Err(error) => {
                            let _ = answer.send(Err(error));
                        }
                    }
                }
                Request::Compact(revision, answer) if revision > group.revision => {
                    let newest = group.revision;
                    let _ = answer.send(Err(StoreError::FutureRevision { requested: revision, newest }));
                }
                Request::Compact(revision, answer) => {
                    compact = compact.max(Some(revision));
                    replies.push(Reply::Done(answer));
                }
                Request::Grant { ttl_seconds, answer } => {
                    let id = self.leases.next_id();
                    group.batch.meta.push(lease::meta_entry(id, Some(ttl_seconds)));
                    granted.push((id, ttl_seconds));
                    replies.push(Reply::Granted(id, answer));
                }
                Request::Revoke(id, answer) => {
                    revoked.push(id);
                    group.end_lease(id, self.leases.keys(id));
                    replies.push(Reply::Done(answer));
                }
            }
        }
        let now = Instant::now();
        let may_end = self.leases_from.is_none_or(|from| from <= now);
        for id in self.leases.expired(now).into_iter().filter(|_| may_end) {
            revoked.push(id);
            group.end_lease(id, self.leases.keys(id));
        }
        group.batch.meta.extend(revoked.iter().map(|id| lease::meta_entry(*id, None)));
        let compact = compact.filter(|revision| *revision > index.compacted);
        let Group { revision, batch, versions, events, .. } = group;
        Prepared { revision, batch, versions, events, replies, granted, revoked, compact }
    }

    /// Adds rows to remove; true where more are left.
    fn add_garbage(&mut self, prepared: &mut Prepared) -> bool {
        let mut index = self.shared.index.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(revision) = prepared.compact {
            index.compacted = revision;
        }
        prepared.batch.removes = std::mem::take(&mut self.unremoved);
        prepared.batch.removes.extend(index.collect_garbage(GARBAGE_PER_GROUP));
        // With every removal: the group that first had it may have failed, and rows are not to go without a word of it.
        if prepared.compact.is_some() || !prepared.batch.removes.is_empty() {
            prepared.batch.meta.push((super::COMPACTED.to_vec(), Some(index.compacted.0.to_be_bytes().to_vec())));
        }
        prepared.batch.removes.len() >= GARBAGE_PER_GROUP
    }

    /// Makes the group durable and then visible; false where the disk refused it.
    async fn commit(&mut self, prepared: Prepared) -> bool {
        let Prepared { revision, batch, versions, events, replies, granted, revoked, compact: _ } = prepared;
        if !batch.is_empty() {
            let engine = self.shared.engine.clone();
            let removes = batch.removes.clone();
            let committed = if engine.blocks() {
                tokio::task::spawn_blocking(move || engine.commit(batch)).await.unwrap_or(Err(StoreError::Closed))
            } else {
                engine.commit(batch)
            };
            if let Err(error) = committed {
                self.unremoved = removes;
                self.leases_from = Some(Instant::now() + AGAIN);
                self.say_refused(&error);
                fail_all(replies, &error);
                return false;
            }
            self.leases_from = None;
            let grew = !granted.is_empty() || versions.iter().any(|(_, version)| version.live);
            if grew && std::mem::take(&mut self.refused) {
                tracing::warn!("the store takes writes again");
            }
        }
        for (id, ttl_seconds) in granted {
            self.leases.insert(id, ttl_seconds, Instant::now());
        }
        if !versions.is_empty() {
            let mut index = self.shared.index.write().unwrap_or_else(PoisonError::into_inner);
            for (key, version) in versions {
                self.leases.hold(&key, version.lease);
                index.insert(key, version);
            }
        }
        for id in revoked {
            self.leases.remove(id);
        }
        if !events.is_empty() {
            self.shared.hub.publish(revision, &events);
        }
        for reply in replies {
            self.answer(reply, revision);
        }
        true
    }

    /// Nobody may be waiting any more; that is theirs to decide.
    fn answer(&self, reply: Reply, newest: Revision) {
        match reply {
            Reply::Txn(Outcome::Committed(revision), answer) => {
                let _ = answer.send(Ok(TxnReply::Committed { revision }));
            }
            Reply::Txn(Outcome::Conflict(current), answer) => {
                let read = |(_, version): (Bytes, Option<Version>)| match version {
                    Some(version) => self.shared.read(version),
                    None => Ok(None),
                };
                let current: Result<Vec<_>, _> = current.into_iter().map(read).collect();
                let _ = answer.send(current.map(|current| TxnReply::Conflict { revision: newest, current }));
            }
            Reply::Done(answer) => {
                let _ = answer.send(Ok(()));
            }
            Reply::Granted(id, answer) => {
                let _ = answer.send(Ok(id));
            }
        }
    }
}

fn fail_all(replies: Vec<Reply>, error: &StoreError) {
    for reply in replies {
        match reply {
            Reply::Txn(_, answer) => drop(answer.send(Err(error.clone()))),
            Reply::Done(answer) => drop(answer.send(Err(error.clone()))),
            Reply::Granted(_, answer) => drop(answer.send(Err(error.clone()))),
        }
    }
}
