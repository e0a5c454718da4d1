//! Devices as a reason for a node: a pod's claims get theirs where the pod goes, and tie it there from then on.
//! (<https://kubernetes.io/docs/concepts/scheduling-eviction/dynamic-resource-allocation/>)
//!
//! [`picture`] holds what the watches show and what was decided but not seen yet: what is given to one claim no other
//! gets, from the moment of the decision until the API server says that it is free again. [`Wishes`] says of a node
//! whether it can do what a pod claims; [`bind`] writes what was decided, before the pod itself is bound.

mod allocate;
mod ask;
pub mod bind;
mod picture;
mod pool;
mod result;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use k8s_openapi::api::resource::v1::{AllocationResult, ResourceClaim};
use knarr_api::{
    device::{ClaimName, MAX_USERS, check_made_for, claim_name, is_reserved_for, users},
    placement::node_selector_matches,
};
use knarr_client::ObjectKey;

pub use picture::Picture;

use self::{ask::Ask, pool::Pool};
use crate::{
    cluster::{Cluster, NodeInfo},
    filter::{Plugin, Refusal},
    pod::PodInfo,
    terms::Labels,
};

const NOT_HERE: &str = "resourceclaim not available on the node";
const NOT_ALL: &str = "cannot allocate all claims";

/// What a pod claims, worked out once for a pod.
#[derive(Default)]
pub struct Wishes<'a> {
    picture: Option<&'a Picture>,
    /// Those that have their devices.
    allocated: Vec<Allocated>,
    /// Those that get theirs where the pod goes.
    asks: Vec<Ask>,
    pod_uid: &'a str,
}

struct Allocated {
    key: ObjectKey,
    claim: Arc<ResourceClaim>,
    /// Decided for it before, and perhaps not written.
    decided: Option<Arc<AllocationResult>>,
}

impl Allocated {
    fn reaches(&self, node: &str, labels: &Labels) -> bool {
        let written = self.claim.status.as_ref().and_then(|status| status.allocation.as_ref());
        let allocation = self.decided.as_deref().or(written);
        let selector = allocation.and_then(|allocation| allocation.node_selector.as_ref());
        selector.is_none_or(|selector| node_selector_matches(selector, node, labels))
    }
}

/// What has to be written before the pod is bound.
#[derive(Clone, Debug, Default)]
pub struct Plan {
    pub steps: Vec<Step>,
}

#[derive(Clone, Debug)]
pub struct Step {
    pub key: ObjectKey,
    pub claim: Arc<ResourceClaim>,
    /// What it is given; `None` where it has its devices, and the pod becomes one more user.
    pub allocation: Option<Arc<AllocationResult>>,
}

impl<'a> Wishes<'a> {
    /// An error is why no node at all can take the pod.
    pub fn of(pod: &'a PodInfo, cluster: &'a Cluster) -> Result<Self, String> {
        let spec = pod.object.spec.as_ref();
        let Some(claims) = spec.and_then(|spec| spec.resource_claims.as_ref()).filter(|claims| !claims.is_empty())
        else {
            return Ok(Self::default());
        };
        let picture = &cluster.devices;
        let mut wishes = Self { picture: Some(picture), pod_uid: &pod.uid, ..Self::default() };
        let statuses = pod.object.status.as_ref().and_then(|status| status.resource_claim_statuses.as_deref());
        for wanted in claims {
            let (name, is_own) = match claim_name(wanted, statuses.unwrap_or_default()) {
                ClaimName::Named(name) => (name, false),
                ClaimName::Made(name) => (name, true),
                ClaimName::NotNeeded => continue,
                ClaimName::NotYet => {
                    return Err(format!(
                        "pod {:?}: ResourceClaim not created yet",
                        format!("{}/{}", pod.namespace, pod.name)
                    ));
                }
            };
            let key = ObjectKey::new(&pod.namespace, name);
            if wishes.knows(&key) {
                continue;
            }
            let claim = picture.claim(&key);
            let claim = claim.ok_or_else(|| format!("resourceclaim.resource.k8s.io {name:?} not found"))?;
            if is_own {
                check_made_for(claim, &pod.object.metadata)?;
            }
            if claim.metadata.deletion_timestamp.is_some() {
                return Err(format!("resourceclaim {name:?} is being deleted"));
            }
            if users(claim).len() >= MAX_USERS && !is_reserved_for(claim, &pod.uid) {
                return Err("resourceclaim in use".to_owned());
            }
            let decided = picture.decided(&key).cloned();
            if decided.is_some() || knarr_api::device::is_allocated(claim) {
                wishes.allocated.push(Allocated { key, claim: claim.clone(), decided });
            } else {
                wishes.asks.push(Ask::of(claim, picture)?);
            }
        }
        Ok(wishes)
    }

