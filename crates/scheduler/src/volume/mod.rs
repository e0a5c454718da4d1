//! Volumes as a reason for a node: claims that are bound tie a pod to where their volume is, and claims that wait for
//! their first consumer get a volume where the pod goes.
//! (<https://kubernetes.io/docs/concepts/storage/storage-classes/#volume-binding-mode>)
//!
//! [`picture`] holds claims, volumes and classes as the watches show them, and what was decided but not seen yet.
//! [`Wishes`] says of a node whether it can take a pod's volumes and what would be bound or made there; [`bind`] writes
//! that and waits until it is so, before the pod itself is bound.

pub mod bind;
mod capacity;
mod limits;
mod picture;
#[cfg(test)]
mod tests;
mod zone;

use std::{collections::BTreeSet, sync::Arc};

use k8s_openapi::api::{
    core::v1::{PersistentVolume, PersistentVolumeClaim},
    storage::v1::StorageClass,
};
use knarr_api::{placement::node_selector_matches, volume};
use knarr_client::{ObjectKey, meta};

pub use picture::Picture;

use crate::{
    cluster::{Cluster, NodeInfo},
    filter::{Plugin, Refusal},
    pod::PodInfo,
    tally::Gone,
    terms::Labels,
};

const TOO_MANY: &str = "node(s) exceed max volume count";
const NO_ROOM: &str = "node(s) did not have enough free storage";
const NODE_CONFLICT: &str = "node(s) didn't match PersistentVolume's node affinity";
const BIND_CONFLICT: &str = "node(s) didn't find available persistent volumes to bind";
const VOLUME_MISSING: &str = "node(s) unavailable due to one or more pvc(s) bound to non-existent pv(s)";
const ZONE_CONFLICT: &str = "node(s) had no available volume zone";
const IN_USE: &str = "node(s) unavailable due to PersistentVolumeClaim with ReadWriteOncePod access mode already in-use \
                      by another pod";

/// What a pod's claims ask of a node, worked out once for a pod.
#[derive(Default)]
pub struct Wishes<'a> {
    /// The volumes that are bound already; `None` where one is gone.
    bound: Vec<Option<&'a PersistentVolume>>,
    /// Claims to be bound where the pod goes, the smallest first.
    unbound: Vec<Claim<'a>>,
    /// Where the volumes of the claims that the pod names are, by their labels.
    zones: Vec<zone::Zone<'a>>,
    /// Another pod uses a claim of this pod which only one pod may use.
    in_use: bool,
    /// Of drivers that may take only so many on one node.
    attached: BTreeSet<limits::Id<'a>>,
    picture: Option<&'a Picture>,
}

struct Claim<'a> {
    object: &'a Arc<PersistentVolumeClaim>,
    key: ObjectKey,
    class: &'a StorageClass,
    /// Its volume is being made for this node.
    selected: Option<&'a str>,
}

/// What has to be written for a pod's volumes to be on its node.
#[derive(Clone, Debug, Default)]
pub struct Plan {
    /// Volumes that are there, each with the claim that gets it.
    pub bindings: Vec<(Arc<PersistentVolume>, Arc<PersistentVolumeClaim>)>,
    /// Claims whose volume is to be made for the node.
    pub provisions: Vec<Arc<PersistentVolumeClaim>>,
}

impl Plan {
    pub fn is_empty(&self) -> bool {
        self.bindings.is_empty() && self.provisions.is_empty()
    }
}

