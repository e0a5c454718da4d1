//! A pod as the scheduler sees it: everything that filters and scores ask, worked out once.

use std::sync::Arc;

use k8s_openapi::api::core::v1::{NodeSelector, PodAffinityTerm, PreferredSchedulingTerm, Toleration};
use knarr_api::{host_port::HostPort, placement};
use knarr_client::{
    lean::{Pod, PodSpec},
    meta,
};

use crate::{
    resources::{self, Resources},
    terms::{Labels, PodTerm, Spread},
};

pub type Uid = Arc<str>;

#[derive(Debug)]
pub struct PodInfo {
    pub object: Arc<Pod>,
    pub uid: Uid,
    pub namespace: String,
    pub name: String,
    pub labels: Labels,
    /// The uid of its controller: pods alike are spread.
    pub owner: Option<Arc<str>>,
    /// Where it runs, or empty.
    pub node_name: String,
    pub priority: i32,
    pub never_preempts: bool,
    pub requests: Resources,
    pub scoring_requests: (i64, i64),
    pub host_ports: Vec<HostPort>,
    pub node_selector: Labels,
    pub required_nodes: Option<NodeSelector>,
    /// The one node that it asks for by name, as pods of a DaemonSet do.
    pub only_node: Option<String>,
    pub preferred_nodes: Vec<PreferredSchedulingTerm>,
    pub tolerations: Vec<Toleration>,
    pub affinity: Vec<PodTerm>,
    pub anti_affinity: Vec<PodTerm>,
    /// Weight (negative: away from) and term.
    pub preferences: Vec<(i64, PodTerm)>,
    /// What it wants of and prefers about others, and what it does not bear, as text: equal for pods alike.
    pub sociable: Option<Arc<str>>,
    pub averse: Option<Arc<str>>,
    pub spread: Vec<Spread>,
    pub images: Vec<String>,
}

impl PodInfo {
    pub fn of(object: Arc<Pod>) -> Self {
        let nothing = PodSpec::default();
        let spec = object.spec.as_ref().unwrap_or(&nothing);
        let labels = object.metadata.labels.clone().unwrap_or_default();
        let namespace = meta::namespace(&object.metadata).to_owned();
        let affinity = spec.affinity.as_deref();
        let (near, far) = (
            affinity.and_then(|affinity| affinity.pod_affinity.as_ref()),
            affinity.and_then(|affinity| affinity.pod_anti_affinity.as_ref()),
        );
        let nodes = affinity.and_then(|affinity| affinity.node_affinity.as_ref());
        let required = nodes.and_then(|nodes| nodes.required_during_scheduling_ignored_during_execution.as_ref());
        let preferred = nodes.and_then(|nodes| nodes.preferred_during_scheduling_ignored_during_execution.as_ref());
        let term = |term: &_| PodTerm::of(term, &namespace, &labels);
        let near_terms =
            near.iter().flat_map(|near| near.preferred_during_scheduling_ignored_during_execution.iter().flatten());
        let far_terms =
            far.iter().flat_map(|far| far.preferred_during_scheduling_ignored_during_execution.iter().flatten());
        let preferences: Vec<_> = near_terms
            .map(|preference| (i64::from(preference.weight), term(&preference.pod_affinity_term)))
            .chain(far_terms.map(|preference| (-i64::from(preference.weight), term(&preference.pod_affinity_term))))
            .collect();
        let terms =
            |terms: Option<&Vec<PodAffinityTerm>>| -> Vec<PodTerm> { terms.into_iter().flatten().map(term).collect() };
        let near = near.and_then(|near| near.required_during_scheduling_ignored_during_execution.as_ref());
        let far = far.and_then(|far| far.required_during_scheduling_ignored_during_execution.as_ref());
        let (affinity, anti_affinity) = (terms(near), terms(far));
        let wishes =
            preferences.iter().map(|(weight, term)| (*weight, term)).chain(affinity.iter().map(|term| (0, term)));
        Self {
            sociable: key(wishes),
            averse: key(anti_affinity.iter().map(|term| (0, term))),
            uid: meta::uid(&object.metadata).into(),
            name: meta::name(&object.metadata).to_owned(),
            owner: meta::controller_of(&object.metadata).map(|owner| owner.uid.as_str().into()),
            node_name: spec.node_name.clone().unwrap_or_default(),
            priority: spec.priority.unwrap_or(0),
            never_preempts: spec.preemption_policy.as_deref() == Some("Never"),
            requests: resources::requests(spec),
            scoring_requests: resources::requests_for_scoring(spec),
            host_ports: host_ports(spec),
            only_node: required.and_then(placement::only_node).map(str::to_owned),
            required_nodes: required.cloned(),
            preferred_nodes: preferred.cloned().unwrap_or_default(),
            affinity,
            anti_affinity,
            preferences,
            spread: spec
                .topology_spread_constraints
                .iter()
                .flatten()
                .map(|c| Spread::of(c, &namespace, &labels))
                .collect(),
            images: spec.containers.iter().filter_map(|container| container.image.clone()).collect(),
            node_selector: spec.node_selector.clone().unwrap_or_default(),
            tolerations: spec.tolerations.clone().unwrap_or_default(),
            namespace,
            labels,
            object,
        }
    }
}

fn key<'a>(terms: impl Iterator<Item = (i64, &'a PodTerm)>) -> Option<Arc<str>> {
    let texts: Vec<_> = terms.map(|(weight, term)| format!("{weight} {}", term.key())).collect();
    (!texts.is_empty()).then(|| texts.join("\n").into())
}

fn host_ports(spec: &PodSpec) -> Vec<HostPort> {
    let sidecars = spec.init_containers.iter().flatten().filter(|c| c.restart_policy.as_deref() == Some("Always"));
    let ports = spec.containers.iter().chain(sidecars).flat_map(|container| container.ports.iter().flatten());
    ports
        .filter_map(|port| HostPort::asked(port.host_port, port.host_ip.as_deref(), port.protocol.as_deref()))
        .collect()
}
