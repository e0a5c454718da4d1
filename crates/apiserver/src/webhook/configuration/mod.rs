//! Who is asked: all webhook configurations there are, understood, in the order of their names.
//!
//! The snapshot is replaced as a whole when the watch cache has moved on, by whoever comes first; all others take the
//! pointer. A server without webhooks pays for two comparisons.

mod hook;

use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;

pub(super) use hook::{Hook, ReviewVersion};

use crate::{
    builtin,
    contract::{Lookup, Stored},
};

/// The webhooks of one kind of configuration.
#[derive(Debug, Default)]
pub(super) struct Hooks {
    pub all: Vec<Arc<Hook>>,
}

/// One configuration as it was last read.
struct Known {
    name: String,
    revision: u64,
    hooks: Vec<Arc<Hook>>,
}

/// The webhooks of a resource, kept current.
struct Kept {
    resource: &'static knarr_api::registry::Resource,
    now: ArcSwap<(Option<u64>, Arc<Hooks>)>,
    known: Mutex<Vec<Known>>,
}

pub(super) struct Configurations {
    lookup: Arc<dyn Lookup>,
    mutating: Kept,
    validating: Kept,
}

impl Configurations {
    pub fn new(lookup: Arc<dyn Lookup>) -> Self {
        Self {
            lookup,
            mutating: Kept::new(builtin::mutating_webhook_configurations()),
            validating: Kept::new(builtin::validating_webhook_configurations()),
        }
    }

    pub fn mutating(&self) -> Arc<Hooks> {
        self.mutating.current(&*self.lookup)
    }

    pub fn validating(&self) -> Arc<Hooks> {
        self.validating.current(&*self.lookup)
    }
}

impl Kept {
    fn new(resource: &'static knarr_api::registry::Resource) -> Self {
        Self { resource, now: ArcSwap::default(), known: Mutex::default() }
    }

    fn current(&self, lookup: &dyn Lookup) -> Arc<Hooks> {
        let generation = lookup.generation(self.resource);
        let now = self.now.load();
        if now.0 == Some(generation) {
            return now.1.clone();
        }
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        // Read again under the lock, before the list: what changes between is seen again next time.
        let generation = lookup.generation(self.resource);
        let before = std::mem::take(&mut *known);
        *known = lookup.list(self.resource, "").iter().map(|stored| read(stored, &before)).collect();
        known.sort_by(|a, b| a.name.cmp(&b.name));
        let all = known.iter().flat_map(|known| known.hooks.iter().cloned()).collect();
        let hooks = Arc::new(Hooks { all });
        self.now.store(Arc::new((Some(generation), hooks.clone())));
        hooks
    }
}

/// A configuration that did not change keeps its webhooks, and they their connections.
fn read(stored: &Stored, before: &[Known]) -> Known {
    let (name, revision) = (stored.name().to_owned(), stored.resource_version);
    if let Some(same) = before.iter().find(|known| known.name == name && known.revision == revision) {
        return Known { name, revision, hooks: same.hooks.clone() };
    }
    let object = stored.value();
    let webhooks = crate::json::items(&object["webhooks"]);
    let hooks = webhooks.iter().map(|webhook| Arc::new(Hook::parse(&name, webhook))).collect();
    Known { name, revision, hooks }
}
