//! Keeps what is derived from the objects of a resource, parsing each version of an object once.

use std::collections::HashMap;
use std::sync::Arc;

use knarr_api::registry::Resource;
use serde_json::Value;

use crate::contract::Lookup;

/// What `project` makes of each object of a resource (in one namespace, or in all). Brought up to date when
/// asked, and only if something changed; a write has a revision of its own, so the revision names a version.
pub struct Derived<T> {
    resource: &'static Resource,
    namespace: String,
    project: fn(&Value) -> Option<T>,
    generation: Option<u64>,
    by_revision: HashMap<u64, Option<Arc<T>>>,
}

impl<T> Derived<T> {
    pub fn new(resource: &'static Resource, namespace: &str, project: fn(&Value) -> Option<T>) -> Self {
        Self { resource, namespace: namespace.to_owned(), project, generation: None, by_revision: HashMap::new() }
    }

    /// Catches up with the cache; true where something may have changed.
    pub fn refresh(&mut self, lookup: &dyn Lookup) -> bool {
        // The generation is read before the list: what changes between is seen again next time.
        let generation = lookup.generation(self.resource);
        if self.generation == Some(generation) {
            return false;
        }
        let objects = lookup.list(self.resource, &self.namespace);
        let mut fresh = HashMap::with_capacity(objects.len());
        for stored in objects {
            let known = self.by_revision.remove(&stored.resource_version);
            let item = known.unwrap_or_else(|| (self.project)(&stored.value()).map(Arc::new));
            fresh.insert(stored.resource_version, item);
        }
        self.by_revision = fresh;
        self.generation = Some(generation);
        true
    }

    /// As of the last [`Derived::refresh`].
    pub fn iter(&self) -> impl Iterator<Item = &Arc<T>> {
        self.by_revision.values().flatten()
    }
}
