//! One metadata watch for each resource that the server serves, started and stopped as resources come and go.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, PoisonError},
    time::Duration,
};

use knarr_client::{
    Informer, errors,
    informer::{Object, Scope},
    lean::Pod,
    meta,
};
use tokio_util::sync::CancellationToken;

use super::{Collector, graph::Seen};
use crate::common::{
    discovery::{self, Served},
    trace::Trace,
};

/// Nobody owns by these, and they change all the time.
const IGNORED: [(&str, &str); 3] = [("", "events"), ("events.k8s.io", "events"), ("coordination.k8s.io", "leases")];

/// How long the first picture of a resource is waited for. One that is gone by now has none, and the next list of
/// resources tells.
const PATIENCE: Duration = Duration::from_secs(5);

#[derive(Default)]
pub struct Monitors {
    running: HashMap<Served, (Source, CancellationToken)>,
}

enum Source {
    /// A watch of the collector's own.
    Traces(Informer<Trace>),
    /// Everybody here watches pods already, and there are more of them than of anything else.
    Pods(Informer<Pod>),
}

impl Source {
    async fn synced(&self) -> bool {
        match self {
            Source::Traces(informer) => informer.synced().await,
            Source::Pods(informer) => informer.synced().await,
        }
    }
}

impl Monitors {
    /// Follows the server's list of resources; true when all watches have their first picture.
    pub async fn refresh(&mut self, collector: &Arc<Collector>) -> bool {
        let all = match discovery::all(&collector.context.client).await {
            Ok(all) => all,
            Err(error) => {
                tracing::debug!(error = errors::message(&error), "no list of resources yet");
                return false;
            }
        };
        let watched = |served: &&Served| {
            let ignored = IGNORED.contains(&(served.group.as_str(), served.plural.as_str()));
            !ignored && ["list", "watch", "delete"].iter().all(|verb| served.can(verb))
        };
        let wanted: HashSet<Served> = all.iter().filter(watched).cloned().collect();
        {
            let by_kind = all.into_iter().map(|served| ((api_version(&served), served.kind.clone()), Arc::new(served)));
            *collector.served.write().unwrap_or_else(PoisonError::into_inner) = by_kind.collect();
        }
        self.running.retain(|served, (_, cancel)| {
            let stays = wanted.contains(served);
            if !stays {
                cancel.cancel();
                let gone = collector.graph().drop_resource(served);
                collector.enqueue(gone);
            }
            stays
        });
        for served in wanted {
            if !self.running.contains_key(&served) {
                self.running.insert(served.clone(), start(collector, served));
            }
        }
        let mut all_synced = true;
        for (source, _) in self.running.values() {
            all_synced &= tokio::time::timeout(PATIENCE, source.synced()).await.unwrap_or(false);
        }
        all_synced
    }
}

fn start(collector: &Arc<Collector>, served: Served) -> (Source, CancellationToken) {
    let cancel = collector.context.cancel.child_token();
    let informers = &collector.context.informers;
    let source = if (served.group.as_str(), served.plural.as_str()) == ("", "pods") {
        let informer = informers.of::<Pod>();
        follow(&informer, collector, served, &cancel);
        Source::Pods(informer)
    } else {
        let informer = informers.private::<Trace>(served.path(""), Scope::metadata(), cancel.clone());
        follow(&informer, collector, served, &cancel);
        Source::Traces(informer)
    };
    (source, cancel)
}

fn follow<K: Object>(informer: &Informer<K>, collector: &Arc<Collector>, served: Served, cancel: &CancellationToken) {
    let (watcher, resource) = (Arc::downgrade(collector), Arc::new(served));
    informer.on_change_until(cancel, move |change| {
        let Some(collector) = watcher.upgrade() else { return };
        let object = change.latest();
        let works = if change.is_deletion() {
            collector.graph().removed(meta::uid(object.meta()))
        } else {
            collector.graph().seen(Seen { resource: resource.clone(), object: object.clone() })
        };
        collector.enqueue(works);
    });
}

pub fn api_version(served: &Served) -> String {
    if served.group.is_empty() { served.version.clone() } else { format!("{}/{}", served.group, served.version) }
}
