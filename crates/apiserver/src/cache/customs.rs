//! The caches of custom resources, which come and go with their definitions.

use std::{collections::BTreeMap, sync::Arc};

use knarr_api::{custom::Definition, registry::Resource};

use super::resource::ResourceCache;
use crate::custom;

/// By storage prefix. A set is replaced as a whole; only the feed does that.
#[derive(Default)]
pub struct Customs(BTreeMap<&'static str, Arc<ResourceCache>>);

impl Customs {
    pub fn get(&self, storage: &str) -> Option<&Arc<ResourceCache>> {
        self.0.get(storage)
    }

    pub fn iter(&self) -> impl Iterator<Item = &Arc<ResourceCache>> {
        self.0.values()
    }

    /// A cache for each resource that is stored. Those there are stay, unless selectors ask about other fields now:
    /// those were read from every object when it came.
    pub fn next(&self, wanted: &[(&'static Resource, Arc<Definition>)]) -> Self {
        let cache = |(resource, definition): &(&'static Resource, Arc<Definition>)| {
            let there = self
                .get(resource.storage)
                .filter(|cache| cache.definition.as_ref().is_some_and(|known| custom::same_fields(known, definition)));
            let new = || Arc::new(ResourceCache::new(resource, Some(definition.clone())));
            (resource.storage, there.cloned().unwrap_or_else(new))
        };
        Self(wanted.iter().map(cache).collect())
    }
}