impl<'a> Wishes<'a> {
    /// As if the pods with the uids in `gone` were gone. An error is why no node at all can take the pod.
    pub fn of(pod: &PodInfo, cluster: &'a Cluster, gone: &Gone<'_>) -> Result<Self, String> {
        let picture = &cluster.volumes;
        let attached = limits::of_pod(&pod.object, picture).collect();
        let mut wishes = Self { picture: Some(picture), attached, ..Self::default() };
        for (name, is_own) in pod.object.claims() {
            let key = ObjectKey::new(&pod.namespace, &name);
            let claim = picture.claim(&key).ok_or_else(|| match is_own {
                true => {
                    format!("waiting for ephemeral volume controller to create the persistentvolumeclaim {name:?}")
                }
                false => format!("persistentvolumeclaim {name:?} not found"),
            })?;
            check_usable(claim, &name, is_own, pod)?;
            if only_one_pod_may_use(claim) {
                let mut others = cluster.pods_in(&pod.namespace);
                wishes.in_use |= others.any(|other| {
                    let is_other = other.uid != pod.uid && !gone.contains(&*other.uid);
                    is_other && other.object.uses_claim(&name)
                });
            }
            if volume::is_bound(claim) {
                let named = claim.spec.as_ref().and_then(|spec| spec.volume_name.as_deref());
                let volume = named.and_then(|name| picture.volume(name)).map(Arc::as_ref);
                // Upstream reads no labels of volumes that are made for the pod alone.
                wishes.zones.extend(volume.filter(|_| !is_own).into_iter().flat_map(zone::zones));
                wishes.bound.push(volume);
                continue;
            }
            let is_named =
                claim.spec.as_ref().is_some_and(|spec| spec.volume_name.as_deref().is_some_and(|n| !n.is_empty()));
            let class = picture.class(volume::class_of_claim(claim)).filter(|class| waits_for_consumer(class));
            let Some(class) = class.filter(|_| !is_named) else {
                return Err("pod has unbound immediate PersistentVolumeClaims".to_owned());
            };
            let selected = picture.selected(&key).or_else(|| volume::selected_node(claim));
            wishes.unbound.push(Claim { object: claim, key, class, selected });
        }
        wishes.unbound.sort_by_key(|claim| volume::requested(claim.object));
        Ok(wishes)
    }

    /// A claim for one pod is free again once its user is gone, so that an important pod may take it over.
    pub fn check_users(&self) -> Result<(), Refusal> {
        match self.in_use {
            true => Err(Refusal::new(Plugin::VolumeUsers, IN_USE, true)),
            false => Ok(()),
        }
    }

    /// With other pods gone there may be room.
    pub fn check_limits(&self, node: &NodeInfo) -> Result<(), Refusal> {
        let pods = node.pods.values().map(|pod| &*pod.object);
        let allows = |picture: &&Picture| limits::allow(&node.name, &self.attached, pods, picture);
        match self.attached.is_empty() || self.picture.as_ref().is_none_or(allows) {
            true => Ok(()),
            false => Err(Refusal::new(Plugin::VolumeLimits, TOO_MANY, true)),
        }
    }

    pub fn check_zones(&self, node: &NodeInfo) -> Result<(), Refusal> {
        match zone::is_in(&self.zones, &node.labels) {
            true => Ok(()),
            false => Err(Refusal::new(Plugin::VolumeZones, ZONE_CONFLICT, false)),
        }
    }

    pub fn check(&self, node: &NodeInfo) -> Result<(), Refusal> {
        if self.bound.is_empty() && self.unbound.is_empty() {
            return Ok(());
        }
        self.on(&node.name, &node.labels).map(drop).map_err(|reasons| Refusal {
            plugin: Plugin::Volumes,
            reasons: reasons.into_iter().map(str::to_owned).collect(),
            resolvable: false,
        })
    }