    /// Two of a pod's claims may be the same object.
    fn knows(&self, key: &ObjectKey) -> bool {
        self.allocated.iter().any(|one| one.key == *key)
            || self.asks.iter().any(|ask| ObjectKey::of(&*ask.claim) == *key)
    }

    pub fn check(&self, node: &NodeInfo) -> Result<(), Refusal> {
        if self.allocated.is_empty() && self.asks.is_empty() {
            return Ok(());
        }
        self.on(&node.name, &node.labels).map(drop).map_err(|why| Refusal::new(Plugin::Devices, &why, false))
    }

    /// What would be written if the pod went to this node; or why it cannot.
    fn on(&self, node: &str, labels: &Labels) -> Result<Plan, String> {
        if !self.allocated.iter().all(|one| one.reaches(node, labels)) {
            return Err(NOT_HERE.to_owned());
        }
        let known = self.allocated.iter().filter(|one| !is_reserved_for(&one.claim, self.pod_uid));
        let known =
            known.map(|one| Step { key: one.key.clone(), claim: one.claim.clone(), allocation: one.decided.clone() });
        let mut steps: Vec<Step> = known.collect();
        let Some(picture) = self.picture.filter(|_| !self.asks.is_empty()) else { return Ok(Plan { steps }) };
        let pools: Vec<Pool<'_>> =
            picture.pools_of(node).into_iter().map(|id| Pool::of(picture, id, node, labels)).collect();
        let chosen = allocate::allocate(&self.asks, &pools, picture)?.ok_or(NOT_ALL)?;
        let found = result::allocations(&self.asks, &pools, &chosen, node);
        steps.extend(self.asks.iter().zip(found).map(|(ask, allocation)| Step {
            key: ObjectKey::of(&*ask.claim),
            claim: ask.claim.clone(),
            allocation: Some(Arc::new(allocation)),
        }));
        Ok(Plan { steps })
    }

    /// A claim whose devices are elsewhere, and that nobody uses: taking them from it lets the pod go where there are
    /// others.
    pub fn idle_elsewhere(&self, cluster: &Cluster) -> Option<Arc<ResourceClaim>> {
        let is_idle =
            |one: &&Allocated| one.decided.is_none() && users(&one.claim).iter().all(|user| user.uid == self.pod_uid);
        let misses_some = |one: &&Allocated| {
            let mut nodes = cluster.nodes.iter().filter(|node| node.exists);
            nodes.any(|node| !one.reaches(&node.name, &node.labels))
        };
        self.allocated.iter().filter(is_idle).find(misses_some).map(|one| one.claim.clone())
    }
}

/// Decides for good who gets what on a node, so that the next pod finds it taken.
pub fn reserve(pod: &PodInfo, cluster: &mut Cluster, index: usize) -> Plan {
    let node = &cluster.nodes[index];
    let plan = Wishes::of(pod, cluster).ok().and_then(|wishes| wishes.on(&node.name, &node.labels).ok());
    let plan = plan.unwrap_or_default();
    cluster.devices.reserve(&plan);
    plan
}
