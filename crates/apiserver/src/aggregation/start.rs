use std::{
    collections::BTreeMap,
    sync::{Arc, Weak},
    time::Duration,
};

use arc_swap::ArcSwap;
use tokio::{sync::watch, task::JoinHandle};

use super::{
    Route, Routes, available,
    documents::{Documents, Kept},
    register,
    routes::Clients,
};
use crate::{
    builtin,
    cache::{Caches, ResourceCache, Start, Topic, Watcher},
    pki::ProxyIdentity,
    server::Inner,
};

/// How long is waited after a round that failed, and how often everything is looked at anyway.
const RETRY_AFTER: Duration = Duration::from_secs(1);
const LOOK_AGAIN: Duration = Duration::from_secs(60);

/// What the server knows of other API servers.
pub struct Aggregation {
    services: Option<Arc<ResourceCache>>,
    clients: Clients,
    routes: ArcSwap<Routes>,
    pub documents: Kept,
    is_aggregating: bool,
}

impl Aggregation {
    /// `identity` is what this server shows to others. Without it the objects are kept as they are, and what they
    /// delegate is answered with why that cannot be.
    pub fn new(caches: &Caches, identity: Option<Arc<ProxyIdentity>>) -> Self {
        Self {
            services: caches.of(builtin::api_services()),
            is_aggregating: identity.is_some(),
            clients: Clients::new(identity),
            routes: ArcSwap::default(),
            documents: Kept::default(),
        }
    }

    /// What APIServices mean now; they are read again only after one has changed.
    pub fn routes(&self) -> Arc<Routes> {
        let routes = self.routes.load_full();
        let Some(services) = &self.services else { return routes };
        // The generation is read before the list: what changes between is seen again next time.
        let generation = services.generation();
        if routes.generation == generation {
            return routes;
        }
        let (listing, _) = services.list("", None, 0, None);
        let routes = Arc::new(Routes::of(&listing.items, generation, &self.clients));
        self.routes.store(routes.clone());
        routes
    }

    pub fn documents(&self) -> Arc<Documents> {
        self.documents.now()
    }

    /// The route of an APIService that has one.
    pub fn named(&self, name: &str) -> Option<Arc<Route>> {
        self.routes().remote().find(|route| route.name == name).cloned()
    }
}

/// Keeps APIServices true until the server stops, where it was given what to show to other servers.
pub fn start(server: &Arc<Inner>) {
    if !server.aggregation.is_aggregating {
        return;
    }
    let watch = |resource| {
        let cache = server.caches.of(resource)?;
        cache.watch(Start::Now { snapshot: false }, Topic::Everything, |_| true).ok()
    };
    // There is a cache of every built-in that can be watched, and a start from now on cannot be too old.
    let watchers = [builtin::api_services(), builtin::services(), builtin::endpoint_slices()].map(watch);
    let [Some(objects), Some(services), Some(slices)] = watchers else { return };
    tokio::spawn(run(Arc::downgrade(server), [objects, services, slices]));
}

async fn run(server: Weak<Inner>, mut watchers: [Watcher; 3]) {
    let changed = watch::Sender::new(0u64);
    let mut tasks: BTreeMap<String, JoinHandle<()>> = BTreeMap::new();
    loop {
        let Some(alive) = server.upgrade() else { return };
        supervise(&alive, &mut tasks, &changed);
        changed.send_modify(|count| *count += 1);
        let mut catalogue = alive.catalogue.changes();
        let well = match register::round(&alive).await {
            Ok(()) => true,
            Err(error) => {
                tracing::warn!(error = error.message(), "APIServices could not all be kept; trying again");
                false
            }
        };
        let shutdown = alive.shutdown.clone();
        drop(alive);
        let [objects, services, slices] = &mut watchers;
        loop {
            // What changes behind a Service matters to those only that wait for one.
            let stays = tokio::select! {
                stays = objects.wait() => { objects.skip(); if stays { break } else { false } }
                stays = services.wait(), if !tasks.is_empty() => { services.skip(); stays }
                stays = slices.wait(), if !tasks.is_empty() => { slices.skip(); stays }
                _ = catalogue.changed() => break,
                () = tokio::time::sleep(if well { LOOK_AGAIN } else { RETRY_AFTER }) => break,
                () = shutdown.cancelled() => false,
            };
            if !stays {
                tasks.values().for_each(JoinHandle::abort);
                return;
            }
            changed.send_modify(|count| *count += 1);
        }
    }
}

/// One task for each APIService with a Service; what was known of others is forgotten.
fn supervise(server: &Arc<Inner>, tasks: &mut BTreeMap<String, JoinHandle<()>>, changed: &watch::Sender<u64>) {
    let routes = server.aggregation.routes();
    let wanted: BTreeMap<&str, &Arc<Route>> = routes.remote().map(|route| (&*route.name, route)).collect();
    tasks.retain(|name, task| {
        let stays = wanted.contains_key(&**name);
        if !stays {
            task.abort();
            if let Some((version, group)) = name.split_once('.') {
                server.aggregation.documents.forget(group, version);
            }
        }
        stays && !task.is_finished()
    });
    for name in wanted.keys() {
        let begin = || available::begin(server, name, changed.subscribe());
        tasks.entry((*name).to_owned()).or_insert_with(begin);
    }
}
