//! Has volumes of CSI drivers attached to the nodes of the pods that use them, and detached when no pod there does.
//! (<https://kubernetes-csi.github.io/docs/external-attacher.html>)
//!
//! A VolumeAttachment is the wish, which the driver's own controller fulfils; a Node's `status.volumesAttached` says
//! what its agent may use, and `status.volumesInUse` what it uses. A volume leaves the first before it is detached, by
//! a write that fails where the node said meanwhile that it uses it: so none is detached while it is mounted.

mod plan;
#[cfg(test)]
mod tests;

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use jiff::Timestamp;
use k8s_openapi::api::{
    core::v1::{Node, PersistentVolume, PersistentVolumeClaim},
    storage::v1::{CSIDriver, VolumeAttachment},
};
use knarr_api::volume as rules;
use knarr_client::{
    Informer, ObjectKey, Outcome, WorkQueue, call, errors, informer::NODE_INDEX, lean::Pod, meta, worker,
};
use kube::api::DeleteParams;

use self::plan::{Step, Wanted, World};
use crate::{Context, Error, common::pods};

pub const NAME: &str = "attachdetach-controller";
const WORKERS: usize = 4;
/// Finds pods by the key of each claim that they name.
const BY_CLAIM: &str = "attached-by-claim";
/// Finds attachments by their node, and by their volume.
const OF_NODE: &str = "of-node";
const OF_VOLUME: &str = "of-volume";

struct Controller {
    context: Context,
    pods: Informer<Pod>,
    nodes: Informer<Node>,
    claims: Informer<PersistentVolumeClaim>,
    volumes: Informer<PersistentVolume>,
    attachments: Informer<VolumeAttachment>,
    drivers: Informer<CSIDriver>,
    /// Since when attachments wait for a node to let go of the volume, by name.
    waiting: Mutex<HashMap<String, Timestamp>>,
}

pub async fn run(context: Context) {
    let queue = WorkQueue::new(context.cancel.clone());
    let informers = &context.informers;
    let controller = Arc::new(Controller {
        pods: informers.of(),
        nodes: informers.of(),
        claims: informers.of(),
        volumes: informers.of(),
        attachments: informers.of(),
        drivers: informers.of(),
        waiting: Mutex::default(),
        context: context.clone(),
    });
    let Controller { pods, nodes, claims, volumes, attachments, drivers, .. } = &*controller;
    pods.index_by_node();
    pods.add_index(BY_CLAIM, |pod| {
        let namespace = meta::namespace(&pod.metadata);
        pod.claims().map(|(claim, _)| ObjectKey::new(namespace, claim).to_string()).collect()
    });
    attachments.add_index(OF_NODE, |one| vec![one.spec.node_name.clone()]);
    attachments.add_index(OF_VOLUME, |one| one.spec.source.persistent_volume_name.iter().cloned().collect());
    let is_synced = pods.synced().await && nodes.synced().await && claims.synced().await;
    if !(is_synced && volumes.synced().await && attachments.synced().await && drivers.synced().await) {
        return;
    }
    pods.feed(&queue, |change| {
        let pod = change.latest();
        let node = pods::node_name(pod).to_owned();
        (!node.is_empty() && pod.claims().next().is_some()).then_some(node)
    });
    nodes.feed(&queue, |change| Some(meta::name(&change.latest().metadata).to_owned()));
    let users = users_of(pods);
    claims.feed(&queue, move |change| users(&ObjectKey::of(&**change.latest())));
    let users = users_of(pods);
    volumes.feed(&queue, move |change| claim_of(change.latest()).map(|claim| users(&claim)).unwrap_or_default());
    let (users, all) = (users_of(pods), volumes.clone());
    attachments.feed(&queue, move |change| {
        // Whoever waits for the volume to leave another node can have it now.
        let spec = &change.latest().spec;
        let volume = spec.source.persistent_volume_name.as_deref().and_then(|name| all.get("", name));
        let waiting = volume.and_then(|volume| claim_of(&volume)).map(|claim| users(&claim));
        waiting.into_iter().flatten().chain([spec.node_name.clone()]).collect::<Vec<_>>()
    });
    let all = nodes.clone();
    drivers
        .feed(&queue, move |_| all.list().iter().map(|node| meta::name(&node.metadata).to_owned()).collect::<Vec<_>>());
    worker::run(NAME, queue, WORKERS, move |node| {
        let controller = controller.clone();
        async move { controller.reconcile(&node).await }
    })
    .await;
}

