//! ConfigMaps and Secrets that pods refer to. Each is watched by name, once for all pods of the node that use
//! it and only while one does: a node may not list what it has no pod for. ClusterTrustBundles, which everybody may
//! read, are watched together.

use std::{
    any::Any,
    collections::{BTreeSet, HashMap},
    sync::{Arc, Mutex, PoisonError, Weak},
    time::Duration,
};

use k8s_openapi::api::{
    certificates::v1beta1::ClusterTrustBundle,
    core::v1::{ConfigMap, Container, Pod, Secret},
};
use knarr_client::{
    Informer, Informers,
    informer::{Object, Scope},
};
use tokio::sync::Notify;
use tokio_util::sync::{CancellationToken, DropGuard};

/// How long a first answer may take before a pod is told that its object is not known yet.
const FIRST_ANSWER: Duration = Duration::from_secs(5);

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    ConfigMap,
    Secret,
    /// All there are, without a name: those of a signer are not known by theirs.
    TrustBundles,
}

/// Kind, namespace and name of what is watched.
type Key = (Kind, String, String);

/// What one pod refers to, by name; what has a namespace lies in the pod's own.
pub type Names = BTreeSet<(Kind, String)>;

pub struct References {
    informers: Informers,
    watched: Mutex<HashMap<Key, Weak<dyn Any + Send + Sync>>>,
}

/// One watch. Dropping the last handle ends the watch.
struct Watched<K> {
    informer: Informer<K>,
    listeners: Arc<Mutex<Vec<Weak<Notify>>>>,
    /// True for an object that says of itself that it never changes: it is not watched any longer.
    is_immutable: fn(&K) -> bool,
    stop: CancellationToken,
    _cancel: DropGuard,
}

/// What a pod holds on to: as long as it lives, its objects are watched and `wake` is told of changes.
pub struct Held {
    namespace: String,
    config_maps: HashMap<String, Arc<Watched<ConfigMap>>>,
    secrets: HashMap<String, Arc<Watched<Secret>>>,
    trust_bundles: Option<Arc<Watched<ClusterTrustBundle>>>,
}

/// The objects as they are now.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    pub config_maps: HashMap<String, Arc<ConfigMap>>,
    pub secrets: HashMap<String, Arc<Secret>>,
    /// `None` until they are known.
    pub trust_bundles: Option<Vec<Arc<ClusterTrustBundle>>>,
    /// What the API did not say anything about: it may be there or not.
    pub unknown: Names,
}

