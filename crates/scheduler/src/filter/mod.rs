//! Which nodes can take a pod. Each plugin is a function from a pod and a node to a reason why not, in upstream's
//! order and words; the first plugin that refuses a node speaks for it.

mod affinity;
mod basic;
mod fit;
mod spread;

use std::sync::Arc;

use k8s_openapi::api::resource::v1::ResourceClaim;

use crate::{
    around::Around,
    cluster::{Cluster, NodeInfo},
    device,
    pod::PodInfo,
    tally::Gone,
    volume,
};

pub use spread::count as spread_count;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Plugin {
    Unschedulable,
    Taints,
    Affinity,
    Ports,
    Fit,
    VolumeUsers,
    VolumeLimits,
    Volumes,
    VolumeZones,
    Spread,
    PodAffinity,
    Devices,
}

/// Why a node does not take a pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    pub plugin: Plugin,
    pub reasons: Vec<String>,
    /// Other pods stand in the way, so that evicting them might help.
    pub resolvable: bool,
}

impl Refusal {
    pub fn new(plugin: Plugin, reason: &str, resolvable: bool) -> Self {
        Self { plugin, reasons: vec![reason.to_owned()], resolvable }
    }
}

/// What filters need to know of the whole cluster, worked out once for a pod.
pub struct Filters<'a> {
    pod: &'a PodInfo,
    affinity: affinity::Counts,
    spread: Vec<spread::Counts>,
    volumes: Result<volume::Wishes<'a>, String>,
    devices: Result<device::Wishes<'a>, String>,
}

impl<'a> Filters<'a> {
    pub fn prepare(pod: &'a PodInfo, cluster: &'a Cluster, around: &dyn Around) -> Self {
        Self::without(pod, cluster, around, &Gone::new())
    }

    /// As if the pods with these uids were gone.
    pub fn without(pod: &'a PodInfo, cluster: &'a Cluster, around: &dyn Around, gone: &Gone<'_>) -> Self {
        let affinity = affinity::Counts::of(pod, cluster, around, gone);
        let hard = pod.spread.iter().filter(|constraint| constraint.is_hard);
        let spread = hard.map(|constraint| spread::Counts::of(pod, constraint, cluster, gone)).collect();
        let volumes = volume::Wishes::of(pod, cluster, gone);
        let devices = device::Wishes::of(pod, cluster);
        Self { pod, affinity, spread, volumes, devices }
    }

    /// Why no node at all can take the pod, however much room there is.
    pub fn hopeless(&self) -> Option<(Plugin, &str)> {
        let volumes = self.volumes.as_ref().err().map(|why| (Plugin::Volumes, why.as_str()));
        volumes.or(self.devices.as_ref().err().map(|why| (Plugin::Devices, why.as_str())))
    }

    /// A claim that keeps the pod from nodes, and need not.
    pub fn idle_claim(&self, cluster: &Cluster) -> Option<Arc<ResourceClaim>> {
        self.devices.as_ref().ok()?.idle_elsewhere(cluster)
    }

    /// Also with the pods on it to which room there is promised.
    pub fn check_with_nominated(&self, node: &NodeInfo, cluster: &Cluster) -> Result<(), Refusal> {
        let mut promised = cluster.nominated(&node.name, self.pod).peekable();
        if promised.peek().is_some() {
            let mut fuller = node.clone();
            promised.for_each(|other| fuller.add(other));
            self.check(&fuller)?;
        }
        self.check(node)
    }

    pub fn check(&self, node: &NodeInfo) -> Result<(), Refusal> {
        let pod = self.pod;
        basic::unschedulable(pod, node)?;
        basic::taints(pod, node)?;
        basic::affinity(pod, node)?;
        basic::ports(pod, node)?;
        fit::check(pod, node)?;
        if let Ok(volumes) = &self.volumes {
            volumes.check_users()?;
            volumes.check_limits(node)?;
            volumes.check(node)?;
            volumes.check_zones(node)?;
        }
        self.spread.iter().try_for_each(|counts| counts.check(pod, node))?;
        self.affinity.check(pod, node)?;
        self.devices.as_ref().map_or(Ok(()), |devices| devices.check(node))
    }
}
