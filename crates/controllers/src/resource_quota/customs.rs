//! How many there are of custom resources that a quota counts. They are watched from when a quota first names them, for
//! as long as they are served.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use knarr_client::{Informer, informer::Scope};
use tokio_util::sync::CancellationToken;

use super::{Controller, follow};
use crate::{
    Error,
    common::{
        discovery::{self, Served},
        trace::Trace,
    },
};

/// How long the first picture is waited for; the resource may be gone by now.
const PATIENCE: Duration = Duration::from_secs(5);

#[derive(Default)]
pub struct Customs {
    watched: Mutex<HashMap<Served, (Informer<Trace>, CancellationToken)>>,
    /// What is served, as of when it was last asked: each object that comes or goes is a reason to count, and none to
    /// ask again.
    served: tokio::sync::Mutex<Arc<[Served]>>,
    /// Definitions have not changed since then.
    is_known: AtomicBool,
}

impl Customs {
    /// What is served is asked for again before the next count.
    pub(super) fn forget(&self) {
        self.is_known.store(false, Ordering::Release);
    }

    /// Ends the watches of what is no longer served.
    fn keep(&self, served: &[Served]) {
        let mut watched = self.watched.lock().unwrap_or_else(PoisonError::into_inner);
        watched.retain(|known, (_, cancel)| {
            let stays = served.contains(known);
            if !stays {
                cancel.cancel();
            }
            stays
        });
    }
}

impl Controller {
    /// The number in a namespace of each of the named resources that is served; `None` where one is not known yet.
    pub(super) async fn count_customs(
        self: &Arc<Self>,
        names: &[&str],
        namespace: &str,
    ) -> Result<Option<Vec<(String, usize)>>, Error> {
        if names.is_empty() {
            return Ok(Some(Vec::new()));
        }
        let mut counts = Vec::new();
        for served in self.served().await?.iter() {
            let name = format!("{}.{}", served.plural, served.group);
            if !served.namespaced || !served.can("watch") || !names.contains(&name.as_str()) {
                continue;
            }
            let informer = self.custom(served);
            if !tokio::time::timeout(PATIENCE, informer.synced()).await.unwrap_or(false) {
                self.customs.forget();
                return Ok(None);
            }
            counts.push((name, informer.in_namespace(namespace).len()));
        }
        Ok(Some(counts))
    }

    async fn served(&self) -> Result<Arc<[Served]>, Error> {
        let mut served = self.customs.served.lock().await;
        // Noted before it is asked: a definition that changes meanwhile makes it unknown again.
        if !self.customs.is_known.swap(true, Ordering::AcqRel) {
            let asked = discovery::all(&self.context.client).await.inspect_err(|_| self.customs.forget());
            *served = asked.map_err(Error::api("asking what is served"))?.into();
            self.customs.keep(&served);
        }
        Ok(served.clone())
    }

    fn custom(self: &Arc<Self>, served: &Served) -> Informer<Trace> {
        let mut watched = self.customs.watched.lock().unwrap_or_else(PoisonError::into_inner);
        let start = || {
            let cancel = self.queue.cancellation().child_token();
            let scope = Scope::metadata();
            let informer = self.context.informers.private::<Trace>(served.path(""), scope, cancel.clone());
            follow(self, &informer, |change| change.is_addition() || change.is_deletion());
            (informer, cancel)
        };
        watched.entry(served.clone()).or_insert_with(start).0.clone()
    }
}
