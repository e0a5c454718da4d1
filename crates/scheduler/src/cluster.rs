//! The nodes and what runs on them, kept up to date change by change: deciding about a pod copies nothing.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use k8s_openapi::api::core::v1::{Node, Taint};
use knarr_api::{host_port::HostPort, quantity::Quantity};
use knarr_client::meta;

use crate::{
    around::Around,
    device,
    pod::{PodInfo, Uid},
    resources::Resources,
    tally::{self, Gone, Groups, PerNode, Question, Tallies},
    terms::{Labels, PodTerm},
    volume,
};

#[derive(Clone, Debug, Default)]
pub struct NodeInfo {
    pub name: String,
    /// False while pods are known to be on it but its Node object is not (yet, or any more).
    pub exists: bool,
    pub labels: Labels,
    pub taints: Vec<Taint>,
    pub unschedulable: bool,
    pub allocatable: Resources,
    pub max_pods: i64,
    pub requested: Resources,
    pub scoring_requested: (i64, i64),
    pub pods: BTreeMap<Uid, Arc<PodInfo>>,
    pub ports: Vec<HostPort>,
    /// Image name to size in bytes.
    pub images: HashMap<String, i64>,
}

impl NodeInfo {
    pub fn add(&mut self, pod: &Arc<PodInfo>) {
        self.requested.add(&pod.requests);
        self.scoring_requested.0 += pod.scoring_requests.0;
        self.scoring_requested.1 += pod.scoring_requests.1;
        self.ports.extend(pod.host_ports.iter().cloned());
        self.pods.insert(pod.uid.clone(), pod.clone());
    }

    pub fn remove(&mut self, uid: &str) -> Option<Arc<PodInfo>> {
        let pod = self.pods.remove(uid)?;
        self.requested.subtract(&pod.requests);
        self.scoring_requested.0 -= pod.scoring_requests.0;
        self.scoring_requested.1 -= pod.scoring_requests.1;
        for port in &pod.host_ports {
            if let Some(position) = self.ports.iter().position(|other| other == port) {
                self.ports.swap_remove(position);
            }
        }
        Some(pod)
    }

    fn describe(&mut self, node: &Node) {
        let status = node.status.as_ref();
        let spec = node.spec.as_ref();
        let allocatable = status.and_then(|status| status.allocatable.as_ref().or(status.capacity.as_ref()));
        self.exists = true;
        self.labels = node.metadata.labels.clone().unwrap_or_default();
        self.taints = spec.and_then(|spec| spec.taints.clone()).unwrap_or_default();
        self.unschedulable = spec.and_then(|spec| spec.unschedulable).unwrap_or(false);
        self.allocatable = Resources::of(allocatable);
        // The server may write a thousand as "1k".
        let pods = allocatable.and_then(|list| list.get("pods")).and_then(|pods| pods.0.parse::<Quantity>().ok());
        self.max_pods = pods.map_or(0, |pods| pods.value());
        let images = status.iter().flat_map(|status| status.images.iter().flatten());
        let named = images
            .flat_map(|image| image.names.iter().flatten().map(|name| (name.clone(), image.size_bytes.unwrap_or(0))));
        self.images = named.collect();
    }
}

/// How a change may help pods that found no node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct NodeChange {
    pub is_new: bool,
    pub more_room: bool,
    pub labels: bool,
    pub taints: bool,
}

#[derive(Default)]
pub struct Cluster {
    /// In order of appearance; the sampling of large clusters goes round it.
    pub nodes: Vec<NodeInfo>,
    by_name: HashMap<String, usize>,
    /// Every pod that is on a node or assumed to be, with its node.
    places: HashMap<Uid, usize>,
    /// Decided, but not yet seen on its node.
    assumed: HashMap<Uid, Arc<PodInfo>>,
    /// Pods whose anti-affinity every other pod has to respect.
    pub averse: Groups,
    /// Pods that want others near, or would rather have them near or far.
    pub sociable: Groups,
    tallies: Tallies,
    /// Pods for which room is being made, by the node.
    nominated: HashMap<String, BTreeMap<Uid, Arc<PodInfo>>>,
    by_namespace: HashMap<String, BTreeMap<Uid, Arc<PodInfo>>>,
    /// How many pods of one controller are on each node.
    siblings: HashMap<Arc<str>, HashMap<usize, i64>>,
    pub volumes: volume::Picture,
    pub devices: device::Picture,
}

impl Cluster {
    pub fn set_node(&mut self, node: &Node) -> NodeChange {
        let index = self.slot(meta::name(&node.metadata));
        let slot = &mut self.nodes[index];
        let before = slot.clone_without_pods();
        slot.describe(node);
        let grew = |a: &Resources, b: &Resources| {
            b.cpu_milli > a.cpu_milli
                || b.memory_bytes > a.memory_bytes
                || b.ephemeral_bytes > a.ephemeral_bytes
                || b.others.iter().any(|(name, amount)| a.others.get(name).is_none_or(|before| amount > before))
        };
        NodeChange {
            is_new: !before.exists,
            more_room: grew(&before.allocatable, &slot.allocatable) || slot.max_pods > before.max_pods,
            labels: before.labels != slot.labels,
            taints: before.taints != slot.taints || before.unschedulable != slot.unschedulable,
        }
    }

