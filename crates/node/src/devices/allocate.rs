//! Giving devices to a pod's containers, and taking them back.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use k8s_openapi::api::core::v1::{Container, Pod};
use knarr_cri::v1::{CdiDevice, Device, Mount};

use super::{
    Devices,
    choose::{Choice, Ids, Question},
    ledger::Grant,
    plugin::Plugin,
};
use crate::{checkpoint, pod::qos};

/// Why a pod has no devices, in upstream's words.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum AllocateError {
    #[error("pod {uid:?} container {container:?} changed request for resource {resource:?} from {from} to {to}")]
    Changed { uid: String, container: String, resource: String, from: usize, to: usize },
    #[error("cannot allocate unregistered device {0}")]
    Unregistered(String),
    #[error("no healthy devices present; cannot allocate unhealthy devices {0}")]
    NoneHealthy(String),
    #[error("requested number of devices unavailable for {resource}. Requested: {requested}, Available: {available}")]
    Unavailable { resource: String, requested: usize, available: usize },
    #[error("{0}")]
    Plugin(String),
    #[error("failed to write checkpoint file {path:?}: {why}")]
    Checkpoint { path: PathBuf, why: String },
}

/// What a container gets for all its devices.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Given {
    pub envs: BTreeMap<String, String>,
    pub mounts: Vec<Mount>,
    pub devices: Vec<Device>,
    pub annotations: BTreeMap<String, String>,
    pub cdi_devices: Vec<CdiDevice>,
}

/// What earlier init containers had, by resource: it is free again when they have ended.
type Reusable = BTreeMap<String, Ids>;

impl Devices {
    /// Gives the pod's containers their devices. Those that have theirs keep them.
    pub async fn allocate(&self, pod: &Pod) -> Result<(), AllocateError> {
        let Some(spec) = &pod.spec else { return Ok(()) };
        let uid = pod.metadata.uid.as_deref().unwrap_or_default();
        let init = spec.init_containers.iter().flatten().map(|container| (container, true));
        let all: Vec<_> = init.chain(spec.containers.iter().map(|container| (container, false))).collect();
        // Whoever has all waits for nobody.
        if all.iter().all(|(container, _)| self.has_all(uid, container)) {
            return Ok(());
        }
        let turn = self.turn.lock().await;
        let mut reusable = Reusable::new();
        let mut is_new = false;
        for (container, is_init) in all {
            for (resource, required) in self.wanted(container) {
                let free = reusable.entry(resource.clone()).or_default();
                let (held, given) = self.allocate_one(uid, &container.name, &resource, required, free).await?;
                is_new |= given;
                let ends = is_init && container.restart_policy.as_deref() != Some("Always");
                *free = if ends { &*free | &held } else { &*free - &held };
            }
        }
        if is_new { self.save(&turn).await } else { Ok(()) }
    }

    fn has_all(&self, uid: &str, container: &Container) -> bool {
        let wanted = self.wanted(container);
        let state = self.state();
        let grants = state.ledger.of(uid, &container.name);
        wanted.iter().all(|(resource, amount)| {
            let grant = grants.and_then(|grants| grants.get(resource));
            grant.is_some_and(|grant| grant.devices.len() == *amount)
        })
    }

    /// What a container has of one resource from now on, and whether it had nothing before.
    async fn allocate_one(
        &self,
        uid: &str,
        container: &str,
        resource: &str,
        required: usize,
        reusable: &Ids,
    ) -> Result<(Ids, bool), AllocateError> {
        let (choice, plugin) = {
            let state = self.state();
            if let Some(grant) = state.ledger.of(uid, container).and_then(|grants| grants.get(resource)) {
                let (from, to) = (grant.devices.len(), required);
                if from == to {
                    return Ok((grant.devices.clone(), false));
                }
                let (uid, container, resource) = (uid.to_owned(), container.to_owned(), resource.to_owned());
                return Err(AllocateError::Changed { uid, container, resource, from, to });
            }
            let known = state.resources.get(resource);
            let in_use = state.ledger.in_use(resource);
            let healthy = known.map(super::Resource::healthy);
            let choice = Choice::begin(Question { resource, required, reusable, healthy, in_use: &in_use })?;
            (choice, known.and_then(|known| known.plugin.clone()))
        };
        let plugin = plugin.ok_or_else(|| AllocateError::NoneHealthy(resource.to_owned()))?;
        let preferred = match choice.is_made() {
            true => Vec::new(),
            false => plugin.prefer(&choice.all(), &choice.taken, required).await.map_err(AllocateError::Plugin)?,
        };
        let devices = choice.finish(&preferred);
        let response = plugin.allocate(&devices).await.map_err(AllocateError::Plugin)?;
        let grant = Grant { devices: devices.clone(), response };
        self.state().ledger.grant(uid, container, resource, grant);
        Ok((devices, true))
    }

