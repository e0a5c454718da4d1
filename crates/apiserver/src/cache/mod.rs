//! The watch cache: every object as it is served, in memory, fed by one watch of the store.
//!
//! All reads are served from here. A read that must not miss an acknowledged write waits until the cache has
//! come to the store's revision, which is one number for all resources ([`Caches::fresh`]).

mod by_field;
mod customs;
mod event;
mod extract;
mod feed;
mod resource;
mod ring;
pub mod splice;
#[cfg(test)]
mod tests;
mod topics;
mod watcher;

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, OnceLock, PoisonError},
    time::Duration,
};

use arc_swap::ArcSwap;
use bytes::Bytes;
use knarr_api::{
    custom::Definition,
    registry::{Resource, Verb, builtins},
    status::ApiError,
};
use knarr_store::{KeyValue, Store, StoreError};
use tokio::{
    sync::{mpsc, oneshot, watch},
    task::AbortHandle,
};

pub use event::{CachedEvent, Change, frame};
pub use extract::Extract;
pub use resource::{Expired, Listing, ResourceCache, at_revision};
pub use topics::Topic;
pub use watcher::{Start, Watcher};

use crate::contract::Stored;

/// What all keys of the API begin with, as upstream's do.
pub const PREFIX: &str = "/registry/";
/// How long a read waits for a revision that is not there yet, as upstream does.
const WAIT_FOR_REVISION: Duration = Duration::from_secs(3);

pub struct Caches {
    store: Arc<dyn Store>,
    /// Of the built-ins, by storage prefix; resources that are served in two versions share one.
    by_storage: BTreeMap<&'static str, Arc<ResourceCache>>,
    customs: ArcSwap<customs::Customs>,
    rearrange: mpsc::Sender<feed::Rearrange>,
    /// The revision up to which every cache is complete.
    applied: watch::Sender<u64>,
    /// What writers already know of bytes that are on their way through the store, so that the feed need not
    /// parse them again. A hint only: what is missing or different is parsed.
    underway: Mutex<HashMap<Bytes, Arc<Underway>>>,
    feed: Mutex<Option<AbortHandle>>,
}

impl Caches {
    /// Loads the store and follows it from then on.
    pub async fn start(store: Arc<dyn Store>) -> Result<Arc<Self>, StoreError> {
        let mut by_storage = BTreeMap::new();
        for resource in builtins().iter().filter(|resource| resource.allows(Verb::Watch)) {
            let resource = resource.stored_as();
            by_storage.entry(resource.storage).or_insert_with(|| Arc::new(ResourceCache::new(resource, None)));
        }
        // One loop asks, and waits for the answer.
        let (rearrange, asked) = mpsc::channel(1);
        let caches = Arc::new(Self {
            store: store.clone(),
            by_storage,
            customs: ArcSwap::default(),
            rearrange,
            applied: watch::Sender::new(0),
            underway: Mutex::default(),
            feed: Mutex::default(),
        });
        let stream = feed::load(&caches, &*store).await?;
        let task = tokio::spawn(feed::run(caches.clone(), store, stream, asked));
        *caches.feed.lock().unwrap_or_else(PoisonError::into_inner) = Some(task.abort_handle());
        // The load may have begun a little in the past; nobody is to see that.
        let newest = caches.store.revision().await?.0;
        let _ = caches.applied.subscribe().wait_for(|applied| *applied >= newest).await;
        Ok(caches)
    }

    /// False once nothing new will ever come from the store.
    pub fn is_fed(&self) -> bool {
        let feed = self.feed.lock().unwrap_or_else(PoisonError::into_inner);
        feed.as_ref().is_some_and(|feed| !feed.is_finished())
    }

    /// Ends the feed; reads go on serving what is there.
    pub fn stop(&self) {
        if let Some(feed) = self.feed.lock().unwrap_or_else(PoisonError::into_inner).take() {
            feed.abort();
        }
    }

    pub fn all(&self) -> Vec<Arc<ResourceCache>> {
        self.by_storage.values().chain(self.customs.load().iter()).cloned().collect()
    }

    /// The cache of a resource that is stored; `None` for those that are answered and forgotten, and for custom
    /// resources whose definition is gone.
    pub fn of(&self, resource: &'static Resource) -> Option<Arc<ResourceCache>> {
        self.by_storage.get(resource.storage).or(self.customs.load().get(resource.storage)).cloned()
    }