    pub fn remove_node(&mut self, name: &str) {
        let Some(index) = self.by_name.get(name).copied() else { return };
        if self.nodes[index].pods.is_empty() {
            self.drop_slot(index);
        } else {
            let pods = std::mem::take(&mut self.nodes[index].pods);
            let mut slot = NodeInfo { name: name.to_owned(), ..NodeInfo::default() };
            pods.values().for_each(|pod| slot.add(pod));
            self.nodes[index] = slot;
        }
    }

    /// A pod is on its node (`pod.node_name`), as the API server says. True where it was not known to be.
    pub fn set_pod(&mut self, pod: Arc<PodInfo>) -> bool {
        self.assumed.remove(&pod.uid);
        let is_new = self.take(&pod.uid).is_none();
        let index = self.slot(&pod.node_name.clone());
        self.put(index, pod);
        is_new
    }

    /// The pod counts as being on the node from now on.
    pub fn assume(&mut self, pod: &Arc<PodInfo>, index: usize) {
        self.take(&pod.uid);
        self.assumed.insert(pod.uid.clone(), pod.clone());
        self.put(index, pod.clone());
    }

    /// The binding failed. False where the pod was seen on a node meanwhile.
    pub fn forget(&mut self, uid: &str) -> bool {
        let was_assumed = self.assumed.remove(uid).is_some();
        if was_assumed {
            self.take(uid);
        }
        was_assumed
    }

    /// The pod has, or no longer has, a promise of room on a node.
    pub fn nominate(&mut self, pod: &Arc<PodInfo>, node_name: Option<&str>) {
        self.forget_nomination(&pod.uid);
        if let Some(name) = node_name.filter(|name| !name.is_empty()) {
            self.nominated.entry(name.to_owned()).or_default().insert(pod.uid.clone(), pod.clone());
        }
    }

    /// True where there was one.
    pub fn forget_nomination(&mut self, uid: &str) -> bool {
        let mut had_one = false;
        self.nominated.retain(|_, pods| {
            had_one |= pods.remove(uid).is_some();
            !pods.is_empty()
        });
        had_one
    }

