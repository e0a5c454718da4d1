//! The drivers that registered, and what becomes of what one offered that went away.

use std::{
    collections::HashMap,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use k8s_openapi::api::resource::v1::ResourceSlice;
use knarr_client::{call, errors, meta};
use knarr_grpc::unix::Channel;
use kube::api::{Api, DeleteParams, ListParams};
use tokio::sync::Notify;

use super::wire::{self, Driver};
use crate::plugins::{Handler, Plugin};

/// A driver that is replaced by a newer one is away for a moment.
const AWAY: Duration = Duration::from_secs(30);

/// By name: the instances of each, the latest last. Two are there while one takes over from the other.
type Known = HashMap<String, Vec<(PathBuf, Arc<Driver>)>>;

#[derive(Default)]
pub struct Drivers {
    known: Mutex<Known>,
    gone: Notify,
}

impl Drivers {
    pub fn get(&self, name: &str) -> Option<Arc<Driver>> {
        self.known().get(name)?.last().map(|(_, driver)| driver.clone())
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes devices of this node out of the API whose driver is gone, or has not come back since the node was started:
    /// a pod that is given one would wait for the driver.
    pub async fn tidy(&self, client: &kube::Client, node: &str) {
        loop {
            tokio::time::sleep(AWAY).await;
            if let Err(error) = self.remove_orphans(client, node).await {
                tracing::warn!(error = errors::message(&error), "devices of drivers that are gone stay offered");
                continue;
            }
            self.gone.notified().await;
        }
    }

    async fn remove_orphans(&self, client: &kube::Client, node: &str) -> Result<(), kube::Error> {
        let slices: Api<ResourceSlice> = Api::all(client.clone());
        let own = slices.list(&ListParams::default().fields(&format!("spec.nodeName={node}"))).await?;
        for slice in own.items.iter().filter(|slice| self.get(&slice.spec.driver).is_none()) {
            let (slice_name, driver) = (meta::name(&slice.metadata), &slice.spec.driver);
            tracing::info!(slice = slice_name, driver, "the driver of these devices is gone");
            call::delete(client, slice, DeleteParams::default()).await?;
        }
        Ok(())
    }
}

#[async_trait]
impl Handler for Drivers {
    async fn register(&self, plugin: &Plugin) -> Result<(), String> {
        let Plugin { name, endpoint, versions } = plugin;
        if versions.is_empty() {
            return Err("empty list of supported gRPC services (aka supported versions)".to_owned());
        }
        let package = wire::package(versions);
        let package = package.ok_or_else(|| format!("none of the services {versions:?} is spoken by this node"))?;
        let driver = Arc::new(Driver { channel: Channel::new(endpoint.clone()), package });
        let mut known = self.known();
        let instances = known.entry(name.clone()).or_default();
        instances.retain(|(other, _)| other != endpoint);
        instances.push((endpoint.clone(), driver));
        Ok(())
    }

    async fn deregister(&self, plugin: &Plugin) {
        let mut known = self.known();
        if let Some(instances) = known.get_mut(&plugin.name) {
            instances.retain(|(endpoint, _)| *endpoint != plugin.endpoint);
            if instances.is_empty() {
                known.remove(&plugin.name);
                self.gone.notify_one();
            }
        }
    }
}
