//! From subsets to slices: one slice for each address family and set of ports. Pure.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    net::IpAddr,
    sync::Arc,
};

use k8s_openapi::{
    api::{
        core::v1::{EndpointAddress, EndpointSubset, Endpoints, Service},
        discovery::v1::{Endpoint, EndpointConditions, EndpointSlice},
    },
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use knarr_api::apply::LAST_APPLIED;
use knarr_client::meta;

use crate::common::{
    service::{LEADER, ResolvedPort},
    slices::{self, Action, Group, IPV4, IPV6, MANAGED_BY_LABEL, SERVICE_NAME},
};

pub const MANAGED_BY: &str = "endpointslicemirroring-controller.k8s.io";
/// What a slice holds at most.
pub const MAX_PER_SUBSET: usize = 1000;
const SKIP_MIRROR: &str = "endpointslice.kubernetes.io/skip-mirror";
/// Annotations about the Endpoints object alone.
const NOT_COPIED: [&str; 2] = ["endpoints.kubernetes.io/last-change-trigger-time", LAST_APPLIED];

pub struct Plan {
    pub actions: Vec<Action>,
    /// Addresses that are none.
    pub invalid: usize,
    /// Addresses that are in no slice, the invalid ones among them.
    pub skipped: usize,
}

/// Where a Service has a selector, its slices come from its pods.
pub fn is_mirrored(endpoints: &Endpoints, service: Option<&Service>) -> bool {
    let meta = &endpoints.metadata;
    let has_selector = |service: &Service| {
        let selector = service.spec.as_ref().and_then(|spec| spec.selector.as_ref());
        selector.is_some_and(|selector| !selector.is_empty())
    };
    meta.deletion_timestamp.is_none()
        && meta::label(meta, SKIP_MIRROR) != Some("true")
        && meta::annotation(meta, LEADER).is_none()
        && service.is_some_and(|service| !has_selector(service))
}

pub fn plan(endpoints: &Endpoints, there: &[Arc<EndpointSlice>]) -> Plan {
    let mut plan = Plan { actions: Vec::new(), invalid: 0, skipped: 0 };
    let mut groups: BTreeMap<Group, BTreeMap<Identity, Endpoint>> = BTreeMap::new();
    for subset in endpoints.subsets.iter().flatten() {
        add(subset, &mut groups, &mut plan);
    }
    let mut kept: BTreeMap<Group, &Arc<EndpointSlice>> = BTreeMap::new();
    let mut spare = VecDeque::new();
    for slice in there.iter().filter(|slice| slice.metadata.deletion_timestamp.is_none()) {
        match slices::group_of(slice).filter(|group| groups.contains_key(group) && !kept.contains_key(group)) {
            Some(group) => drop(kept.insert(group, slice)),
            None => spare.push_back(slice),
        }
    }
    let mut taken: BTreeSet<String> = there.iter().map(|slice| meta::name(&slice.metadata).to_owned()).collect();
    for (group, wanted) in groups {
        // Subsets of the same ports may together have more than a slice holds.
        plan.skipped += wanted.len().saturating_sub(MAX_PER_SUBSET);
        let wanted: Vec<Endpoint> = wanted.into_values().take(MAX_PER_SUBSET).collect();
        // A slice whose ports nobody names any more is used again rather than deleted, unless the family differs.
        let again = kept.remove(&group).or_else(|| {
            let position = spare.iter().position(|slice| slice.address_type == group.0);
            position.and_then(|position| spare.remove(position))
        });
        match again {
            Some(slice) => {
                let meta = mirrored_meta(endpoints, slice.metadata.clone());
                let updated = slices::slice(meta, &group, wanted);
                if updated != **slice {
                    plan.actions.push(Action::Update(updated));
                }
            }
            None => {
                let name = slices::unused_name(&endpoints.metadata, &mut taken);
                let namespace = endpoints.metadata.namespace.clone();
                let meta = ObjectMeta { name: Some(name), namespace, ..Default::default() };
                let created = slices::slice(mirrored_meta(endpoints, meta), &group, wanted);
                plan.actions.push(Action::Create(created));
            }
        }
    }
    plan.actions.extend(spare.into_iter().map(|slice| Action::Delete(slice.clone())));
    plan
}

/// What makes two endpoints of one group the same: the address and the hostname.
type Identity = (IpAddr, Option<String>);

fn add(subset: &EndpointSubset, groups: &mut BTreeMap<Group, BTreeMap<Identity, Endpoint>>, plan: &mut Plan) {
    let ports: Vec<ResolvedPort> = subset.ports.iter().flatten().map(port).collect();
    let ready = subset.addresses.iter().flatten().map(|address| (address, true));
    let unready = subset.not_ready_addresses.iter().flatten().map(|address| (address, false));
    let mut added = 0;
    for (address, is_ready) in ready.chain(unready) {
        if added == MAX_PER_SUBSET {
            plan.skipped += 1;
            continue;
        }
        let Ok(ip) = address.ip.parse::<IpAddr>() else {
            plan.invalid += 1;
            plan.skipped += 1;
            continue;
        };
        let ip = ip.to_canonical();
        let family = if ip.is_ipv4() { IPV4 } else { IPV6 };
        let group = groups.entry((family, ports.clone())).or_default();
        group.insert((ip, address.hostname.clone()), endpoint(address, ip, is_ready));
        added += 1;
    }
}

fn port(port: &k8s_openapi::api::core::v1::EndpointPort) -> ResolvedPort {
    ResolvedPort {
        name: port.name.clone().unwrap_or_default(),
        protocol: port.protocol.clone().unwrap_or_else(|| "TCP".to_owned()),
        port: port.port,
        app_protocol: port.app_protocol.clone(),
    }
}

fn endpoint(address: &EndpointAddress, ip: IpAddr, is_ready: bool) -> Endpoint {
    Endpoint {
        addresses: vec![ip.to_string()],
        conditions: Some(EndpointConditions { ready: Some(is_ready), ..Default::default() }),
        hostname: address.hostname.clone().filter(|hostname| !hostname.is_empty()),
        node_name: address.node_name.clone(),
        target_ref: address.target_ref.clone(),
        ..Default::default()
    }
}

/// Labels and annotations follow those of the Endpoints.
fn mirrored_meta(endpoints: &Endpoints, mut meta: ObjectMeta) -> ObjectMeta {
    let mut labels = endpoints.metadata.labels.clone().unwrap_or_default();
    labels.insert(SERVICE_NAME.to_owned(), meta::name(&endpoints.metadata).to_owned());
    labels.insert(MANAGED_BY_LABEL.to_owned(), MANAGED_BY.to_owned());
    let mut annotations = endpoints.metadata.annotations.clone().unwrap_or_default();
    annotations.retain(|key, _| !NOT_COPIED.contains(&key.as_str()));
    meta.labels = Some(labels);
    meta.annotations = Some(annotations).filter(|annotations| !annotations.is_empty());
    meta.owner_references = Some(vec![meta::controller_reference(endpoints)]);
    meta
}
