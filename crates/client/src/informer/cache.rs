//! The objects of one kind, their indexes, and who wants to hear of changes.

use std::{
    cmp::Ordering,
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard},
};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Resource;
use tokio::sync::watch;

use super::orphans_key;
use crate::meta::{ObjectKey, controller_of, name, namespace, uid};

pub const OWNER_INDEX: &str = "owner";
pub const CONTROLLER_INDEX: &str = "controller";
pub const NODE_INDEX: &str = "node";

/// What became of an object: added (`old` is none), changed, or gone (`new` is none).
///
/// An object that was deleted and made again under its name is two changes, never one.
#[derive(Debug)]
pub struct Change<K> {
    pub old: Option<Arc<K>>,
    pub new: Option<Arc<K>>,
}

impl<K> Clone for Change<K> {
    fn clone(&self) -> Self {
        Self { old: self.old.clone(), new: self.new.clone() }
    }
}

impl<K> Change<K> {
    /// The newest state there is; of an object that is gone, its last.
    pub fn latest(&self) -> &Arc<K> {
        match (&self.new, &self.old) {
            (Some(object), _) | (None, Some(object)) => object,
            (None, None) => unreachable!("a change has a side"),
        }
    }

    pub fn is_addition(&self) -> bool {
        self.old.is_none()
    }

    pub fn is_deletion(&self) -> bool {
        self.new.is_none()
    }
}

/// Called with each change; answers false where it wants no more.
pub(super) type Handler<K> = Box<dyn Fn(&Change<K>) -> bool + Send + Sync>;
type KeysOf<K> = Box<dyn Fn(&K) -> Vec<String> + Send + Sync>;

/// One thing the reflector has to tell.
pub(super) enum Event<K> {
    Applied(K),
    Deleted(K),
}

pub(super) struct Cache<K> {
    objects: RwLock<Objects<K>>,
    /// Also taken around every change, so that a new handler sees each object and each change exactly once.
    handlers: Mutex<Vec<Handler<K>>>,
    synced: watch::Sender<Progress>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Progress {
    /// Left when the first list is in.
    Loading,
    Synced,
    /// For good: the informer was cancelled.
    Closed,
}

struct Objects<K> {
    /// By namespace, then name.
    by_name: BTreeMap<String, BTreeMap<String, Arc<K>>>,
    count: usize,
    indexes: HashMap<&'static str, Index<K>>,
}

struct Index<K> {
    keys_of: KeysOf<K>,
    entries: HashMap<String, BTreeSet<Named<K>>>,
}

impl<K> Default for Cache<K> {
    fn default() -> Self {
        let objects = Objects { by_name: BTreeMap::new(), count: 0, indexes: HashMap::new() };
        Self {
            objects: RwLock::new(objects),
            handlers: Mutex::default(),
            synced: watch::Sender::new(Progress::Loading),
        }
    }
}

impl<K: Resource> Cache<K> {
    pub fn get(&self, namespace: &str, name: &str) -> Option<Arc<K>> {
        self.read().by_name.get(namespace)?.get(name).cloned()
    }

    pub fn list(&self) -> Vec<Arc<K>> {
        self.read().by_name.values().flat_map(|names| names.values().cloned()).collect()
    }

    pub fn in_namespace(&self, namespace: &str) -> Vec<Arc<K>> {
        self.read().by_name.get(namespace).map(|names| names.values().cloned().collect()).unwrap_or_default()
    }

    pub fn len(&self) -> usize {
        self.read().count
    }

    pub fn by_index(&self, index: &str, key: &str) -> Vec<Arc<K>> {
        let objects = self.read();
        let entries = objects.indexes.get(index).and_then(|index| index.entries.get(key));
        entries.map(|entries| entries.iter().map(|named| named.0.clone()).collect()).unwrap_or_default()
    }

    pub fn add_index(&self, name: &'static str, keys_of: KeysOf<K>) {
        let mut objects = self.write();
        if objects.indexes.contains_key(name) {
            return;
        }
        let mut index = Index { keys_of, entries: HashMap::new() };
        objects.by_name.values().flat_map(BTreeMap::values).for_each(|object| index.insert(object));
        objects.indexes.insert(name, index);
    }

    pub fn on_change(&self, handler: Handler<K>) {
        let mut handlers = self.handlers();
        let wants_more = self.list().into_iter().all(|object| handler(&Change { old: None, new: Some(object) }));
        if wants_more {
            handlers.push(handler);
        }
    }

    /// Takes events in order, then tells the handlers of each.
    pub fn apply(&self, events: impl IntoIterator<Item = Event<K>>) {
        let mut handlers = self.handlers();
        let mut changes = Vec::new();
        {
            let mut objects = self.write();
            for event in events {
                match event {
                    Event::Applied(object) => objects.insert(Arc::new(object), &mut changes),
                    Event::Deleted(object) => objects.remove(object, &mut changes),
                }
            }
        }
        tell(&mut handlers, &changes);
    }

