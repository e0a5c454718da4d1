//! From pods to subsets. Pure.

use std::{collections::BTreeMap, sync::Arc};

use k8s_openapi::{
    api::core::v1::{EndpointAddress, EndpointPort, EndpointSubset, Endpoints, ObjectReference, Service},
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use knarr_client::{lean::Pod, meta};

use crate::common::{
    pods,
    service::{self, ResolvedPort},
};

const MANAGED_BY: &str = "endpoints.kubernetes.io/managed-by";
const HEADLESS: &str = "service.kubernetes.io/headless";
const OVER_CAPACITY: &str = "endpoints.kubernetes.io/over-capacity";
const MAX_ADDRESSES: usize = 1000;

pub fn is_ours(endpoints: &Endpoints) -> bool {
    meta::label(&endpoints.metadata, MANAGED_BY) == Some(super::NAME)
}

/// The object as it should be, based on the one there is.
pub fn endpoints(service: &Service, selected: &[Arc<Pod>], there: Option<&Endpoints>) -> Endpoints {
    let mut meta = there.map(|there| there.metadata.clone()).unwrap_or_else(|| ObjectMeta {
        name: service.metadata.name.clone(),
        namespace: service.metadata.namespace.clone(),
        ..Default::default()
    });
    let mut labels = service.metadata.labels.clone().unwrap_or_default();
    labels.insert(MANAGED_BY.to_owned(), super::NAME.to_owned());
    if service::is_headless(service) {
        labels.insert(HEADLESS.to_owned(), String::new());
    } else {
        labels.remove(HEADLESS);
    }
    meta.labels = Some(labels);
    let (subsets, cut) = subsets(service, selected);
    let annotations = meta.annotations.get_or_insert_default();
    if cut {
        annotations.insert(OVER_CAPACITY.to_owned(), "truncated".to_owned());
    } else {
        annotations.remove(OVER_CAPACITY);
    }
    meta.annotations = meta.annotations.filter(|annotations| !annotations.is_empty());
    Endpoints { metadata: meta, subsets: Some(subsets).filter(|subsets| !subsets.is_empty()) }
}

fn subsets(service: &Service, selected: &[Arc<Pod>]) -> (Vec<EndpointSubset>, bool) {
    let is_ipv6 =
        service.spec.iter().flat_map(|spec| spec.ip_families.iter().flatten()).next().is_some_and(|f| f == "IPv6");
    let mut groups: BTreeMap<Vec<ResolvedPort>, [Vec<EndpointAddress>; 2]> = BTreeMap::new();
    let mut count = 0;
    let mut cut = false;
    let unready_too = service::publishes_unready(service);
    let mut candidates: Vec<_> = selected.iter().filter(|pod| pods::is_active(pod)).collect();
    // Ready ones first, so that it is the others that are cut off.
    candidates.sort_by_key(|pod| !pods::is_ready(pod));
    for pod in candidates {
        let Some(address) = service::address(pod, is_ipv6) else { continue };
        let ports = service::resolve_ports(service, pod);
        if ports.is_empty() && !service::is_headless(service) {
            continue;
        }
        if count == MAX_ADDRESSES {
            cut = true;
            break;
        }
        count += 1;
        let ready = unready_too || pods::is_ready(pod);
        groups.entry(ports).or_default()[usize::from(!ready)].push(endpoint(service, pod, address));
    }
    let subset = |(ports, [mut ready, mut unready]): (Vec<ResolvedPort>, [Vec<EndpointAddress>; 2])| {
        ready.sort_by(|a, b| a.ip.cmp(&b.ip));
        unready.sort_by(|a, b| a.ip.cmp(&b.ip));
        EndpointSubset {
            addresses: Some(ready).filter(|addresses| !addresses.is_empty()),
            not_ready_addresses: Some(unready).filter(|addresses| !addresses.is_empty()),
            ports: Some(ports.into_iter().map(port).collect::<Vec<_>>()).filter(|ports| !ports.is_empty()),
        }
    };
    (groups.into_iter().map(subset).collect(), cut)
}

fn port(port: ResolvedPort) -> EndpointPort {
    EndpointPort {
        name: Some(port.name).filter(|name| !name.is_empty()),
        protocol: Some(port.protocol),
        port: port.port,
        app_protocol: port.app_protocol,
    }
}

fn endpoint(service: &Service, pod: &Pod, address: &str) -> EndpointAddress {
    EndpointAddress {
        ip: address.to_owned(),
        hostname: service::hostname(service, pod),
        node_name: Some(pods::node_name(pod).to_owned()).filter(|node| !node.is_empty()),
        target_ref: Some(ObjectReference {
            kind: Some("Pod".to_owned()),
            namespace: pod.metadata.namespace.clone(),
            name: pod.metadata.name.clone(),
            uid: pod.metadata.uid.clone(),
            ..Default::default()
        }),
    }
}
