//! One Service with all its endpoints, as the proxy and the DNS server need it: read from the API's objects in this
//! one place, which knows every default and every old spelling.

use std::{
    net::{IpAddr, Ipv4Addr},
    sync::Arc,
};

use k8s_openapi::api::{
    core::v1::{Service, ServiceSpec},
    discovery::v1::{self as discovery, EndpointSlice},
};
use knarr_client::ObjectKey;

use crate::Ipv4Cidr;

/// The label by which a Service asks to be served by another proxy.
const OTHER_PROXY: &str = "service.kubernetes.io/service-proxy-name";
/// The label of Services that only name their endpoints.
const HEADLESS: &str = "service.kubernetes.io/headless";
const DEFAULT_AFFINITY_S: u32 = 10800;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceView {
    pub key: ObjectKey,
    pub cluster_ips: Vec<IpAddr>,
    /// Without an address of its own: its name leads to its endpoints.
    pub headless: bool,
    /// The name it stands for, if its type is `ExternalName`.
    pub external_name: Option<String>,
    /// `spec.externalIPs` and the addresses of its load balancer.
    pub external_ips: Vec<Ipv4Addr>,
    /// Those of them that are its load balancer's.
    pub balancer_ips: Vec<Ipv4Addr>,
    /// The sources that may connect by the load balancer's addresses; all, where none is listed.
    pub source_ranges: Vec<Ipv4Cidr>,
    pub ports: Vec<ServicePort>,
    /// Seconds for which a client keeps its endpoint, if it does.
    pub affinity_s: Option<u32>,
    /// `internalTrafficPolicy: Local`
    pub internal_local: bool,
    /// `externalTrafficPolicy: Local`
    pub external_local: bool,
    /// The port on which each node tells whether it has an endpoint.
    pub health_port: Option<u16>,
    /// `spec.publishNotReadyAddresses`
    pub publish_not_ready: bool,
    /// False where another proxy serves it.
    pub proxied: bool,
    pub endpoints: Vec<Endpoint>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServicePort {
    pub name: String,
    /// The IP protocol's number.
    pub protocol: u8,
    pub port: u16,
    pub node_port: Option<u16>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    pub ip: IpAddr,
    /// Shared by all endpoints of a slice.
    pub ports: Arc<[EndpointPort]>,
    pub ready: bool,
    pub serving: bool,
    pub terminating: bool,
    pub node: Option<String>,
    /// The nodes and the zones whose clients it is meant for; nobody in particular, where none is named.
    pub for_nodes: Vec<String>,
    pub for_zones: Vec<String>,
    pub hostname: Option<String>,
    /// The name of the pod it is, in the Service's namespace.
    pub pod: Option<String>,
}

/// A port of an endpoint, found by the name of the Service's port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndpointPort {
    pub name: String,
    pub protocol: u8,
    pub port: u16,
}

impl ServiceView {
    pub fn new(service: &Service, slices: &[Arc<EndpointSlice>]) -> Self {
        let default = ServiceSpec::default();
        let spec = service.spec.as_ref().unwrap_or(&default);
        let labelled = |label| service.metadata.labels.iter().flatten().any(|(key, _)| key == label);
        let kind = spec.type_.as_deref().unwrap_or("ClusterIP");
        let is_local = |policy: &Option<String>| policy.as_deref() == Some("Local");
        let cluster_ips = cluster_ips(spec);
        let balancer_ips = if kind == "LoadBalancer" { balancer_ips(service) } else { Vec::new() };
        Self {
            key: ObjectKey::of_meta(&service.metadata),
            headless: kind != "ExternalName" && cluster_ips.is_empty(),
            cluster_ips,
            external_name: spec.external_name.clone().filter(|_| kind == "ExternalName"),
            external_ips: external_ips(spec, &balancer_ips),
            source_ranges: source_ranges(spec),
            balancer_ips,
            ports: spec.ports.iter().flatten().filter_map(ServicePort::new).collect(),
            affinity_s: affinity(spec),
            internal_local: is_local(&spec.internal_traffic_policy),
            external_local: is_local(&spec.external_traffic_policy) && matches!(kind, "NodePort" | "LoadBalancer"),
            health_port: spec.health_check_node_port.and_then(|port| port.try_into().ok()).filter(|port| *port != 0),
            publish_not_ready: spec.publish_not_ready_addresses == Some(true),
            proxied: !labelled(OTHER_PROXY) && !labelled(HEADLESS),
            endpoints: endpoints(slices),
        }
    }

    /// How many of its endpoints that are ready are on a node.
    pub fn ready_on(&self, node: &str) -> usize {
        let here = self.endpoints.iter().filter(|endpoint| endpoint.ready && endpoint.node.as_deref() == Some(node));
        here.map(|endpoint| endpoint.ip).collect::<std::collections::HashSet<_>>().len()
    }

    /// Takes the endpoints whose pods are known to end for ending, whatever their slice says yet.
    pub fn end(&mut self, is_ending: impl Fn(&str) -> bool) {
        if self.publish_not_ready {
            return;
        }
        for endpoint in &mut self.endpoints {
            if endpoint.pod.as_deref().is_some_and(&is_ending) {
                endpoint.ready = false;
                endpoint.terminating = true;
            }
        }
    }
}