    /// What would be bound or made if the pod went to this node; or why it cannot.
    pub fn on(&self, node: &str, labels: &Labels) -> Result<Plan, Vec<&'static str>> {
        let mut reasons = Vec::new();
        if self.bound.iter().flatten().any(|volume| !reaches(volume, node, labels)) {
            reasons.push(NODE_CONFLICT);
        }
        let plan = self.bind_on(node, labels);
        reasons.extend(plan.as_ref().err());
        if self.bound.iter().any(Option::is_none) {
            reasons.push(VOLUME_MISSING);
        }
        match plan {
            Ok(plan) if reasons.is_empty() => Ok(plan),
            _ => Err(reasons),
        }
    }

    fn bind_on(&self, node: &str, labels: &Labels) -> Result<Plan, &'static str> {
        let mut plan = Plan::default();
        let Some(picture) = self.picture else { return Ok(plan) };
        let mut taken: BTreeSet<&str> = BTreeSet::new();
        for claim in &self.unbound {
            if let Some(selected) = claim.selected {
                if selected != node {
                    return Err(BIND_CONFLICT);
                }
                plan.provisions.push(claim.object.clone());
                continue;
            }
            let free = picture.free_for(&claim.key).filter(|volume| !taken.contains(meta::name(&volume.metadata)));
            match volume::find(claim.object, free, true, |volume| reaches(volume, node, labels)) {
                Some(found) => {
                    taken.insert(meta::name(&found.metadata));
                    plan.bindings.push((found.clone(), claim.object.clone()));
                }
                None if !can_be_made(claim.class, labels) => return Err(BIND_CONFLICT),
                None if !capacity::is_enough(claim.object, claim.class, labels, picture) => return Err(NO_ROOM),
                None => plan.provisions.push(claim.object.clone()),
            }
        }
        Ok(plan)
    }
}

/// Decides for good what is bound and made on a node, so that the next pod finds it taken.
pub fn reserve(pod: &PodInfo, cluster: &mut Cluster, index: usize) -> Plan {
    let node = &cluster.nodes[index];
    let plan = Wishes::of(pod, cluster, &Gone::new()).ok().and_then(|wishes| wishes.on(&node.name, &node.labels).ok());
    let (plan, name) = (plan.unwrap_or_default(), node.name.clone());
    cluster.volumes.reserve(&plan, &name);
    plan
}

fn check_usable(claim: &PersistentVolumeClaim, name: &str, is_own: bool, pod: &PodInfo) -> Result<(), String> {
    let phase = claim.status.as_ref().and_then(|status| status.phase.as_deref());
    if phase == Some("Lost") {
        let volume = claim.spec.as_ref().and_then(|spec| spec.volume_name.as_deref()).unwrap_or_default();
        return Err(format!("persistentvolumeclaim {name:?} bound to non-existent persistentvolume {volume:?}"));
    }
    if claim.metadata.deletion_timestamp.is_some() {
        return Err(format!("persistentvolumeclaim {name:?} is being deleted"));
    }
    if is_own && !volume::is_made_for(claim, &pod.object.metadata) {
        let (namespace, pod) = (&pod.namespace, &pod.name);
        return Err(format!("PVC {namespace}/{name} was not created for pod {namespace}/{pod} (pod is not owner)"));
    }
    Ok(())
}

fn only_one_pod_may_use(claim: &PersistentVolumeClaim) -> bool {
    let modes = claim.spec.iter().flat_map(|spec| spec.access_modes.iter().flatten());
    modes.into_iter().any(|mode| mode == "ReadWriteOncePod")
}

fn waits_for_consumer(class: &StorageClass) -> bool {
    class.volume_binding_mode.as_deref() == Some("WaitForFirstConsumer")
}

/// True where the volume can be used on the node.
pub fn reaches(volume: &PersistentVolume, node: &str, labels: &Labels) -> bool {
    let affinity = volume.spec.as_ref().and_then(|spec| spec.node_affinity.as_ref()?.required.as_ref());
    affinity.is_none_or(|selector| node_selector_matches(selector, node, labels))
}

/// True where somebody makes volumes of the class for such a node.
fn can_be_made(class: &StorageClass, labels: &Labels) -> bool {
    if class.provisioner.is_empty() || class.provisioner == volume::NO_PROVISIONER {
        return false;
    }
    let topologies = class.allowed_topologies.as_deref().unwrap_or_default();
    let allows = |term: &k8s_openapi::api::core::v1::TopologySelectorTerm| {
        let mut wanted = term.match_label_expressions.iter().flatten();
        wanted.all(|wish| labels.get(&wish.key).is_some_and(|value| wish.values.contains(value)))
    };
    topologies.is_empty() || topologies.iter().any(allows)
}
