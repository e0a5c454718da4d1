//! Which nodes can take a pod. Each plugin is a function from a pod and a node to a reason why not, in upstream's
//! order and words; the first plugin that refuses a node speaks for it.

mod affinity;
mod basic;
mod fit;
mod spread;

use crate::{
    cluster::{Cluster, NodeInfo},
    pod::PodInfo,
    terms::Labels,
};

pub use basic::tolerates;
pub use spread::count as spread_count;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Plugin {
    Unschedulable,
    Taints,
    Affinity,
    Ports,
    Fit,
    Spread,
    PodAffinity,
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
    fn new(plugin: Plugin, reason: &str, resolvable: bool) -> Self {
        Self { plugin, reasons: vec![reason.to_owned()], resolvable }
    }
}

/// What filters need to know of the whole cluster, worked out once for a pod.
pub struct Filters<'a> {
    pod: &'a PodInfo,
    affinity: affinity::Counts,
    spread: Vec<spread::Counts>,
}

impl<'a> Filters<'a> {
    /// `labels_of` gives the labels of a namespace.
    pub fn prepare(pod: &'a PodInfo, cluster: &Cluster, labels_of: &dyn Fn(&str) -> Labels) -> Self {
        let affinity = affinity::Counts::of(pod, cluster, labels_of);
        let hard = pod.spread.iter().filter(|constraint| constraint.is_hard);
        let spread = hard.map(|constraint| spread::Counts::of(pod, constraint, cluster)).collect();
        Self { pod, affinity, spread }
    }

    pub fn check(&self, node: &NodeInfo) -> Result<(), Refusal> {
        let pod = self.pod;
        basic::unschedulable(pod, node)?;
        basic::taints(pod, node)?;
        basic::affinity(pod, node)?;
        basic::ports(pod, node)?;
        fit::check(pod, node)?;
        self.spread.iter().try_for_each(|counts| counts.check(pod, node))?;
        self.affinity.check(pod, node)
    }
}