impl ServicePort {
    fn new(port: &k8s_openapi::api::core::v1::ServicePort) -> Option<Self> {
        Some(Self {
            name: port.name.clone().unwrap_or_default(),
            protocol: crate::protocol_number(port.protocol.as_deref().unwrap_or("TCP"))?,
            port: port.port.try_into().ok()?,
            node_port: port.node_port.and_then(|port| port.try_into().ok()).filter(|port| *port != 0),
        })
    }
}

fn cluster_ips(spec: &ServiceSpec) -> Vec<IpAddr> {
    let listed = spec.cluster_ips.iter().flatten();
    let mut ips: Vec<IpAddr> = listed.chain(&spec.cluster_ip).filter_map(|ip| ip.parse().ok()).collect();
    ips.dedup();
    if ips.len() > 1 && ips.first() == ips.last() {
        ips.pop();
    }
    ips
}

fn balancer_ips(service: &Service) -> Vec<Ipv4Addr> {
    let status = service.status.as_ref().and_then(|status| status.load_balancer.as_ref());
    let ingress = status.and_then(|status| status.ingress.as_ref()).into_iter().flatten();
    // A balancer in the mode `Proxy` wants its traffic to pass it, even from inside the cluster.
    let balanced = ingress.filter(|ingress| ingress.ip_mode.as_deref() != Some("Proxy"));
    balanced.filter_map(|ingress| ingress.ip.as_ref()?.parse().ok()).collect()
}

fn external_ips(spec: &ServiceSpec, balancer_ips: &[Ipv4Addr]) -> Vec<Ipv4Addr> {
    let given = spec.external_ips.iter().flatten().filter_map(|ip| ip.parse().ok());
    let mut ips: Vec<_> = given.chain(balancer_ips.iter().copied()).collect();
    ips.sort_unstable();
    ips.dedup();
    ips
}

/// Where only ranges of the other family are listed, nobody of this one may connect: the empty range at the end is
/// one that no source has.
fn source_ranges(spec: &ServiceSpec) -> Vec<Ipv4Cidr> {
    let listed = spec.load_balancer_source_ranges.as_deref().unwrap_or_default();
    let mut ranges: Vec<_> = listed.iter().filter_map(|range| range.trim().parse().ok()).collect();
    if ranges.is_empty() && !listed.is_empty() {
        ranges.extend(Ipv4Cidr::new(Ipv4Addr::UNSPECIFIED, 32));
    }
    ranges
}

fn affinity(spec: &ServiceSpec) -> Option<u32> {
    spec.session_affinity.as_deref().filter(|affinity| *affinity == "ClientIP")?;
    let config = spec.session_affinity_config.as_ref().and_then(|config| config.client_ip.as_ref());
    let seconds = config.and_then(|client_ip| client_ip.timeout_seconds).and_then(|seconds| seconds.try_into().ok());
    Some(seconds.unwrap_or(DEFAULT_AFFINITY_S))
}

fn endpoints(slices: &[Arc<EndpointSlice>]) -> Vec<Endpoint> {
    let mut all = Vec::new();
    for slice in slices {
        let ports: Arc<[EndpointPort]> = slice.ports.iter().flatten().filter_map(EndpointPort::new).collect();
        all.extend(slice.endpoints.iter().flatten().flat_map(|endpoint| addresses(endpoint, &ports)));
    }
    all
}

impl EndpointPort {
    fn new(port: &discovery::EndpointPort) -> Option<Self> {
        Some(Self {
            name: port.name.clone().unwrap_or_default(),
            protocol: crate::protocol_number(port.protocol.as_deref().unwrap_or("TCP"))?,
            port: port.port?.try_into().ok()?,
        })
    }
}

/// The API allows several addresses and says that only the first counts.
fn addresses(endpoint: &discovery::Endpoint, ports: &Arc<[EndpointPort]>) -> Option<Endpoint> {
    let conditions = endpoint.conditions.clone().unwrap_or_default();
    let ready = conditions.ready.unwrap_or(true);
    let hints = endpoint.hints.as_ref();
    let nodes = hints.into_iter().flat_map(|hints| hints.for_nodes.iter().flatten());
    let zones = hints.into_iter().flat_map(|hints| hints.for_zones.iter().flatten());
    Some(Endpoint {
        // Names (addressType FQDN) are not for proxies.
        ip: endpoint.addresses.first()?.parse().ok()?,
        ports: ports.clone(),
        ready,
        serving: conditions.serving.unwrap_or(ready),
        terminating: conditions.terminating.unwrap_or(false),
        node: endpoint.node_name.clone(),
        for_nodes: nodes.map(|node| node.name.clone()).collect(),
        for_zones: zones.map(|zone| zone.name.clone()).collect(),
        hostname: endpoint.hostname.clone().filter(|name| !name.is_empty()),
        pod: endpoint.target_ref.as_ref().filter(|of| of.kind.as_deref() == Some("Pod")).and_then(|of| of.name.clone()),
    })
}