/// The nodes of the pods that use a claim.
fn users_of(pods: &Informer<Pod>) -> impl Fn(&ObjectKey) -> Vec<String> + Send + Sync + 'static {
    let pods = pods.clone();
    move |claim| {
        let users = pods.by_index(BY_CLAIM, &claim.to_string());
        users.iter().map(|pod| pods::node_name(pod).to_owned()).filter(|node| !node.is_empty()).collect()
    }
}

fn claim_of(volume: &PersistentVolume) -> Option<ObjectKey> {
    let claim = volume.spec.as_ref()?.claim_ref.as_ref()?;
    Some(ObjectKey::new(claim.namespace.as_deref()?, claim.name.as_deref()?))
}

impl Controller {
    async fn reconcile(&self, name: &str) -> Result<Outcome, Error> {
        let node = self.nodes.get("", name);
        let wanted = self.wanted(name);
        let of_volume = |wanted: &Wanted| self.attachments.by_index(OF_VOLUME, meta::name(&wanted.volume.metadata));
        let elsewhere = wanted.iter().flat_map(of_volume).filter(|one| one.spec.node_name != name);
        let attachments: Vec<_> = self.attachments.by_index(OF_NODE, name).into_iter().chain(elsewhere).collect();
        let users = |volume: &PersistentVolume| self.users(volume);
        let volume = |name: &str| self.volumes.get("", name);
        let now = self.context.clock.now();
        let steps = {
            let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
            waiting.retain(|name, _| self.attachments.get("", name).is_some());
            let world = World { name, node: node.as_deref(), wanted: &wanted, attachments: &attachments };
            plan::plan(&world, &volume, &users, &mut waiting, now)
        };
        let mut outcome = Outcome::Done;
        for step in steps {
            match step {
                Step::Attach(attachment) => match call::create(&self.context.client, &*attachment).await {
                    Err(error) if !errors::is_already_exists(&error) => {
                        return Err(Error::api("making a VolumeAttachment")(error));
                    }
                    _ => {}
                },
                Step::Report(node) => {
                    call::replace_status(&self.context.client, &*node)
                        .await
                        .map_err(Error::api("writing what is attached to the node"))?;
                }
                Step::Detach(attachment) => {
                    let deleted = call::delete(&self.context.client, &*attachment, DeleteParams::default());
                    deleted.await.map_err(Error::api("deleting a VolumeAttachment"))?;
                }
                Step::Say(pod, kind, reason, message) => {
                    self.context.recorder.record(knarr_client::events::reference(&*pod), kind, reason, message);
                }
                Step::Wait(time) => outcome = Outcome::After(time),
            }
        }
        Ok(outcome)
    }

    /// The volumes that pods of the node use and that have to be attached for that.
    fn wanted(&self, node: &str) -> Vec<Wanted> {
        let mut wanted: Vec<Wanted> = Vec::new();
        for pod in self.pods.by_index(NODE_INDEX, node).into_iter().filter(|pod| !pods::is_terminal(pod)) {
            for (claim, _) in pod.claims() {
                let Some(volume) = self.volume_of(meta::namespace(&pod.metadata), &claim) else { continue };
                match wanted.iter_mut().find(|one| one.volume.metadata.name == volume.metadata.name) {
                    Some(known) => known.pods.push(pod.clone()),
                    None => wanted.push(Wanted { volume, pods: vec![pod.clone()] }),
                }
            }
        }
        wanted
    }

    fn volume_of(&self, namespace: &str, claim: &str) -> Option<Arc<PersistentVolume>> {
        let claim = self.claims.get(namespace, claim).filter(|claim| rules::is_bound(claim))?;
        let volume = self.volumes.get("", claim.spec.as_ref()?.volume_name.as_deref()?)?;
        let driver = self.drivers.get("", &volume.spec.as_ref()?.csi.as_ref()?.driver);
        // A driver that nobody describes is taken to want it.
        let attaches = driver.is_none_or(|driver| driver.spec.attach_required != Some(false));
        (attaches && rules::is_bound_to(&volume, &claim)).then_some(volume)
    }

    fn users(&self, volume: &PersistentVolume) -> Vec<Arc<Pod>> {
        claim_of(volume).map(|claim| self.pods.by_index(BY_CLAIM, &claim.to_string())).unwrap_or_default()
    }
}