    /// The pods to which room on a node is promised, as far as `pod` has to respect that.
    pub fn nominated<'a>(
        &'a self,
        node_name: &str,
        pod: &'a PodInfo,
    ) -> impl Iterator<Item = &'a Arc<PodInfo>> + use<'a> {
        let there = self.nominated.get(node_name).into_iter().flat_map(BTreeMap::values);
        there.filter(|other| other.priority >= pod.priority && other.uid != pod.uid)
    }

    pub fn node(&self, name: &str) -> Option<&NodeInfo> {
        self.by_name.get(name).map(|index| &self.nodes[*index])
    }

    pub fn index_of(&self, name: &str) -> Option<usize> {
        self.by_name.get(name).copied()
    }

    pub fn is_assumed(&self, uid: &str) -> bool {
        self.assumed.contains_key(uid)
    }

    /// The pod is gone or has ended.
    pub fn remove_pod(&mut self, uid: &str) -> Option<Arc<PodInfo>> {
        self.assumed.remove(uid);
        self.take(uid)
    }

    pub fn pods_in<'a>(&'a self, namespace: &str) -> impl Iterator<Item = &'a Arc<PodInfo>> + use<'a> {
        self.by_namespace.get(namespace).into_iter().flat_map(BTreeMap::values)
    }

    /// How many pods that a term selects are on each node, those aside that are thought gone.
    pub fn count_term(&self, term: &PodTerm, around: &dyn Around, gone: &Gone<'_>) -> PerNode {
        match &term.question {
            Some(question) => self.count(question, gone),
            None => self.count_where(gone, |pod| term.selects(&pod.namespace, &pod.labels, around)),
        }
    }

    /// As many of a question that can be kept.
    pub fn count(&self, question: &Question, gone: &Gone<'_>) -> PerNode {
        let all = || {
            let mut counts = PerNode::new();
            let pods = question.namespaces.iter().flat_map(|namespace| self.pods_in(namespace));
            for index in pods.filter(|pod| question.counts(pod)).filter_map(|pod| self.place_of(pod)) {
                *counts.entry(index).or_default() += 1;
            }
            counts
        };
        let leaving = gone.iter().filter_map(|uid| {
            let index = *self.places.get(*uid)?;
            self.nodes[index].pods.get(*uid).filter(|pod| question.counts(pod)).map(|_| index)
        });
        tally::without(self.tallies.ask(question, all), leaving)
    }

    pub fn count_where(&self, gone: &Gone<'_>, is_meant: impl Fn(&PodInfo) -> bool) -> PerNode {
        let mut counts = PerNode::new();
        let there = self.pods().filter(|pod| !gone.contains(&*pod.uid) && is_meant(pod));
        for index in there.filter_map(|pod| self.place_of(pod)) {
            *counts.entry(index).or_default() += 1;
        }
        counts
    }

    /// Where pods are of a group whose key `of` gives, those aside that are thought gone.
    pub fn remaining(&self, counts: &PerNode, gone: &Gone<'_>, is_of_group: impl Fn(&PodInfo) -> bool) -> PerNode {
        let leaving = gone.iter().filter_map(|uid| {
            let index = *self.places.get(*uid)?;
            self.nodes[index].pods.get(*uid).filter(|pod| is_of_group(pod)).map(|_| index)
        });
        tally::without(counts.clone(), leaving)
    }

    pub fn pods(&self) -> impl Iterator<Item = &Arc<PodInfo>> {
        self.by_namespace.values().flat_map(BTreeMap::values)
    }

    pub fn place_of(&self, pod: &PodInfo) -> Option<usize> {
        self.places.get(&pod.uid).copied()
    }

    pub fn siblings(&self, owner: &str) -> impl Iterator<Item = (usize, i64)> + '_ {
        self.siblings.get(owner).into_iter().flatten().map(|(index, count)| (*index, *count))
    }

    pub fn node_of(&self, pod: &PodInfo) -> Option<&NodeInfo> {
        self.places.get(&pod.uid).map(|index| &self.nodes[*index])
    }

    pub fn existing_nodes(&self) -> usize {
        self.nodes.iter().filter(|node| node.exists).count()
    }

    fn slot(&mut self, name: &str) -> usize {
        if let Some(index) = self.by_name.get(name) {
            return *index;
        }
        self.nodes.push(NodeInfo { name: name.to_owned(), ..NodeInfo::default() });
        self.by_name.insert(name.to_owned(), self.nodes.len() - 1);
        self.nodes.len() - 1
    }

    fn put(&mut self, index: usize, pod: Arc<PodInfo>) {
        self.nodes[index].add(&pod);
        self.places.insert(pod.uid.clone(), index);
        self.note(&pod, index, 1);
        if let Some(owner) = &pod.owner {
            *self.siblings.entry(owner.clone()).or_default().entry(index).or_default() += 1;
        }
        self.by_namespace.entry(pod.namespace.clone()).or_default().insert(pod.uid.clone(), pod);
    }

    /// A pod is on a node from now on (1), or no longer (-1).
    fn note(&mut self, pod: &Arc<PodInfo>, index: usize, change: i64) {
        if let Some(key) = &pod.averse {
            self.averse.note(key, pod, index, change);
        }
        if let Some(key) = &pod.sociable {
            self.sociable.note(key, pod, index, change);
        }
        self.tallies.note(pod, index, change);
    }

    fn take(&mut self, uid: &str) -> Option<Arc<PodInfo>> {
        let index = self.places.remove(uid)?;
        let pod = self.nodes[index].remove(uid)?;
        self.note(&pod, index, -1);
        if let Some(pods) = self.by_namespace.get_mut(&pod.namespace) {
            pods.remove(uid);
            if pods.is_empty() {
                self.by_namespace.remove(&pod.namespace);
            }
        }
        if let Some(owner) = &pod.owner
            && let Some(nodes) = self.siblings.get_mut(owner)
        {
            if let Some(count) = nodes.get_mut(&index) {
                *count -= 1;
                if *count == 0 {
                    nodes.remove(&index);
                }
            }
            if nodes.is_empty() {
                self.siblings.remove(owner);
            }
        }
        if !self.nodes[index].exists && self.nodes[index].pods.is_empty() {
            self.drop_slot(index);
        }
        Some(pod)
    }

    /// The last slot moves into the gap.
    fn drop_slot(&mut self, index: usize) {
        let gone = self.nodes.swap_remove(index);
        self.by_name.remove(&gone.name);
        let Some(moved) = self.nodes.get(index) else { return };
        self.by_name.insert(moved.name.clone(), index);
        let from = self.nodes.len();
        self.averse.node_moved(from, index);
        self.sociable.node_moved(from, index);
        self.tallies.node_moved(from, index);
        for pod in moved.pods.values() {
            self.places.insert(pod.uid.clone(), index);
            let counts = pod.owner.as_ref().and_then(|owner| self.siblings.get_mut(owner));
            if let Some(counts) = counts
                && let Some(count) = counts.remove(&from)
            {
                counts.insert(index, count);
            }
        }
    }
}

impl NodeInfo {
    fn clone_without_pods(&self) -> Self {
        Self {
            name: String::new(),
            exists: self.exists,
            labels: self.labels.clone(),
            taints: self.taints.clone(),
            unschedulable: self.unschedulable,
            allocatable: self.allocatable.clone(),
            max_pods: self.max_pods,
            ..Self::default()
        }
    }
}
