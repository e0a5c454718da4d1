//! From pods to slices, with as few writes as possible: an endpoint stays in the slice it is in. Pure.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
};

use k8s_openapi::{
    api::{
        core::v1::{ObjectReference, Service},
        discovery::v1::{Endpoint, EndpointConditions, EndpointSlice},
    },
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use knarr_client::{lean::Pod, meta};

use super::hints::Closeness;
use crate::common::{
    pods, service,
    slices::{self, Action, Group, IPV4, IPV6, MANAGED_BY_LABEL, SERVICE_NAME, group_of, unused_name},
};

pub const MANAGED_BY: &str = "endpointslice-controller.k8s.io";
const HEADLESS: &str = "service.kubernetes.io/headless";
/// Endpoints per slice, so that one pod's change is a small write and a small event.
const MAX_ENDPOINTS: usize = 100;

pub fn plan(
    service: &Service,
    selected: &[Arc<Pod>],
    slices: &[Arc<EndpointSlice>],
    zone: &dyn Fn(&str) -> Option<String>,
) -> Vec<Action> {
    let mut groups: BTreeMap<Group, BTreeMap<String, Endpoint>> = BTreeMap::new();
    for (family, is_ipv6) in families(service) {
        for pod in selected.iter().filter(|pod| !pods::is_terminal(pod)) {
            let Some(address) = service::address(pod, is_ipv6) else { continue };
            let group = groups.entry((family, service::resolve_ports(service, pod))).or_default();
            group.insert(identity(pod), endpoint(service, pod, address, zone));
        }
        // Also a Service with nothing behind it has a slice: "nothing" is an answer too.
        if !groups.keys().any(|(other, _)| *other == family) {
            groups.insert((family, Vec::new()), BTreeMap::new());
        }
    }
    let mut there: BTreeMap<Group, Vec<&Arc<EndpointSlice>>> = BTreeMap::new();
    let mut actions = Vec::new();
    let mut spare = VecDeque::new();
    for slice in slices.iter().filter(|slice| slice.metadata.deletion_timestamp.is_none()) {
        match group_of(slice).filter(|group| groups.contains_key(group)) {
            Some(group) => there.entry(group).or_default().push(slice),
            None => spare.push_back(slice.clone()),
        }
    }
    let mut taken: BTreeSet<String> = slices.iter().map(|slice| meta::name(&slice.metadata).to_owned()).collect();
    for (group, wanted) in groups {
        let existing = there.remove(&group).unwrap_or_default();
        fill(service, &group, wanted, existing, &mut spare, &mut taken, &mut actions);
    }
    actions.extend(spare.into_iter().map(Action::Delete));
    actions
}

/// Distributes one group's endpoints over its slices.
fn fill(
    service: &Service,
    group: &Group,
    mut wanted: BTreeMap<String, Endpoint>,
    existing: Vec<&Arc<EndpointSlice>>,
    spare: &mut VecDeque<Arc<EndpointSlice>>,
    taken: &mut BTreeSet<String>,
    actions: &mut Vec<Action>,
) {
    let mut kept: Vec<(&Arc<EndpointSlice>, Vec<Endpoint>)> = Vec::new();
    for slice in existing {
        let stays = |endpoint: &Endpoint| wanted.remove(&identity_of(endpoint));
        let endpoints = slice.endpoints.iter().flatten().filter_map(stays).collect();
        kept.push((slice, endpoints));
    }
    let mut left: VecDeque<Endpoint> = wanted.into_values().collect();
    // The fullest first, so that slices that run empty can go.
    kept.sort_by_key(|(_, endpoints)| std::cmp::Reverse(endpoints.len()));
    for (_, endpoints) in &mut kept {
        while endpoints.len() < MAX_ENDPOINTS
            && let Some(endpoint) = left.pop_front()
        {
            endpoints.push(endpoint);
        }
    }
    let is_only_one = |index: usize| index == 0;
    for (index, (slice, endpoints)) in kept.iter().enumerate() {
        if endpoints.is_empty() && !is_only_one(index) {
            actions.push(Action::Delete((*slice).clone()));
            continue;
        }
        let updated = slice_for(service, group, endpoints.clone(), slice.metadata.clone());
        if updated != ***slice {
            actions.push(Action::Update(updated));
        }
    }
    let mut need_one = kept.is_empty();
    while need_one || !left.is_empty() {
        need_one = false;
        let endpoints: Vec<_> = left.drain(..left.len().min(MAX_ENDPOINTS)).collect();
        // A slice whose ports nobody has any more is used again rather than deleted, unless the family differs.
        let reusable = spare.iter().position(|slice| slice.address_type == group.0);
        match reusable.and_then(|position| spare.remove(position)) {
            Some(slice) => actions.push(Action::Update(slice_for(service, group, endpoints, slice.metadata.clone()))),
            None => {
                let name = unused_name(&service.metadata, taken);
                let meta = ObjectMeta {
                    name: Some(name),
                    namespace: service.metadata.namespace.clone(),
                    ..Default::default()
                };
                actions.push(Action::Create(slice_for(service, group, endpoints, meta)));
            }
        }
    }
}

fn slice_for(service: &Service, group: &Group, endpoints: Vec<Endpoint>, mut meta: ObjectMeta) -> EndpointSlice {
    let mut labels = service.metadata.labels.clone().unwrap_or_default();
    labels.retain(|key, _| ![SERVICE_NAME, MANAGED_BY_LABEL, HEADLESS].contains(&key.as_str()));
    labels.insert(SERVICE_NAME.to_owned(), meta::name(&service.metadata).to_owned());
    labels.insert(MANAGED_BY_LABEL.to_owned(), MANAGED_BY.to_owned());
    if service::is_headless(service) {
        labels.insert(HEADLESS.to_owned(), String::new());
    }
    meta.labels = Some(labels);
    meta.owner_references = Some(vec![meta::controller_reference(service)]);
    slices::slice(meta, group, endpoints)
}

fn families(service: &Service) -> Vec<(&'static str, bool)> {
    let named = service.spec.iter().flat_map(|spec| spec.ip_families.iter().flatten());
    let families: Vec<_> = named.map(|family| if family == IPV6 { (IPV6, true) } else { (IPV4, false) }).collect();
    if families.is_empty() { vec![(IPV4, false)] } else { families }
}

fn endpoint(service: &Service, pod: &Pod, address: &str, zone: &dyn Fn(&str) -> Option<String>) -> Endpoint {
    let serving = pods::is_ready(pod);
    let terminating = pods::is_terminating(pod);
    let node = Some(pods::node_name(pod)).filter(|node| !node.is_empty());
    let mut endpoint = Endpoint {
        addresses: vec![address.to_owned()],
        conditions: Some(EndpointConditions {
            ready: Some(service::publishes_unready(service) || (serving && !terminating)),
            serving: Some(serving),
            terminating: Some(terminating),
        }),
        hostname: service::hostname(service, pod),
        node_name: node.map(str::to_owned),
        zone: node.and_then(zone),
        target_ref: Some(ObjectReference {
            kind: Some("Pod".to_owned()),
            namespace: pod.metadata.namespace.clone(),
            name: pod.metadata.name.clone(),
            uid: pod.metadata.uid.clone(),
            ..Default::default()
        }),
        ..Default::default()
    };
    endpoint.hints = Closeness::of(service).hints(&endpoint);
    endpoint
}

fn identity(pod: &Pod) -> String {
    meta::uid(&pod.metadata).to_owned()
}

fn identity_of(endpoint: &Endpoint) -> String {
    endpoint.target_ref.as_ref().and_then(|target| target.uid.clone()).unwrap_or_default()
}
