//! The drivers of this node: they register as plugins, and the API is told of each what it says of itself.
//! (<https://kubernetes-csi.github.io/docs/csi-node-object.html>)

use std::sync::{Arc, PoisonError};

use async_trait::async_trait;
use k8s_openapi::api::{
    core::v1::Node,
    storage::v1::{CSINode, CSINodeDriver},
};
use knarr_client::{call, errors};
use knarr_csi::{Driver, messages::NodeGetInfoRequest};

use super::{Csi, object};
use crate::plugins::{Handler, Plugin};

/// Writes that others came before.
const TRIES: u32 = 5;

/// A driver that can be called.
pub struct Registered {
    plugin: Plugin,
    driver: Arc<Driver>,
}

impl Csi {
    pub(super) fn driver(&self, name: &str) -> Option<Arc<Driver>> {
        let drivers = self.drivers.lock().unwrap_or_else(PoisonError::into_inner);
        drivers.get(name).map(|known| known.driver.clone())
    }

    /// The node's CSINode is there even while no driver is: schedulers tell by it that it has none.
    pub async fn make_object(&self) -> Result<(), kube::Error> {
        self.change_object(|_| {}).await
    }

    async fn change_object(&self, change: impl Fn(&mut Vec<CSINodeDriver>)) -> Result<(), kube::Error> {
        let mut tries = TRIES;
        loop {
            tries -= 1;
            match self.try_change(&change).await {
                Err(error) if tries > 0 && (errors::is_conflict(&error) || errors::is_already_exists(&error)) => {}
                done => return done,
            }
        }
    }

    async fn try_change(&self, change: impl Fn(&mut Vec<CSINodeDriver>)) -> Result<(), kube::Error> {
        if let Some(known) = call::get::<CSINode>(&self.client, "", &self.node_name).await? {
            let mut changed = known.clone();
            change(&mut changed.spec.drivers);
            return if changed == known { Ok(()) } else { call::replace(&self.client, &changed).await.map(drop) };
        }
        let Some(node) = call::get::<Node>(&self.client, "", &self.node_name).await? else { return Ok(()) };
        let mut made = object::csi_node(&node);
        change(&mut made.spec.drivers);
        call::create(&self.client, &made).await.map(drop)
    }

    async fn change_node(&self, change: impl FnOnce(&Node) -> Result<serde_json::Value, String>) -> Result<(), String> {
        let failed = |error: kube::Error| errors::message(&error);
        let node = call::get::<Node>(&self.client, "", &self.node_name).await.map_err(failed)?;
        let node = node.ok_or_else(|| format!("nodes {:?} not found", self.node_name))?;
        call::merge(&self.client, &node, change(&node)?).await.map(drop).map_err(failed)
    }

    async fn install(&self, plugin: &Plugin, driver: &Driver) -> Result<(), String> {
        let info = driver.call(&NodeGetInfoRequest {}).await.map_err(|error| error.to_string())?;
        if info.node_id.is_empty() {
            return Err("error adding CSI driver node info: driverNodeID must not be empty".to_owned());
        }
        let entry = object::entry(&plugin.name, &info);
        let topology = info.accessible_topology.unwrap_or_default().segments;
        let change = |node: &Node| object::node_with(node, &plugin.name, Some(&info.node_id), &topology);
        let failed = |why| format!("error updating Node object with CSI driver node info: {why}");
        self.change_node(change).await.map_err(failed)?;
        let change = |drivers: &mut Vec<CSINodeDriver>| {
            drivers.retain(|one| one.name != entry.name);
            drivers.push(entry.clone());
        };
        let failed =
            |error| format!("error updating CSINode object with CSI driver node info: {}", errors::message(&error));
        self.change_object(change).await.map_err(failed)
    }

    async fn uninstall(&self, name: &str) -> Result<(), String> {
        let without = |drivers: &mut Vec<CSINodeDriver>| drivers.retain(|one| one.name != name);
        self.change_object(without).await.map_err(|error| errors::message(&error))?;
        self.change_node(|node| object::node_with(node, name, None, &Default::default())).await
    }
}

#[async_trait]
impl Handler for Csi {
    async fn register(&self, plugin: &Plugin) -> Result<(), String> {
        let Plugin { name, endpoint, versions } = plugin;
        if !versions.iter().any(|version| version.trim_start_matches('v').starts_with("1.")) {
            let why = format!("None of the versions specified {versions:?} are supported");
            let endpoint = endpoint.display();
            return Err(format!("validation failed for CSI Driver {name} at endpoint {endpoint}: {why}"));
        }
        let driver = Arc::new(Driver::new(endpoint.clone()));
        self.install(plugin, &driver).await?;
        let registered = Registered { plugin: plugin.clone(), driver };
        self.drivers.lock().unwrap_or_else(PoisonError::into_inner).insert(name.clone(), registered);
        // What could not be undone without it can be now.
        self.sweep.notify_one();
        Ok(())
    }

    async fn deregister(&self, plugin: &Plugin) {
        {
            let mut drivers = self.drivers.lock().unwrap_or_else(PoisonError::into_inner);
            if drivers.get(&plugin.name).is_none_or(|known| known.plugin != *plugin) {
                return;
            }
            drivers.remove(&plugin.name);
        }
        if let Err(error) = self.uninstall(&plugin.name).await {
            tracing::warn!(driver = plugin.name, error, "the API could not be told that a CSI driver is gone");
        }
    }
}
