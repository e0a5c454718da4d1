//! Shared informers: one list-and-watch and one typed cache per kind and process, however many subscribe.
//!
//! Objects come without `metadata.managedFields`: nobody who reads them here needs them, and they are a third of
//! a small object's memory. (A PUT without them keeps those that are stored.)

mod cache;
mod changes;
mod frame;
mod reflector;
mod wire;

use std::{
    any::Any,
    collections::HashMap,
    hash::Hash,
    sync::{Arc, Mutex, PoisonError},
};

use k8s_openapi::{apimachinery::pkg::apis::meta::v1::ObjectMeta, serde::de::DeserializeOwned};
use kube::Resource;
use rand::{Rng as _, SeedableRng as _, rngs::SmallRng};
use tokio_util::sync::CancellationToken;

use crate::{lean::Pod, meta::ObjectKey, queue::WorkQueue, supervise};
use cache::Cache;
pub use cache::{CONTROLLER_INDEX, Change, NODE_INDEX, OWNER_INDEX};
pub use changes::Changes;
pub use reflector::Scope;

/// What an informer can hold: any type of the API, and those that keep a part of one.
pub trait Object: Resource + DeserializeOwned + Send + Sync + 'static {
    /// Reading one leaves out who manages which field. Of other types that is cut out of the text before.
    const LEAN: bool = false;
}

impl<K> Object for K where
    K: Resource + k8s_openapi::Metadata<Ty = ObjectMeta> + DeserializeOwned + Send + Sync + 'static
{
}

/// The informers of a process, made on first use.
#[derive(Clone)]
pub struct Informers {
    shared: Arc<Shared>,
}

struct Shared {
    client: kube::Client,
    cancel: CancellationToken,
    /// By path. A second type for the same objects would be a second watch of them, and a second copy of each.
    known: Mutex<HashMap<(String, Scope), Arc<dyn Any + Send + Sync>>>,
    random: Mutex<SmallRng>,
}

impl Informers {
    /// Informers that watch through `client` until `cancel` is cancelled. Retries are spread by the host's randomness.
    #[allow(clippy::disallowed_methods)] // `seeded` is for those who hand it in
    pub fn new(client: kube::Client, cancel: CancellationToken) -> Self {
        Self::seeded(client, cancel, rand::rng().random())
    }

    /// The same seed gives the same pauses, so that a simulation can be replayed.
    pub fn seeded(client: kube::Client, cancel: CancellationToken, seed: u64) -> Self {
        let random = Mutex::new(SmallRng::seed_from_u64(seed));
        Self { shared: Arc::new(Shared { client, cancel, known: Mutex::default(), random }) }
    }

    /// Every object of a kind in all namespaces.
    pub fn of<K: Object>(&self) -> Informer<K>
    where
        K::DynamicType: Default,
    {
        self.within(K::url_path(&Default::default(), None), Scope::default())
    }

    /// Only what the selectors let through, such as the pods of one node (`spec.nodeName=n1`).
    pub fn with_params<K: Object>(&self, scope: Scope) -> Informer<K>
    where
        K::DynamicType: Default,
    {
        self.within(K::url_path(&Default::default(), scope.namespace.as_deref()), scope)
    }

    fn within<K: Object>(&self, path: String, scope: Scope) -> Informer<K> {
        let mut known = self.shared.known.lock().unwrap_or_else(PoisonError::into_inner);
        let entry = known.entry((path.clone(), scope.clone())).or_insert_with(|| {
            let cache = Arc::new(Cache::<K>::default());
            self.start(path, scope, cache.clone());
            cache
        });
        let cache = entry.clone().downcast::<Cache<K>>();
        let cache = cache.unwrap_or_else(|_| unreachable!("whoever watches the same objects shares a type of them"));
        Informer { cache }
    }

    /// An informer of its own for a resource known only at run time, by its path (`/apis/apps/v1/deployments`).
    /// It ends with `cancel`, and is shared with nobody.
    pub fn private<K: Object>(&self, path: String, scope: Scope, cancel: CancellationToken) -> Informer<K> {
        let cache = Arc::new(Cache::<K>::default());
        self.start_until(path, scope, cache.clone(), cancel);
        Informer { cache }
    }

    fn start<K: Object>(&self, path: String, scope: Scope, cache: Arc<Cache<K>>) {
        self.start_until(path, scope, cache, self.shared.cancel.clone());
    }

    fn start_until<K: Object>(&self, path: String, scope: Scope, cache: Arc<Cache<K>>, cancel: CancellationToken) {
        let seed = self.shared.random.lock().unwrap_or_else(PoisonError::into_inner).random();
        let client = self.shared.client.clone();
        tokio::spawn(async move {
            let make = || {
                let random = SmallRng::seed_from_u64(seed);
                reflector::run(client.clone(), &path, &scope, &cache, random)
            };
            // The reflector itself never ends, so it is dropped where it stands.
            tokio::select! {
                () = supervise::keep_running(&path, &cancel, make) => {}
                () = cancel.cancelled() => {}
            }
            cache.close();
        });
    }

    pub fn client(&self) -> &kube::Client {
        &self.shared.client
    }

