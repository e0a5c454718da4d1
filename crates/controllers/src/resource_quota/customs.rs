//! How many there are of custom resources that a quota counts. They are watched from when a quota first names them, for
//! as long as they are served.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
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
pub struct Customs(Mutex<HashMap<Served, (Informer<Trace>, CancellationToken)>>);

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
        let served = discovery::all(&self.context.client).await.map_err(Error::api("asking what is served"))?;
        self.forget_customs(&served);
        let mut counts = Vec::new();
        for served in served {
            let name = format!("{}.{}", served.plural, served.group);
            if !served.namespaced || !served.can("watch") || !names.contains(&name.as_str()) {
                continue;
            }
            let informer = self.custom(&served);
            if !tokio::time::timeout(PATIENCE, informer.synced()).await.unwrap_or(false) {
                return Ok(None);
            }
            counts.push((name, informer.in_namespace(namespace).len()));
        }
        Ok(Some(counts))
    }

    /// Ends the watches of what is no longer served.
    fn forget_customs(&self, served: &[Served]) {
        let mut customs = self.customs.0.lock().unwrap_or_else(PoisonError::into_inner);
        customs.retain(|known, (_, cancel)| {
            let stays = served.contains(known);
            if !stays {
                cancel.cancel();
            }
            stays
        });
    }

    fn custom(self: &Arc<Self>, served: &Served) -> Informer<Trace> {
        let mut customs = self.customs.0.lock().unwrap_or_else(PoisonError::into_inner);
        let start = || {
            let cancel = self.queue.cancellation().child_token();
            let scope = Scope::metadata();
            let informer = self.context.informers.private::<Trace>(served.path(""), scope, cancel.clone());
            follow(self, &informer, |change| change.is_addition() || change.is_deletion());
            (informer, cancel)
        };
        customs.entry(served.clone()).or_insert_with(start).0.clone()
    }
}