    /// Makes the cache hold exactly these objects: what a new list says.
    pub fn replace(&self, list: Vec<K>) {
        let mut handlers = self.handlers();
        let mut changes = Vec::new();
        {
            let mut objects = self.write();
            let mut gone: HashMap<ObjectKey, Arc<K>> = HashMap::new();
            for object in objects.by_name.values().flat_map(BTreeMap::values) {
                gone.insert(ObjectKey::of(&**object), object.clone());
            }
            for object in &list {
                gone.remove(&ObjectKey::of(object));
            }
            let mut gone: Vec<_> = gone.into_iter().collect();
            gone.sort_by(|(a, _), (b, _)| a.cmp(b));
            for (key, object) in gone {
                objects.take(&key);
                changes.push(Change { old: Some(object), new: None });
            }
            list.into_iter().for_each(|object| objects.insert(Arc::new(object), &mut changes));
        }
        tell(&mut handlers, &changes);
        self.synced.send_replace(Progress::Synced);
    }

    pub fn is_synced(&self) -> bool {
        *self.synced.borrow() == Progress::Synced
    }

    pub async fn synced(&self) -> bool {
        let mut synced = self.synced.subscribe();
        let state = synced.wait_for(|state| *state != Progress::Loading).await;
        state.is_ok_and(|state| *state == Progress::Synced)
    }

    /// No more will come: streams of changes end.
    pub fn close(&self) {
        self.handlers().clear();
        self.synced.send_replace(Progress::Closed);
    }

    fn read(&self) -> RwLockReadGuard<'_, Objects<K>> {
        self.objects.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Objects<K>> {
        self.objects.write().unwrap_or_else(PoisonError::into_inner)
    }

    fn handlers(&self) -> MutexGuard<'_, Vec<Handler<K>>> {
        self.handlers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn tell<K>(handlers: &mut Vec<Handler<K>>, changes: &[Change<K>]) {
    handlers.retain(|handler| changes.iter().all(handler));
}

impl<K: Resource> Objects<K> {
    fn insert(&mut self, object: Arc<K>, changes: &mut Vec<Change<K>>) {
        let key = ObjectKey::of(&*object);
        let old = self.take(&key);
        self.indexes.values_mut().for_each(|index| index.insert(&object));
        self.by_name.entry(key.namespace).or_default().insert(key.name, object.clone());
        self.count += 1;
        match old {
            Some(old) if old.meta().resource_version == object.meta().resource_version => {}
            Some(old) if uid(old.meta()) != uid(object.meta()) => {
                changes.push(Change { old: Some(old), new: None });
                changes.push(Change { old: None, new: Some(object) });
            }
            old => changes.push(Change { old, new: Some(object) }),
        }
    }

    /// The deleted state is what subscribers get as `old`: it has the final resourceVersion and timestamps.
    fn remove(&mut self, last: K, changes: &mut Vec<Change<K>>) {
        if self.take(&ObjectKey::of(&last)).is_some() {
            changes.push(Change { old: Some(Arc::new(last)), new: None });
        }
    }

    fn take(&mut self, key: &ObjectKey) -> Option<Arc<K>> {
        let names = self.by_name.get_mut(&key.namespace)?;
        let object = names.remove(&key.name)?;
        if names.is_empty() {
            self.by_name.remove(&key.namespace);
        }
        self.indexes.values_mut().for_each(|index| index.remove(&object));
        self.count -= 1;
        Some(object)
    }
}

/// An object in its place among others: in order of namespace and name, which it holds itself.
struct Named<K>(Arc<K>);

impl<K: Resource> Named<K> {
    fn key(&self) -> (&str, &str) {
        (namespace(self.0.meta()), name(self.0.meta()))
    }
}

impl<K: Resource> Ord for Named<K> {
    fn cmp(&self, other: &Self) -> Ordering {
        self.key().cmp(&other.key())
    }
}

impl<K: Resource> PartialOrd for Named<K> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<K: Resource> PartialEq for Named<K> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl<K: Resource> Eq for Named<K> {}

impl<K: Resource> Index<K> {
    fn insert(&mut self, object: &Arc<K>) {
        for key in (self.keys_of)(object) {
            self.entries.entry(key).or_default().replace(Named(object.clone()));
        }
    }

    fn remove(&mut self, object: &Arc<K>) {
        for key in (self.keys_of)(object) {
            if let Some(entries) = self.entries.get_mut(&key) {
                entries.remove(&Named(object.clone()));
                if entries.is_empty() {
                    self.entries.remove(&key);
                }
            }
        }
    }
}

pub(super) fn owner_keys(meta: &ObjectMeta) -> Vec<String> {
    meta.owner_references.iter().flatten().map(|owner| owner.uid.clone()).collect()
}

pub(super) fn controller_keys(meta: &ObjectMeta) -> Vec<String> {
    vec![controller_of(meta).map_or_else(|| orphans_key(namespace(meta)), |owner| owner.uid.clone())]
}

/// An object's identity in messages.
pub(super) fn describe<K: Resource>(object: &K) -> String {
    format!("{}/{}", namespace(object.meta()), name(object.meta()))
}
