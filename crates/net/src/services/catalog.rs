//! All Services as they were last seen, found by name and by address: what DNS answers from.

use std::{
    collections::{HashMap, HashSet},
    net::IpAddr,
    sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard},
};

use knarr_client::ObjectKey;

use super::ServiceView;

/// All Services as they were last seen.
#[derive(Default)]
pub struct Catalog {
    services: RwLock<Services>,
}

#[derive(Default)]
struct Services {
    by_name: HashMap<ObjectKey, Arc<ServiceView>>,
    /// Services by their own addresses and those of their endpoints.
    by_ip: HashMap<IpAddr, HashSet<ObjectKey>>,
    namespaces: HashMap<String, usize>,
    complete: bool,
}

impl Catalog {
    pub fn get(&self, namespace: &str, name: &str) -> Option<Arc<ServiceView>> {
        self.read().by_name.get(&ObjectKey::new(namespace, name)).cloned()
    }

    /// The Services that have an address, themselves or by an endpoint; in order of their names.
    pub fn by_ip(&self, ip: IpAddr) -> Vec<Arc<ServiceView>> {
        let services = self.read();
        let mut keys: Vec<_> = services.by_ip.get(&ip).into_iter().flatten().collect();
        keys.sort();
        keys.into_iter().filter_map(|key| services.by_name.get(key).cloned()).collect()
    }

    pub fn has_namespace(&self, namespace: &str) -> bool {
        self.read().namespaces.contains_key(namespace)
    }

    /// False until every Service that existed at the start is in: what is missing then is not known to be missing.
    pub fn is_complete(&self) -> bool {
        self.read().complete
    }

    pub fn set_complete(&self) {
        self.write().complete = true;
    }

    pub fn set(&self, key: &ObjectKey, view: Option<Arc<ServiceView>>) {
        let mut services = self.write();
        if let Some(former) = services.by_name.remove(key) {
            for ip in addresses(&former) {
                if let Some(keys) = services.by_ip.get_mut(&ip) {
                    keys.remove(key);
                    if keys.is_empty() {
                        services.by_ip.remove(&ip);
                    }
                }
            }
            if let Some(count) = services.namespaces.get_mut(&key.namespace) {
                *count -= 1;
                if *count == 0 {
                    services.namespaces.remove(&key.namespace);
                }
            }
        }
        if let Some(view) = view {
            for ip in addresses(&view) {
                services.by_ip.entry(ip).or_default().insert(key.clone());
            }
            *services.namespaces.entry(key.namespace.clone()).or_default() += 1;
            services.by_name.insert(key.clone(), view);
        }
    }

    fn read(&self) -> RwLockReadGuard<'_, Services> {
        self.services.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Services> {
        self.services.write().unwrap_or_else(PoisonError::into_inner)
    }
}

fn addresses(view: &ServiceView) -> impl Iterator<Item = IpAddr> {
    view.cluster_ips.iter().copied().chain(view.endpoints.iter().map(|endpoint| endpoint.ip))
}
