//! The index of one resource: every object as it is served, ordered by key, and its recent events.

use std::{
    collections::BTreeMap,
    ops::Bound,
    sync::{
        Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard,
        atomic::{AtomicU64, Ordering},
    },
};

use knarr_api::{custom::Definition, registry::Resource};

use super::{
    by_field::ByField,
    event::{CachedEvent, Change},
    ring::Ring,
    splice,
    topics::{Topic, Topics},
    watcher::{Start, Watcher},
};
use crate::contract::{KeptForm, KeptMessage, Stored};

struct State {
    objects: BTreeMap<Box<str>, Arc<Stored>>,
    /// There for the few resources that are asked for by a field all the time.
    by_field: Option<ByField>,
    ring: Ring,
    /// The revision of the last event applied.
    changed_at: u64,
}

/// One resource's part of the watch cache. Readers take the lock for as long as it takes to clone pointers.
pub struct ResourceCache {
    pub resource: &'static Resource,
    /// What a custom resource's selectable fields are read from.
    pub(super) definition: Option<Arc<Definition>>,
    state: RwLock<State>,
    generation: AtomicU64,
    topics: Topics,
}

/// What a list saw: objects in key order, and whether more follow.
pub struct Listing {
    pub items: Vec<Arc<Stored>>,
    /// How many objects of the asked range come after the last item. Where only some are wanted it is not counted
    /// how many, but only whether there are any.
    pub remaining: usize,
}

impl ResourceCache {
    pub(super) fn new(resource: &'static Resource, definition: Option<Arc<Definition>>) -> Self {
        let by_field = ByField::of(resource).filter(|_| definition.is_none());
        let state = State { objects: BTreeMap::new(), by_field, ring: Ring::new(0), changed_at: 0 };
        let (state, topics) = (RwLock::new(state), Topics::default());
        Self { resource, definition, state, generation: AtomicU64::new(0), topics }
    }

    fn read(&self) -> RwLockReadGuard<'_, State> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, State> {
        self.state.write().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn get(&self, key: &str) -> Option<Arc<Stored>> {
        self.read().objects.get(key).cloned()
    }

    /// How many objects there are.
    pub fn count(&self) -> usize {
        self.read().objects.len()
    }

    pub fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// The revision of the newest change of this resource.
    pub fn changed_at(&self) -> u64 {
        self.read().changed_at
    }

    /// Objects of a namespace (all where it is empty) after a key, those that `keep` wants where it is given; `limit` 0 is none.
    /// The second answer is the revision of the newest change that the list holds.
    pub fn list(
        &self,
        namespace: &str,
        after: Option<&str>,
        limit: usize,
        keep: Option<&dyn Fn(&Stored) -> bool>,
    ) -> (Listing, u64) {
        let prefix = if namespace.is_empty() { String::new() } else { format!("{namespace}/") };
        let start = match after {
            Some(key) => Bound::Excluded(key),
            None => Bound::Included(prefix.as_str()),
        };
        let state = self.read();
        let mut range = state
            .objects
            .range::<str, _>((start, Bound::Unbounded))
            .take_while(|(key, _)| prefix.is_empty() || key.starts_with(&prefix));
        let mut items = Vec::new();
        for (_, object) in range.by_ref() {
            if keep.is_some_and(|keep| !keep(object)) {
                continue;
            }
            items.push(object.clone());
            if limit > 0 && items.len() == limit {
                break;
            }
        }
        // Whether anything follows is asked only of a list that was cut short.
        let is_cut = limit > 0 && items.len() == limit;
        let remaining = match keep {
            _ if !is_cut => 0,
            None => range.count(),
            Some(keep) => usize::from(range.any(|(_, object)| keep(object))),
        };
        (Listing { items, remaining }, state.changed_at)
    }

    /// The objects that have a value in the one field that lists are kept by.
    pub fn list_by(&self, value: &str) -> Vec<Arc<Stored>> {
        let state = self.read();
        let keys = state.by_field.iter().flat_map(|by| by.keys(value));
        keys.filter_map(|key| state.objects.get(key)).cloned().collect()
    }