/// Whether there is such an object cannot be said yet, in upstream's words.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("failed to sync {0} cache: timed out waiting for the condition")]
pub struct NotSynced(&'static str);

impl Snapshot {
    /// Differs whenever one of the objects does.
    pub fn version(&self) -> u64 {
        use std::hash::{DefaultHasher, Hash, Hasher};
        let maps = self.config_maps.values().map(|map| &map.metadata);
        let mut versions: Vec<_> = maps
            .chain(self.secrets.values().map(|secret| &secret.metadata))
            .chain(self.trust_bundles.iter().flatten().map(|bundle| &bundle.metadata))
            .map(|meta| (&meta.uid, &meta.resource_version))
            .collect();
        versions.sort();
        let mut hasher = DefaultHasher::new();
        versions.hash(&mut hasher);
        self.unknown.hash(&mut hasher);
        hasher.finish()
    }

    pub fn config_map(&self, name: &str) -> Result<Option<&ConfigMap>, NotSynced> {
        self.known((Kind::ConfigMap, name.to_owned()), "configmap")?;
        Ok(self.config_maps.get(name).map(Arc::as_ref))
    }

    pub fn secret(&self, name: &str) -> Result<Option<&Secret>, NotSynced> {
        self.known((Kind::Secret, name.to_owned()), "secret")?;
        Ok(self.secrets.get(name).map(Arc::as_ref))
    }

    fn known(&self, name: (Kind, String), shown: &'static str) -> Result<(), NotSynced> {
        if self.unknown.contains(&name) { Err(NotSynced(shown)) } else { Ok(()) }
    }
}

impl References {
    pub fn new(informers: Informers) -> Self {
        Self { informers, watched: Mutex::default() }
    }

    /// Watches what a pod refers to and wakes it by `wake` when that changes.
    pub fn hold(&self, namespace: &str, names: &Names, wake: &Arc<Notify>) -> Held {
        let mut held = Held {
            namespace: namespace.to_owned(),
            config_maps: HashMap::new(),
            secrets: HashMap::new(),
            trust_bundles: None,
        };
        for (kind, name) in names {
            let key = (*kind, namespace.to_owned(), name.clone());
            match kind {
                Kind::ConfigMap => {
                    let is_immutable = |map: &ConfigMap| map.immutable == Some(true);
                    let watched = self.watch(key, is_immutable, wake);
                    held.config_maps.insert(name.clone(), watched);
                }
                Kind::Secret => {
                    let is_immutable = |secret: &Secret| secret.immutable == Some(true);
                    let watched = self.watch(key, is_immutable, wake);
                    held.secrets.insert(name.clone(), watched);
                }
                Kind::TrustBundles => {
                    let key = (*kind, String::new(), String::new());
                    held.trust_bundles = Some(self.watch(key, |_| false, wake));
                }
            }
        }
        held
    }

    fn watch<K: Object>(&self, key: Key, is_immutable: fn(&K) -> bool, wake: &Arc<Notify>) -> Arc<Watched<K>>
    where
        K::DynamicType: Default,
    {
        let mut watched = self.watched.lock().unwrap_or_else(PoisonError::into_inner);
        watched.retain(|_, weak| weak.strong_count() > 0);
        let present = watched.get(&key).and_then(Weak::upgrade).and_then(|any| any.downcast::<Watched<K>>().ok());
        let entry = present.unwrap_or_else(|| {
            let entry = Arc::new(self.start(&key, is_immutable));
            let any: Arc<dyn Any + Send + Sync> = entry.clone();
            watched.insert(key, Arc::downgrade(&any));
            entry
        });
        let mut listeners = entry.listeners.lock().unwrap_or_else(PoisonError::into_inner);
        listeners.retain(|listener| listener.strong_count() > 0);
        listeners.push(Arc::downgrade(wake));
        drop(listeners);
        entry
    }

    fn start<K: Object>(&self, (_, namespace, name): &Key, is_immutable: fn(&K) -> bool) -> Watched<K>
    where
        K::DynamicType: Default,
    {
        let cancel = self.informers.cancellation().child_token();
        let of_one = (!name.is_empty()).then(|| format!("metadata.name={name}"));
        let namespace = Some(namespace.clone()).filter(|namespace| !namespace.is_empty());
        let path = K::url_path(&Default::default(), namespace.as_deref());
        let scope = Scope { namespace, field_selector: of_one, ..Scope::default() };
        let informer = self.informers.private::<K>(path, scope, CancellationToken::clone(&cancel));
        let listeners: Arc<Mutex<Vec<Weak<Notify>>>> = Arc::default();
        let told = listeners.clone();
        informer.on_change(move |_| {
            for listener in told.lock().unwrap_or_else(PoisonError::into_inner).iter().filter_map(Weak::upgrade) {
                listener.notify_one();
            }
        });
        Watched { informer, listeners, is_immutable, stop: cancel.clone(), _cancel: cancel.drop_guard() }
    }
}

impl Held {
    /// Waits for the first answer about each object, but not for ever.
    pub async fn snapshot(&self) -> Snapshot {
        let mut snapshot = Snapshot::default();
        for (name, watched) in &self.config_maps {
            match self.get(name, watched).await {
                Some(object) => _ = snapshot.config_maps.insert(name.clone(), object),
                None if watched.informer.is_synced() => {}
                None => _ = snapshot.unknown.insert((Kind::ConfigMap, name.clone())),
            }
        }
        for (name, watched) in &self.secrets {
            match self.get(name, watched).await {
                Some(object) => _ = snapshot.secrets.insert(name.clone(), object),
                None if watched.informer.is_synced() => {}
                None => _ = snapshot.unknown.insert((Kind::Secret, name.clone())),
            }
        }
        if let Some(watched) = &self.trust_bundles {
            let is_known = watched.first_answer().await;
            snapshot.trust_bundles = is_known.then(|| watched.informer.list());
        }
        snapshot
    }

    async fn get<K: Object>(&self, name: &str, watched: &Watched<K>) -> Option<Arc<K>> {
        watched.first_answer().await;
        let object = watched.informer.get(&self.namespace, name)?;
        if (watched.is_immutable)(&object) {
            watched.stop.cancel();
        }
        Some(object)
    }
}

impl<K: Object> Watched<K> {
    async fn first_answer(&self) -> bool {
        let is_known = self.informer.is_synced();
        is_known || tokio::time::timeout(FIRST_ANSWER, self.informer.synced()).await.unwrap_or(false)
    }
}

/// Everything a pod's spec refers to.
pub fn names(pod: &Pod) -> Names {
    let mut names = Names::new();
    let Some(spec) = &pod.spec else { return names };
    for container in spec.init_containers.iter().flatten().chain(&spec.containers) {
        names_of_container(container, &mut names);
    }
    for entry in super::containers::Containers::of(pod).role(super::containers::Role::Ephemeral) {
        names_of_container(&entry.spec, &mut names);
    }
    let mut add = |kind, name: &str| {
        if !name.is_empty() || kind == Kind::TrustBundles {
            names.insert((kind, name.to_owned()));
        }
    };
    for secret in spec.image_pull_secrets.iter().flatten() {
        add(Kind::Secret, &secret.name);
    }
    for volume in spec.volumes.iter().flatten() {
        if let Some(source) = &volume.config_map {
            add(Kind::ConfigMap, &source.name);
        }
        if let Some(source) = &volume.secret {
            add(Kind::Secret, source.secret_name.as_deref().unwrap_or_default());
        }
        for source in volume.projected.iter().flat_map(|projected| projected.sources.iter().flatten()) {
            if let Some(source) = &source.config_map {
                add(Kind::ConfigMap, &source.name);
            }
            if let Some(source) = &source.secret {
                add(Kind::Secret, &source.name);
            }
            if source.cluster_trust_bundle.is_some() {
                add(Kind::TrustBundles, "");
            }
        }
    }
    names
}

fn names_of_container(container: &Container, names: &mut Names) {
    for source in container.env_from.iter().flatten() {
        if let Some(reference) = &source.config_map_ref {
            names.insert((Kind::ConfigMap, reference.name.clone()));
        }
        if let Some(reference) = &source.secret_ref {
            names.insert((Kind::Secret, reference.name.clone()));
        }
    }
    for source in container.env.iter().flatten().filter_map(|variable| variable.value_from.as_ref()) {
        if let Some(reference) = &source.config_map_key_ref {
            names.insert((Kind::ConfigMap, reference.name.clone()));
        }
        if let Some(reference) = &source.secret_key_ref {
            names.insert((Kind::Secret, reference.name.clone()));
        }
    }
}
