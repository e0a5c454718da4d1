//! Follows Services and EndpointSlices in the API, and keeps the catalog and the proxy at what they say.

use std::{
    collections::HashSet,
    net::IpAddr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use k8s_openapi::api::{
    core::v1::{Node, Pod, Service},
    discovery::v1::EndpointSlice,
};
use knarr_client::{Informer, Informers, ObjectKey, meta};
use tokio::{sync::Notify, time::Instant};

use super::{Catalog, Proxy, ServiceView, health::HealthPorts};
use crate::error::{NetworkError, Result};

const SERVICE_NAME: &str = "kubernetes.io/service-name";
const SERVICE_INDEX: &str = "service";
/// How long after a failure all Services are tried again.
const RETRY_AFTER: Duration = Duration::from_secs(1);
/// How often the table is looked at for changes by others, such as `nft flush ruleset`.
const CHECK_EVERY: Duration = if cfg!(test) { Duration::from_millis(200) } else { Duration::from_secs(30) };

/// Services that changed since they were last looked at.
#[derive(Default)]
struct Dirty {
    keys: Mutex<HashSet<ObjectKey>>,
    wake: Notify,
}

impl Dirty {
    fn add(&self, keys: impl IntoIterator<Item = ObjectKey>) {
        self.keys.lock().unwrap_or_else(PoisonError::into_inner).extend(keys);
        self.wake.notify_one();
    }

    fn take(&self) -> HashSet<ObjectKey> {
        std::mem::take(&mut *self.keys.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// What the loop needs of the rest of the network.
pub trait Table: Send + Sync + 'static {
    /// A number that changes whenever anyone changes the host's ruleset.
    fn generation(&self) -> Result<u32>;
    /// Makes again whatever of the table is missing, and reads what it has; with the ruleset's number at that time.
    fn open(&self) -> Result<(Proxy, u32)>;
}

/// Follows the API until the informers are cancelled. A panic in it is for the caller to restart it after.
///
/// `pods` are those of this node, if its agent shares them. A pod that is being deleted is told to stop at once,
/// while its EndpointSlice says so only after a controller has written it: with the pods at hand, no new connection
/// goes to it in between.
pub async fn watch(
    node: String,
    informers: Informers,
    pods: Option<Informer<Pod>>,
    catalog: Arc<Catalog>,
    table: Arc<dyn Table>,
) {
    let services = informers.of::<Service>();
    let slices = informers.of::<EndpointSlice>();
    slices.add_index(SERVICE_INDEX, |slice| service_of(slice).map(|key| key.to_string()).into_iter().collect());
    let nodes = informers.of::<Node>();
    let dirty = Arc::new(Dirty::default());
    let (for_zone, me, all) = (dirty.clone(), node.clone(), services.clone());
    nodes.on_change(move |change| {
        let [old, new] = [&change.old, &change.new].map(|node| meta::zone(&node.as_ref()?.metadata));
        let is_own = change.latest().metadata.name.as_deref() == Some(&*me);
        // Who is near changes for all Services at once.
        if is_own && old != new {
            for_zone.add(all.list().iter().map(|service| ObjectKey::of_meta(&service.metadata)));
        }
    });
    let for_services = dirty.clone();
    services.on_change(move |change| for_services.add([ObjectKey::of_meta(&change.latest().metadata)]));
    let for_slices = dirty.clone();
    slices.on_change(move |change| {
        for_slices.add([&change.old, &change.new].into_iter().flatten().filter_map(|slice| service_of(slice)));
    });
    if let Some(pods) = &pods {
        let (for_pods, catalog) = (dirty.clone(), catalog.clone());
        pods.on_change(move |change| {
            let pod = change.latest();
            if pod.metadata.deletion_timestamp.is_some() {
                for_pods.add(pod_ips(pod).flat_map(|ip| catalog.by_ip(ip)).map(|view| view.key.clone()));
            }
        });
    }
    // Before all is known, a Service would look as if it had no endpoints, and what a former process left for it
    // would be taken away.
    if !(services.synced().await && slices.synced().await && nodes.synced().await) {
        return;
    }
    let follower = Follower { node, nodes, services, slices, pods, catalog, table, dirty };
    follower.follow().await;
}

fn pod_ips(pod: &Pod) -> impl Iterator<Item = IpAddr> {
    let status = pod.status.as_ref();
    let ips = status.into_iter().flat_map(|status| status.pod_ips.iter().flatten());
    ips.filter_map(|ip| ip.ip.parse().ok())
}

fn service_of(slice: &EndpointSlice) -> Option<ObjectKey> {
    let name = slice.metadata.labels.as_ref()?.get(SERVICE_NAME)?;
    Some(ObjectKey::new(slice.metadata.namespace.as_deref()?, name))
}

struct Follower {
    node: String,
    nodes: Informer<Node>,
    services: Informer<Service>,
    slices: Informer<EndpointSlice>,
    pods: Option<Informer<Pod>>,
    catalog: Arc<Catalog>,
    table: Arc<dyn Table>,
    dirty: Arc<Dirty>,
}

impl Follower {
    async fn follow(self) {
        let mut next_check = Instant::now() + CHECK_EVERY;
        let mut session = None;
        let mut health = HealthPorts::default();
        loop {
            let pass = self.pass(session.take(), &mut health).await;
            health.serve().await;
            let pause = match pass {
                Ok(proceeded) => {
                    session = Some(proceeded);
                    next_check.saturating_duration_since(Instant::now())
                }
                Err(error) => {
                    tracing::error!(
                        error = &error as &dyn std::error::Error,
                        "the Service proxy is behind; trying again"
                    );
                    tokio::time::sleep(RETRY_AFTER).await;
                    continue;
                }
            };
            let woken = tokio::time::timeout(pause, self.dirty.wake.notified()).await;
            if woken.is_err() {
                next_check = Instant::now() + CHECK_EVERY;
                session = session.filter(|session| self.is_untouched(session));
            }
        }
    }

    /// Brings catalog and table up to what the informers have: the changed Services, or all of them in a new session.
    async fn pass(&self, session: Option<Session>, health: &mut HealthPorts) -> Result<Session> {
        let is_new = session.is_none();
        let Session { mut proxy, generation } = match session {
            Some(session) => session,
            None => {
                let table = self.table.clone();
                let (proxy, generation) = blocking(move || table.open()).await?;
                Session { proxy, generation }
            }
        };
        let mut keys = self.dirty.take();
        // After the keys: a zone that changes from here on makes all of them dirty again.
        let own = self.nodes.get("", &self.node);
        proxy.set_zone(own.and_then(|node| meta::zone(&node.metadata).map(str::to_owned)));
        if is_new {
            keys.extend(self.services.list().iter().map(|service| ObjectKey::of_meta(&service.metadata)));
        }
        // In a fixed order, so that of two that want the same the same one gets it; those that wait come last.
        let waiting = if keys.is_empty() { Vec::new() } else { proxy.waiting() };
        let mut keys: Vec<_> = keys.into_iter().filter(|key| !waiting.contains(key)).collect();
        keys.sort();
        let views: Vec<_> =
            keys.into_iter().chain(waiting).map(|key| (self.view(&key), key)).map(|(view, key)| (key, view)).collect();
        for (key, view) in &views {
            self.catalog.set(key, view.clone());
            let local = view.as_ref().filter(|view| view.external_local && view.proxied);
            health.set(key, local.and_then(|view| Some((view.health_port?, view.ready_on(&self.node)))));
        }
        if is_new {
            self.catalog.set_complete();
        }
        blocking(move || {
            proxy.update(&views)?;
            if is_new {
                proxy.sweep()?;
            }
            // Counted, not read: what somebody else does in between must not be taken for our own.
            let generation = generation.wrapping_add(proxy.take_commits());
            Ok(Session { proxy, generation })
        })
        .await
    }

    fn view(&self, key: &ObjectKey) -> Option<Arc<ServiceView>> {
        let service = self.services.get(&key.namespace, &key.name)?;
        let slices = self.slices.by_index(SERVICE_INDEX, &key.to_string());
        let mut view = ServiceView::new(&service, &slices);
        if let Some(pods) = &self.pods {
            let pod = |name: &str| pods.get(&key.namespace, name);
            view.end(|name| pod(name).is_some_and(|pod| pod.metadata.deletion_timestamp.is_some()));
        }
        Some(Arc::new(view))
    }

    fn is_untouched(&self, session: &Session) -> bool {
        self.table.generation().is_ok_and(|generation| generation == session.generation)
    }
}

/// A proxy that knows what is in the table, and the number the ruleset has if nobody else has changed it since.
struct Session {
    proxy: Proxy,
    generation: u32,
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    tokio::task::spawn_blocking(work).await.unwrap_or(Err(NetworkError::WorkerGone))
}