    /// A watcher from a revision on that is woken by a topic. `Start::Now` comes with the objects that `keep` wants,
    /// so that nothing falls between.
    pub fn watch(
        self: &Arc<Self>,
        start: Start,
        topic: Topic,
        mut keep: impl FnMut(&Stored) -> bool,
    ) -> Result<Watcher, Expired> {
        // Subscribe before reading the ring: a change in between only wakes the watcher once too often.
        let changed = self.topics.subscribe(topic);
        let state = self.read();
        let (next, objects) = match start {
            Start::Now { snapshot } => {
                let objects = match snapshot {
                    true => state.objects.values().filter(|object| keep(object)).cloned().collect(),
                    false => Vec::new(),
                };
                (state.ring.next(), objects)
            }
            Start::After(revision) => {
                let oldest = state.ring.complete_after();
                let next = state.ring.after_revision(revision).ok_or(Expired { requested: revision, oldest })?;
                (next, Vec::new())
            }
        };
        let changed_at = state.changed_at;
        drop(state);
        Ok(Watcher::new(self.clone(), next, objects, changed_at, changed))
    }

    pub(super) fn read_events(&self, from: u64, limit: usize, into: &mut Vec<Arc<CachedEvent>>) -> Result<(), Expired> {
        let state = self.read();
        let oldest = state.ring.complete_after();
        state.ring.read(from, limit, into).ok_or(Expired { requested: 0, oldest })
    }

    /// Replaces everything, as after a start or a watch of the store that broke.
    pub(super) fn load(&self, objects: BTreeMap<Box<str>, Arc<Stored>>, revision: u64) {
        let mut state = self.write();
        state.changed_at = revision;
        state.ring.reset(revision);
        if let Some(by) = &mut state.by_field {
            by.load(&objects);
        }
        state.objects = objects;
        drop(state);
        self.generation.fetch_add(1, Ordering::AcqRel);
        self.topics.wake_all(revision);
    }

    /// Applies the events of one batch, in order. `None` deletes.
    pub(super) fn apply(&self, changes: Vec<(Box<str>, u64, Option<Arc<Stored>>)>) {
        let Some(last) = changes.last().map(|(_, revision, _)| *revision) else { return };
        let mut concerned: Vec<Arc<Stored>> = Vec::with_capacity(2 * changes.len());
        let mut state = self.write();
        for (key, revision, object) in changes {
            let event = match object {
                Some(object) => {
                    let before = state.objects.insert(key, object.clone());
                    let change = if before.is_some() { Change::Modified } else { Change::Added };
                    CachedEvent::new(revision, change, object, before)
                }
                None => {
                    let Some(before) = state.objects.remove(&key) else { continue };
                    let gone = Arc::new(at_revision(&before, revision));
                    CachedEvent::new(revision, Change::Deleted, gone, Some(before))
                }
            };
            if let Some(by) = &mut state.by_field {
                let after = (event.change != Change::Deleted).then_some(&*event.object);
                by.change(&event.object.key, event.before.as_deref(), after);
            }
            concerned.extend(event.before.iter().chain([&event.object]).cloned());
            state.ring.push(Arc::new(event));
        }
        state.changed_at = last;
        drop(state);
        self.generation.fetch_add(1, Ordering::AcqRel);
        self.topics.wake(last, concerned.iter().map(|object| &**object));
    }

    pub(super) fn age(&self) {
        self.write().ring.age();
    }
}

/// The events after a revision are no longer kept: the client lists again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("too old resource version: {requested} ({oldest})")]
pub struct Expired {
    pub requested: u64,
    pub oldest: u64,
}

/// The same object under another revision.
pub fn at_revision(object: &Stored, revision: u64) -> Stored {
    // Nobody asks for an older state but to tell that it is gone.
    let line = splice::replace_revision(&object.json, revision, Change::Deleted);
    Stored {
        key: object.key.clone(),
        json: line.object,
        line: line.whole,
        resource_version: revision,
        labels: object.labels.clone(),
        fields: object.fields.clone(),
        message: KeptMessage::default(),
        shown: KeptForm::default(),
    }
}
