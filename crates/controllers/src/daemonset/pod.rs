//! What the pods of a DaemonSet look like, and which node each is for. Pure.

use k8s_openapi::api::{
    apps::v1::DaemonSet,
    core::v1::{self, Affinity, NodeAffinity, NodeSelector, NodeSelectorRequirement, NodeSelectorTerm, Toleration},
};
use knarr_api::placement;
use knarr_client::{lean::Pod, meta};

use crate::common::{history, pods};

const GENERATION: &str = "pod-template-generation";
const TEMPLATE_GENERATION: &str = "deprecated.daemonset.template.generation";
/// What a pod bears that belongs to its node: a node in trouble needs its daemons more than any other.
const TOLERATED: [(&str, &str); 6] = [
    ("node.kubernetes.io/not-ready", "NoExecute"),
    ("node.kubernetes.io/unreachable", "NoExecute"),
    ("node.kubernetes.io/disk-pressure", "NoSchedule"),
    ("node.kubernetes.io/memory-pressure", "NoSchedule"),
    ("node.kubernetes.io/pid-pressure", "NoSchedule"),
    ("node.kubernetes.io/unschedulable", "NoSchedule"),
];
const OF_HOST_NETWORK: (&str, &str) = ("node.kubernetes.io/network-unavailable", "NoSchedule");

/// A pod of the current template, for no node yet.
pub fn new(set: &DaemonSet, hash: &str) -> v1::Pod {
    let template = set.spec.as_ref().map(|spec| spec.template.clone()).unwrap_or_default();
    let (namespace, name) = (meta::namespace(&set.metadata), meta::name(&set.metadata));
    let mut pod = pods::from_template(&template, name, namespace, meta::controller_reference(set));
    let labels = pod.metadata.labels.get_or_insert_default();
    if let Some(generation) = meta::annotation(&set.metadata, TEMPLATE_GENERATION) {
        labels.insert(GENERATION.to_owned(), generation.to_owned());
    }
    labels.insert(history::OF_POD.to_owned(), hash.to_owned());
    let spec = pod.spec.get_or_insert_default();
    let known = spec.tolerations.get_or_insert_default();
    let host_network = spec.host_network == Some(true);
    for (key, effect) in TOLERATED.into_iter().chain(host_network.then_some(OF_HOST_NETWORK)) {
        let toleration = Toleration {
            key: Some(key.to_owned()),
            operator: Some("Exists".to_owned()),
            effect: Some(effect.to_owned()),
            ..Toleration::default()
        };
        let is_same = |other: &Toleration| {
            (&other.key, &other.operator, &other.effect) == (&toleration.key, &toleration.operator, &toleration.effect)
        };
        known.retain(|other| !is_same(other));
        known.push(toleration);
    }
    pod
}

/// The pod, for exactly this node. What the template insists on about nodes was looked at already.
pub fn on_node(pod: &v1::Pod, node: &str) -> v1::Pod {
    let mut pod = pod.clone();
    let named = NodeSelectorRequirement {
        key: "metadata.name".to_owned(),
        operator: "In".to_owned(),
        values: Some(vec![node.to_owned()]),
    };
    let term = NodeSelectorTerm { match_fields: Some(vec![named]), match_expressions: None };
    let affinity: &mut Affinity = pod.spec.get_or_insert_default().affinity.get_or_insert_default();
    let nodes: &mut NodeAffinity = affinity.node_affinity.get_or_insert_default();
    nodes.required_during_scheduling_ignored_during_execution = Some(NodeSelector { node_selector_terms: vec![term] });
    pod
}

/// Where the pod is, or is to go.
pub fn node_of(pod: &Pod) -> Option<&str> {
    let spec = pod.spec.as_ref()?;
    let required = || {
        let nodes = spec.affinity.as_ref()?.node_affinity.as_ref()?;
        placement::only_node(nodes.required_during_scheduling_ignored_during_execution.as_ref()?)
    };
    spec.node_name.as_deref().filter(|name| !name.is_empty()).or_else(required)
}