    pub fn cancellation(&self) -> &CancellationToken {
        &self.shared.cancel
    }
}

/// The cache of one kind. Cheap to clone; all clones are the same cache.
///
/// Reads are as new as the last event that arrived, which may be older than a write that was just acknowledged.
pub struct Informer<K> {
    cache: Arc<Cache<K>>,
}

impl<K> Clone for Informer<K> {
    fn clone(&self) -> Self {
        Self { cache: self.cache.clone() }
    }
}

impl<K: Object> Informer<K> {
    /// An empty namespace means a cluster-scoped object.
    pub fn get(&self, namespace: &str, name: &str) -> Option<Arc<K>> {
        self.cache.get(namespace, name)
    }

    /// In order of namespace and name.
    pub fn list(&self) -> Vec<Arc<K>> {
        self.cache.list()
    }

    pub fn in_namespace(&self, namespace: &str) -> Vec<Arc<K>> {
        self.cache.in_namespace(namespace)
    }

    pub fn len(&self) -> usize {
        self.cache.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Keeps an index from now on: `keys` says under which keys an object is found. A second index of the same
    /// name is the first one. [`OWNER_INDEX`] (uid of each owner) and [`CONTROLLER_INDEX`] (uid of the controller,
    /// or `orphans/NAMESPACE` where there is none) are made by their own methods.
    pub fn add_index(&self, name: &'static str, keys: impl Fn(&K) -> Vec<String> + Send + Sync + 'static) {
        self.cache.add_index(name, Box::new(keys));
    }

    /// Finds objects by the uid of each of their owners.
    pub fn index_by_owner(&self) {
        self.add_index(OWNER_INDEX, |object| cache::owner_keys(object.meta()));
    }

    /// Finds objects by the uid of their controller, and those without one by [`orphans_key`].
    pub fn index_by_controller(&self) {
        self.add_index(CONTROLLER_INDEX, |object| cache::controller_keys(object.meta()));
    }

    /// Finds objects by the value of a label, under the label's key as the index's name.
    pub fn index_by_label(&self, label: &'static str) {
        self.add_index(label, move |object| {
            crate::meta::label(object.meta(), label).map(str::to_owned).into_iter().collect()
        });
    }

    /// What an index has under a key, in order of namespace and name; nothing where there is no such index.
    pub fn by_index(&self, index: &str, key: &str) -> Vec<Arc<K>> {
        self.cache.by_index(index, key)
    }

    /// Calls `handler` for every object there is, as an addition, and then for every change, in order, from the
    /// task that reads the watch: it has to be quick (put a key into a queue), may read any cache, and must not
    /// register another handler with this one. The cache already has the change.
    pub fn on_change(&self, handler: impl Fn(&Change<K>) + Send + Sync + 'static) {
        self.cache.on_change(Box::new(move |change| {
            handler(change);
            true
        }));
    }

    /// As [`Informer::on_change`], until `cancel` is cancelled.
    pub fn on_change_until(&self, cancel: &CancellationToken, handler: impl Fn(&Change<K>) + Send + Sync + 'static) {
        let cancel = cancel.clone();
        self.cache.on_change(Box::new(move |change| {
            let wanted = !cancel.is_cancelled();
            if wanted {
                handler(change);
            }
            wanted
        }));
    }

    /// Puts keys made of each change into a queue, until the queue ends.
    pub fn feed<T, I>(&self, queue: &WorkQueue<T>, keys: impl Fn(&Change<K>) -> I + Send + Sync + 'static)
    where
        T: Clone + Eq + Hash + Send + Sync + 'static,
        I: IntoIterator<Item = T>,
    {
        let target = queue.clone();
        self.on_change_until(queue.cancellation(), move |change| {
            keys(change).into_iter().for_each(|key| target.add(key));
        });
    }

    /// Puts the key of each object that changes into a queue: what most controllers want of their main kind.
    pub fn feed_keys(&self, queue: &WorkQueue<ObjectKey>) {
        self.feed(queue, |change| [ObjectKey::of(&**change.latest())]);
    }

    /// The same as a stream. Changes of one object that were not taken yet are merged into one.
    pub fn subscribe(&self) -> Changes<K> {
        changes::subscribe(&self.cache)
    }

    /// Waits until the cache holds everything that existed when it was asked for. False once cancelled.
    pub async fn synced(&self) -> bool {
        self.cache.synced().await
    }

    pub fn is_synced(&self) -> bool {
        self.cache.is_synced()
    }
}

impl Informer<Pod> {
    /// Finds pods by `spec.nodeName` ([`NODE_INDEX`]); those not scheduled yet under the empty name.
    pub fn index_by_node(&self) {
        self.add_index(NODE_INDEX, |pod| {
            vec![pod.spec.as_ref().and_then(|spec| spec.node_name.clone()).unwrap_or_default()]
        });
    }
}

/// The key under which [`CONTROLLER_INDEX`] has the objects of a namespace that no controller owns.
pub fn orphans_key(namespace: &str) -> String {
    format!("orphans/{namespace}")
}

#[cfg(test)]
mod tests;
