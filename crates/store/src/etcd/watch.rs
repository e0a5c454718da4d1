//! A watch over etcd that outlives its connections.
//!
//! One task reads etcd's answers and hands them on, whole revisions only. History waits for the reader; what happens
//! now does not, and a reader that falls behind the bound is cut off, as in the embedded store. A connection that
//! breaks is opened again behind the last revision that was handed on, so that nothing is missing and nothing twice.
//!
//! etcd counts what others write, too: a revision that somebody was told may have no event below this watch's prefix,
//! and whoever waits for it would wait for ever. Then a key that stands for nothing, the **fence**, is written below
//! the prefix, and its event says that all before it has been seen. (etcd has a request for that since 3.4, but in
//! several of its releases the answer overtakes events.)

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use futures::stream;
use knarr_grpc::client::{Answers, Failure};
use tokio::{
    sync::mpsc,
    time::{Instant, sleep, sleep_until},
};

use super::{
    Shared,
    client::Repeat,
    keys::{end_of, fence_of, is_fence},
    messages as pb, revision_of, signed,
    status::EtcdFailure,
    unsigned,
};
use crate::{Event, EventKind, KeyValue, Revision, StoreError, WatchBatch, WatchRequest, WatchStream};

/// How many batches a watcher may leave unread.
const WATCHER_BOUND: usize = 4096;
/// A revision that was told is given so long to come by itself.
const FENCE_AFTER: Duration = Duration::from_millis(50);
/// A fence may be lost with its connection.
const FENCE_AGAIN: Duration = Duration::from_secs(1);
const RECONNECT_FIRST: Duration = Duration::from_millis(100);
const RECONNECT_MOST: Duration = Duration::from_secs(2);

type Out = mpsc::Sender<Result<WatchBatch, StoreError>>;

/// Why the reading of one connection ended.
enum Ended {
    /// Nobody reads any more, or has been told the last there is.
    Over,
    Broken(String),
}

struct Pump {
    shared: Arc<Shared>,
    prefix: Bytes,
    /// All up to here was handed on.
    seen: Revision,
    /// Up to here it is history.
    registered_at: Revision,
    /// Events whose revision may go on in the next answer.
    held: Vec<Event>,
    out: Out,
    slow: Arc<AtomicBool>,
    fence_due: Option<Instant>,
}

pub async fn open(shared: Arc<Shared>, request: WatchRequest) -> Result<WatchStream, StoreError> {
    let prefix = shared.keys.place(&request.prefix)?;
    let seen = match request.from {
        Some(from) => from,
        None => shared.revision().await?,
    };
    let (answers, registered_at) = begin(&shared, &prefix, seen).await?;
    if seen > registered_at {
        // The member that answers may be behind the others.
        let newest = shared.revision().await?;
        if seen > newest {
            return Err(StoreError::FutureRevision { requested: seen, newest });
        }
    }
    shared.check_history(seen).await?;
    let (out, batches) = mpsc::channel(WATCHER_BOUND);
    let slow = Arc::new(AtomicBool::new(false));
    let held = Vec::new();
    let pump = Pump { shared, prefix, seen, registered_at, held, out, slow: slow.clone(), fence_due: None };
    tokio::spawn(pump.run(answers));
    Ok(Box::pin(stream::unfold(Some((batches, slow)), |state| async move {
        let (mut batches, slow) = state?;
        match batches.recv().await {
            Some(Ok(batch)) => Some((Ok(batch), Some((batches, slow)))),
            Some(Err(error)) => Some((Err(error), None)),
            None if slow.load(Ordering::Acquire) => Some((Err(StoreError::SlowWatcher { bound: WATCHER_BOUND }), None)),
            None => Some((Err(StoreError::Closed), None)),
        }
    })))
}

/// The revision that history begins at.
pub async fn first_kept(shared: &Shared) -> Result<Revision, StoreError> {
    let (mut answers, _) = begin(shared, &shared.keys.any(), Revision(0)).await?;
    loop {
        let answer: pb::WatchResponse = answers.next().await.map_err(|failure| failure.into_error("watching etcd"))?;
        if answer.canceled && answer.compact_revision > 0 {
            return Ok(unsigned(answer.compact_revision));
        }
        if answer.canceled {
            return Err(refused(&answer).into_error("watching etcd"));
        }
    }
}

/// Opens a watch behind a revision; says also at which revision etcd took it up.
async fn begin(shared: &Shared, prefix: &Bytes, seen: Revision) -> Result<(Answers, Revision), StoreError> {
    let create = pb::WatchCreate {
        key: prefix.clone(),
        range_end: end_of(prefix),
        start_revision: signed(Revision(seen.0 + 1)),
        fragment: true,
    };
    let action = "watching etcd";
    let fail = |failure: Failure| failure.into_error(action);
    let mut answers =
        shared.client.open("Watch/Watch", &pb::WatchRequest { create: Some(create) }).await.map_err(fail)?;
    let first: pb::WatchResponse = answers.next().await.map_err(fail)?;
    if first.canceled || !first.created {
        return Err(fail(refused(&first)));
    }
    Ok((answers, revision_of(first.header)))
}