    /// Keeps these custom resources from now on, each by the row in whose version it is stored, and forgets all others.
    /// When this returns, each cache holds every acknowledged write that [`Caches::fresh`] promises.
    pub async fn keep_customs(&self, wanted: &[(&'static Resource, Arc<Definition>)]) -> Result<(), ApiError> {
        let wanted = self.customs.load().next(wanted);
        let (done, outcome) = oneshot::channel();
        let stopped = || ApiError::service_unavailable("the server is shutting down");
        self.rearrange.send(feed::Rearrange { wanted, done }).await.map_err(|_| stopped())?;
        outcome.await.map_err(|_| stopped())?.map_err(|error| store_error(&error))
    }

    pub fn applied(&self) -> u64 {
        *self.applied.borrow()
    }

    /// Waits until every acknowledged write is visible, and says up to which revision.
    pub async fn fresh(&self) -> Result<u64, ApiError> {
        let newest = self.store.revision().await.map_err(|error| store_error(&error))?.0;
        self.at_least(newest).await?;
        Ok(self.applied())
    }

    /// Waits until the cache holds a revision; one that is too far ahead is a client's mistake or another store's.
    pub async fn at_least(&self, revision: u64) -> Result<(), ApiError> {
        if self.applied() >= revision {
            return Ok(());
        }
        let mut applied = self.applied.subscribe();
        let reached = tokio::time::timeout(WAIT_FOR_REVISION, applied.wait_for(|applied| *applied >= revision)).await;
        match reached {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(_)) => Err(ApiError::service_unavailable("the server is shutting down")),
            Err(_) => Err(too_large_revision(revision, self.applied())),
        }
    }

    /// Tells the feed what is in bytes that a writer is about to commit. The announcement is taken back when it is
    /// dropped, as when the write fails or the client goes away in the middle of it.
    pub fn announce<'a>(&'a self, key: &'a Bytes, value: Bytes, extract: Extract) -> Announcement<'a> {
        let object = Arc::new(Underway { value, extract, served: OnceLock::new() });
        self.underway.lock().unwrap_or_else(PoisonError::into_inner).insert(key.clone(), object.clone());
        Announcement { caches: self, key, object, kept: false }
    }

    /// Built-ins lie under one name, custom resources under their group and plural.
    fn locate<'k>(&self, key: &'k [u8]) -> Option<(Arc<ResourceCache>, &'k str)> {
        let rest = std::str::from_utf8(key).ok()?.strip_prefix(PREFIX)?;
        let (group, below) = rest.split_once('/')?;
        if let Some(cache) = self.by_storage.get(group) {
            return Some((cache.clone(), below));
        }
        let (plural, key) = below.split_once('/')?;
        let storage = &rest[..group.len() + 1 + plural.len()];
        Some((self.customs.load().get(storage)?.clone(), key))
    }

    fn decode(&self, cache: &ResourceCache, key: &str, kv: &KeyValue) -> Arc<Stored> {
        let known = self.underway.lock().unwrap_or_else(PoisonError::into_inner).remove(&kv.key);
        let definition = cache.definition.as_deref();
        match known {
            // A writer may know another definition than the cache, and other selectable fields with it.
            Some(known) if known.value == kv.value && definition.is_none() => known.served(key, kv),
            _ => Arc::new(Extract::parse(cache.resource, definition, &kv.value).of_row(key, kv)),
        }
    }
}

/// An object on its way through the store.
struct Underway {
    value: Bytes,
    extract: Extract,
    /// As it is served, for the writer and the feed: made by whoever comes first.
    served: OnceLock<Arc<Stored>>,
}

impl Underway {
    fn served(&self, key: &str, row: &KeyValue) -> Arc<Stored> {
        let make = || Arc::new(self.extract.clone().of_row(key, row));
        let served = self.served.get_or_init(make);
        // Two who write the same bytes to one key are told apart by what came of it.
        if served.resource_version == row.mod_revision.0 { served.clone() } else { make() }
    }
}

/// See [`Caches::announce`].
pub struct Announcement<'a> {
    caches: &'a Caches,
    key: &'a Bytes,
    object: Arc<Underway>,
    kept: bool,
}

impl Announcement<'_> {
    /// The write happened: the feed takes the announcement when it meets the event. Answers with the object as it is
    /// served under `name` from now on.
    pub fn keep(mut self, name: &str, row: &KeyValue) -> Arc<Stored> {
        self.kept = true;
        self.object.served(name, row)
    }
}

impl Drop for Announcement<'_> {
    fn drop(&mut self) {
        if !self.kept {
            self.caches.underway.lock().unwrap_or_else(PoisonError::into_inner).remove(self.key);
        }
    }
}

/// Where an object lies in the store.
pub fn store_key(resource: &Resource, namespace: &str, name: &str) -> Bytes {
    Bytes::from(format!("{PREFIX}{}/{}", resource.storage, object_key(namespace, name)))
}

/// Where an object lies in its resource's cache.
pub fn object_key(namespace: &str, name: &str) -> String {
    if namespace.is_empty() { name.to_owned() } else { format!("{namespace}/{name}") }
}

fn too_large_revision(asked: u64, current: u64) -> ApiError {
    let cause = knarr_api::status::Cause {
        reason: "ResourceVersionTooLarge".into(),
        message: "Too large resource version".into(),
        field: String::new(),
    };
    ApiError::timeout(format_args!("Too large resource version: {asked}, current: {current}"), 1).with_cause(cause)
}

/// What a client is told when the store refuses.
pub fn store_error(error: &StoreError) -> ApiError {
    match error {
        StoreError::Overloaded => ApiError::too_many_requests(error.to_string(), 1),
        StoreError::Compacted { .. } => {
            ApiError::expired("The provided continue parameter is too old to display a consistent list result.")
        }
        StoreError::DiskFull { .. } | StoreError::Stopped { .. } | StoreError::Closed => {
            ApiError::service_unavailable(error.to_string())
        }
        // A write may have happened, so that nobody is told to send it again.
        StoreError::Unavailable { .. } => ApiError::internal(error),
        StoreError::FutureRevision { requested, newest } => too_large_revision(requested.0, newest.0),
        _ => {
            tracing::error!(%error, "the store failed");
            ApiError::internal(error)
        }
    }
}
