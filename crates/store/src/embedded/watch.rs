//! A watch: first the history that the log still has, then what is published live, without a seam between.

use std::sync::Arc;

use futures::stream;

use super::{Shared, hub::Live, row::Row};
use crate::{
    Event, Revision, StoreError, WatchBatch, WatchRequest, WatchStream,
    embedded::hub::WATCHER_BOUND,
    engine::{Engine, RowId},
};

/// How many events of history are read at a time.
const HISTORY_EVENTS: usize = 512;

/// How far a watch has come.
enum Stage {
    /// Reads the log after `seen`, up to where the live stream begins.
    History {
        seen: Revision,
    },
    Live,
    Ended,
}

struct Watch<E> {
    shared: Arc<Shared<E>>,
    request: WatchRequest,
    live: Live,
    stage: Stage,
}

pub fn open<E: Engine>(shared: Arc<Shared<E>>, request: WatchRequest) -> Result<WatchStream, StoreError> {
    let live = shared.hub.register(request.prefix.clone());
    let seen = request.from.unwrap_or(live.registered_at);
    if seen > live.registered_at {
        return Err(StoreError::FutureRevision { requested: seen, newest: live.registered_at });
    }
    check_compacted(&shared, seen)?;
    let watch = Watch { shared, request, live, stage: Stage::History { seen } };
    Ok(Box::pin(stream::unfold(watch, |mut watch| async move { watch.next().await.map(|item| (item, watch)) })))
}

fn check_compacted<E: Engine>(shared: &Shared<E>, seen: Revision) -> Result<(), StoreError> {
    let compacted = shared.index().compacted;
    if seen < compacted { Err(StoreError::Compacted { requested: seen, compacted }) } else { Ok(()) }
}

impl<E: Engine> Watch<E> {
    async fn next(&mut self) -> Option<Result<WatchBatch, StoreError>> {
        match self.stage {
            Stage::History { seen } => {
                let batch = self.history(seen);
                match &batch {
                    Ok(batch) if batch.revision >= self.live.registered_at => self.stage = Stage::Live,
                    Ok(batch) => self.stage = Stage::History { seen: batch.revision },
                    Err(_) => self.stage = Stage::Ended,
                }
                Some(batch)
            }
            Stage::Live => match self.live.batches.recv().await {
                Some(batch) => Some(Ok(batch)),
                None => {
                    self.stage = Stage::Ended;
                    let slow = self.live.was_cut_off();
                    Some(Err(if slow { StoreError::SlowWatcher { bound: WATCHER_BOUND } } else { StoreError::Closed }))
                }
            },
            Stage::Ended => None,
        }
    }

    /// The next piece of history; whole revisions only.
    fn history(&self, seen: Revision) -> Result<WatchBatch, StoreError> {
        let until = self.live.registered_at;
        let (mut events, mut reached, mut damaged) = (Vec::<Event>::new(), until, None);
        self.shared.engine.scan(RowId::first_of(seen.0 + 1), &mut |id, bytes| {
            if id.revision > until.0 {
                return false;
            }
            if events.len() >= HISTORY_EVENTS && events.last().is_some_and(|last| last.kv.mod_revision.0 < id.revision)
            {
                reached = Revision(id.revision - 1);
                return false;
            }
            match Row::decode(id, bytes.to_vec().into()) {
                Ok(row) if row.key.starts_with(&self.request.prefix) => {
                    events.push(row.into_event(Revision(id.revision)));
                }
                Ok(_) => {}
                Err(error) => damaged = Some(error),
            }
            damaged.is_none()
        })?;
        // A compaction that ran meanwhile may have taken rows from under the scan.
        check_compacted(&self.shared, seen)?;
        match damaged {
            Some(error) => Err(error),
            None => Ok(WatchBatch { revision: reached, events }),
        }
    }
}
