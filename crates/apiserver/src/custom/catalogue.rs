//! What is served now: the built-ins, and the resources of established definitions.
//!
//! A snapshot never changes, and a new one takes its place as a whole, so that a request sees one state from its path
//! to its answer, and nobody waits for anybody.

use std::{collections::BTreeMap, sync::Arc};

use arc_swap::ArcSwap;
use knarr_api::registry::{Resource, builtins, by_plural};
use tokio::sync::watch;

use super::{Custom, intern::is_custom};

/// A resource that is served, with what its definition says where it has one.
#[derive(Clone, Debug)]
pub struct Found {
    pub resource: &'static Resource,
    pub custom: Option<Arc<Custom>>,
}

type Key = (&'static str, &'static str, &'static str);

/// Everything that is served at one time.
#[derive(Debug, Default)]
pub struct Snapshot {
    /// Grows with every change.
    pub generation: u64,
    /// By group, version and plural.
    customs: BTreeMap<Key, Arc<Custom>>,
}

impl Snapshot {
    /// The built-ins in the registry's order, then the custom resources in theirs.
    pub fn rows(&self) -> impl Iterator<Item = &'static Resource> + '_ {
        builtins().iter().chain(self.customs.values().map(|custom| custom.resource))
    }

    pub fn customs(&self) -> impl Iterator<Item = &Arc<Custom>> {
        self.customs.values()
    }

    /// The row in whose form the objects of a row are stored.
    pub fn stored_as(&self, resource: &'static Resource) -> &'static Resource {
        match self.custom(resource.group, resource.version, resource.plural) {
            Some(custom) => custom.stored,
            None => resource.stored_as(),
        }
    }

    fn custom<'a>(&'a self, group: &'a str, version: &'a str, plural: &'a str) -> Option<&'a Arc<Custom>> {
        self.customs.get(&(group, version, plural))
    }
}

#[derive(Debug, Default)]
pub struct Catalogue {
    now: ArcSwap<Snapshot>,
    published: watch::Sender<u64>,
}

impl Catalogue {
    pub fn now(&self) -> Arc<Snapshot> {
        self.now.load_full()
    }

    /// The resource at `/apis/{group}/{version}/{plural}`. A definition never hides a built-in.
    pub fn find(&self, group: &str, version: &str, plural: &str) -> Option<Found> {
        if let Some(resource) = by_plural(group, version, plural) {
            return Some(Found { resource, custom: None });
        }
        let custom = self.now.load().custom(group, version, plural)?.clone();
        Some(Found { resource: custom.resource, custom: Some(custom) })
    }

    /// What is known of a row beside itself; `None` for built-ins and for what is no longer served.
    pub fn custom(&self, resource: &'static Resource) -> Option<Arc<Custom>> {
        if !is_custom(resource) {
            return None;
        }
        self.now.load().custom(resource.group, resource.version, resource.plural).cloned()
    }

    /// Serves these from now on. There is one writer, the loop in `establish`.
    pub(super) fn publish(&self, customs: impl IntoIterator<Item = Arc<Custom>>) {
        let key = |custom: &Custom| (custom.resource.group, custom.resource.version, custom.resource.plural);
        let customs = customs.into_iter().map(|custom| (key(&custom), custom)).collect();
        let generation = self.now.load().generation + 1;
        self.now.store(Arc::new(Snapshot { generation, customs }));
        self.published.send_replace(generation);
    }

    /// Wakes whoever follows what is served.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.published.subscribe()
    }
}