fn refused(answer: &pb::WatchResponse) -> Failure {
    Failure::Refused { code: knarr_grpc::code::UNAVAILABLE, message: answer.cancel_reason.clone() }
}

impl Pump {
    async fn run(mut self, mut answers: Answers) {
        let mut pause = RECONNECT_FIRST;
        loop {
            let before = self.seen;
            let why = match self.read(&mut answers).await {
                Ended::Over => return,
                Ended::Broken(why) => why,
            };
            tracing::debug!(why, seen = self.seen.0, "a watch of etcd broke; opening it again");
            if self.seen > before {
                pause = RECONNECT_FIRST;
            }
            self.held.clear();
            answers = loop {
                tokio::select! {
                    () = self.out.closed() => return,
                    () = sleep(pause) => {}
                }
                pause = (pause * 2).min(RECONNECT_MOST);
                match begin(&self.shared, &self.prefix, self.seen).await {
                    Ok((answers, registered_at)) => {
                        self.registered_at = registered_at;
                        break answers;
                    }
                    Err(error) => tracing::debug!(%error, "etcd cannot be watched"),
                }
            };
        }
    }

    async fn read(&mut self, answers: &mut Answers) -> Ended {
        let mut asked = self.shared.asked.subscribe();
        loop {
            let told = Revision(*asked.borrow_and_update());
            if told <= self.seen {
                self.fence_due = None;
            } else if self.fence_due.is_none() {
                self.fence_due = Some(Instant::now() + FENCE_AFTER);
            }
            let fence = async {
                match self.fence_due {
                    Some(due) => sleep_until(due).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = self.out.closed() => return Ended::Over,
                Ok(()) = asked.changed() => {}
                () = fence => {
                    self.fence_due = Some(Instant::now() + FENCE_AGAIN);
                    tokio::spawn(write_fence(self.shared.clone(), fence_of(&self.prefix)));
                }
                answer = answers.next::<pb::WatchResponse>() => match answer {
                    Ok(answer) => {
                        if let Err(ended) = self.take(answer).await {
                            return ended;
                        }
                    }
                    Err(failure) => return Ended::Broken(failure.into_error("watching etcd").to_string()),
                },
            }
        }
    }

    async fn take(&mut self, answer: pb::WatchResponse) -> Result<(), Ended> {
        if answer.canceled {
            if answer.compact_revision > 0 {
                let compacted = unsigned(answer.compact_revision);
                return Err(self.end(StoreError::Compacted { requested: self.seen, compacted }).await);
            }
            return Err(Ended::Broken(answer.cancel_reason));
        }
        let complete = !answer.fragment;
        let events = answer.events.into_iter().filter_map(|event| self.event(event));
        let events: Vec<Event> = events.collect();
        self.held.extend(events);
        // The last revision of a piece may go on in the next.
        let held = self.held.last().map(|event| event.kv.mod_revision).filter(|_| !complete);
        let whole = self.held.partition_point(|event| held.is_none_or(|held| event.kv.mod_revision < held));
        let mut events: Vec<Event> = self.held.drain(..whole).collect();
        let Some(revision) = events.last().map(|event| event.kv.mod_revision) else { return Ok(()) };
        events.retain(|event| !is_fence(&event.kv.key));
        self.hand_on(WatchBatch { revision, events }).await
    }

    fn event(&self, event: pb::Event) -> Option<Event> {
        let kv = event.kv?;
        let kind = if event.kind == pb::EVENT_DELETE { EventKind::Delete } else { EventKind::Put };
        let KeyValue { key, value, create_revision, mod_revision } = self.shared.key_value(kv);
        Some(Event { kind, kv: KeyValue { key, value, create_revision, mod_revision } })
    }

    async fn hand_on(&mut self, batch: WatchBatch) -> Result<(), Ended> {
        let revision = batch.revision;
        if self.seen < self.registered_at {
            // A compaction that ran meanwhile may have taken events that nobody has read.
            if let Err(error) = self.shared.check_history(self.seen).await {
                return Err(match error {
                    StoreError::Compacted { .. } => self.end(error).await,
                    error => Ended::Broken(error.to_string()),
                });
            }
            self.out.send(Ok(batch)).await.map_err(|_| Ended::Over)?;
        } else if let Err(error) = self.out.try_send(Ok(batch)) {
            if matches!(error, mpsc::error::TrySendError::Full(_)) {
                self.slow.store(true, Ordering::Release);
            }
            return Err(Ended::Over);
        }
        self.seen = revision;
        Ok(())
    }

    async fn end(&self, error: StoreError) -> Ended {
        let _ = self.out.send(Err(error)).await;
        Ended::Over
    }
}

/// Where it fails it is tried again by the watch that waits for it.
async fn write_fence(shared: Arc<Shared>, key: Bytes) {
    let put = pb::PutRequest { key, value: Bytes::new(), lease: 0 };
    if let Err(failure) = shared.client.call::<pb::Done>("KV/Put", &put, Repeat::Harmless).await {
        tracing::debug!(?failure, "a fence could not be written");
    }
}