    /// What a container asks for that plugins offer, or did when others got it.
    fn wanted(&self, container: &Container) -> Vec<(String, usize)> {
        let limits = container.resources.as_ref().and_then(|resources| resources.limits.as_ref());
        let state = self.state();
        let names = limits.into_iter().flat_map(BTreeMap::keys);
        let own = names.filter(|name| state.resources.contains_key(*name) || !state.ledger.in_use(name).is_empty());
        let amounts = own.map(|name| (name.clone(), usize::try_from(qos::whole(limits, name)).unwrap_or(0)));
        amounts.filter(|(_, amount)| *amount > 0).collect()
    }

    /// Has plugins make ready what a container is about to start with, and says what it gets.
    pub async fn prepare(&self, pod: &Pod, container: &str) -> Result<Given, AllocateError> {
        // Only a pod that ran before its resource had a plugin has none yet.
        self.allocate(pod).await?;
        let uid = pod.metadata.uid.as_deref().unwrap_or_default();
        let grants: Vec<(String, Grant, Option<Arc<Plugin>>)> = {
            let state = self.state();
            let grants = state.ledger.of(uid, container).into_iter().flatten();
            let plugin = |resource: &String| state.resources.get(resource).and_then(|known| known.plugin.clone());
            grants.map(|(resource, grant)| (resource.clone(), grant.clone(), plugin(resource))).collect()
        };
        let mut given = Given::default();
        for (_, Grant { devices, response }, plugin) in grants {
            if let Some(plugin) = plugin {
                plugin.pre_start(&devices).await.map_err(AllocateError::Plugin)?;
            }
            given.envs.extend(response.envs);
            given.annotations.extend(response.annotations);
            // Several devices of one plugin may come with the same library.
            let paths: BTreeSet<String> = given.mounts.iter().map(|mount| mount.container_path.clone()).collect();
            given.mounts.extend(response.mounts.into_iter().filter(|mount| !paths.contains(&mount.container_path)));
            let paths: BTreeSet<String> = given.devices.iter().map(|device| device.container_path.clone()).collect();
            given.devices.extend(response.devices.into_iter().filter(|device| !paths.contains(&device.container_path)));
            let names: BTreeSet<String> = given.cdi_devices.iter().map(|device| device.name.clone()).collect();
            given.cdi_devices.extend(response.cdi_devices.into_iter().filter(|device| !names.contains(&device.name)));
        }
        Ok(given)
    }

    /// The pod has ended, or was not taken in.
    pub async fn release(&self, uid: &str) {
        self.keep_only(|other| other != uid).await;
    }

    /// Takes back what pods have that are not there any more.
    pub async fn keep_only(&self, keeps: impl Fn(&str) -> bool) {
        if self.state().ledger.holders().iter().all(|uid| keeps(uid)) {
            return;
        }
        let turn = self.turn.lock().await;
        if self.state().ledger.retain(keeps)
            && let Err(error) = self.save(&turn).await
        {
            // It is taken back again when the agent is started the next time.
            tracing::warn!(%error, "that devices are free again cannot be written down");
        }
    }

    pub(super) async fn save(&self, path: &Path) -> Result<(), AllocateError> {
        let (ledger, file) = (self.state().ledger.clone(), path.to_owned());
        let written = tokio::task::spawn_blocking(move || checkpoint::write(&file, &ledger)).await;
        let failed = |error: io::Error| AllocateError::Checkpoint { path: path.to_owned(), why: error.to_string() };
        written.map_err(io::Error::other).and_then(|written| written).map_err(failed)
    }
}
