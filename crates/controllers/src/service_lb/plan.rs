//! Which addresses a Service's load balancer has, and which node answers for them. Pure.

use std::{collections::BTreeSet, net::Ipv4Addr, sync::Arc};

use k8s_openapi::api::core::v1::{LoadBalancerIngress, Node, Service};
use knarr_client::{ObjectKey, meta};

use super::pool::AddressPool;
use crate::common::fnv::fnv1a_32;

/// Takes a node out of load balancing.
const EXCLUDED: &str = "node.kubernetes.io/exclude-from-external-load-balancers";
/// The class by which the load balancer built in here can be asked for; no class means it too.
const CLASS: &str = "knarr.dev/node";

/// The node that answers for a Service's address; the nodes obey it.
pub const ANNOUNCED_BY: &str = "knarr.dev/load-balancer-node";
/// Asks for a certain address of the pool, as `spec.loadBalancerIP` does.
const WANTED_IP: &str = "knarr.dev/load-balancer-ip";

/// The address of a node that can serve: its external one, else its internal one.
pub fn address(node: &Node) -> Option<&str> {
    let of_type = |kind| node.status.iter().flat_map(|status| &status.addresses).flatten().find(|a| a.type_ == kind);
    let address = of_type("ExternalIP").or_else(|| of_type("InternalIP"))?;
    can_serve(node).then_some(address.address.as_str())
}

/// True for a node that is Ready and not taken out of load balancing.
pub fn can_serve(node: &Node) -> bool {
    let mut conditions = node.status.iter().flat_map(|status| &status.conditions).flatten();
    let is_ready = conditions.any(|condition| condition.type_ == "Ready" && condition.status == "True");
    let is_excluded = meta::label(&node.metadata, EXCLUDED).is_some() || node.metadata.deletion_timestamp.is_some();
    is_ready && !is_excluded
}

/// True where the Service asks for the load balancer built in here.
pub fn is_ours(service: &Service) -> bool {
    let Some(spec) = &service.spec else { return false };
    spec.type_.as_deref() == Some("LoadBalancer")
        && spec.load_balancer_class.as_deref().is_none_or(|class| class == CLASS)
        && service.metadata.deletion_timestamp.is_none()
}

/// True where what comes from outside is served by endpoints of the node that it comes to, and no others.
pub fn serves_locally(service: &Service) -> bool {
    let policy = service.spec.as_ref().and_then(|spec| spec.external_traffic_policy.as_deref());
    is_ours(service) && policy == Some("Local")
}

/// A protocol and a port.
type Port<'a> = (&'a str, i32);

/// The addresses that a Service has, and its ports on each.
pub fn claims(service: &Service) -> (Vec<&str>, BTreeSet<Port<'_>>) {
    if !is_ours(service) {
        return <_>::default();
    }
    let ingress = service.status.iter().flat_map(|status| status.load_balancer.iter());
    let ingress = ingress.flat_map(|balancer| balancer.ingress.iter().flatten());
    (ingress.filter_map(|ingress| ingress.ip.as_deref()).collect(), ports(service))
}

fn ports(service: &Service) -> BTreeSet<Port<'_>> {
    let ports = service.spec.iter().flat_map(|spec| spec.ports.iter().flatten());
    ports.map(|port| (port.protocol.as_deref().unwrap_or("TCP"), port.port)).collect()
}

/// Why an address is not to be had.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error("port {port}/{protocol} of {address} is taken by the Service {holder}")]
    PortTaken { address: String, protocol: String, port: i32, holder: ObjectKey },
    #[error("{address} is taken by the Service {holder}")]
    AddressTaken { address: Ipv4Addr, holder: ObjectKey },
    #[error("{text} is no address of the pool {pool}")]
    NotInPool { text: String, pool: AddressPool },
    #[error("no address is left in the pool {0}")]
    Exhausted(AddressPool),
}

/// What is to be done about a Service.
#[derive(Debug, Default, PartialEq)]
pub struct Outcome {
    /// The addresses to write; `None` where nothing is to change.
    pub ingress: Option<Vec<LoadBalancerIngress>>,
    /// The node to write, or none; `None` where nothing is to change.
    pub announcer: Option<Option<String>>,
    /// Set where it has to wait.
    pub refusal: Option<Refusal>,
}

/// What is known of the rest of the cluster.
pub struct Site<'a> {
    pub nodes: &'a [Arc<Node>],
    pub services: &'a [Arc<Service>],
    pub pool: Option<&'a AddressPool>,
    /// The nodes with an endpoint of the Service that is ready.
    pub serving: &'a BTreeSet<String>,
}

pub fn decide(service: &Service, site: &Site<'_>) -> Outcome {
    let announced = service.metadata.annotations.as_ref().and_then(|all| all.get(ANNOUNCED_BY));
    if !is_ours(service) {
        // Its status is others': with the type, the API server itself takes our address away. Only our own note goes,
        // where the Service wants no load balancer any more.
        let is_balanced = service.spec.as_ref().and_then(|spec| spec.type_.as_deref()) == Some("LoadBalancer");
        let announcer = announced.filter(|_| !is_balanced).map(|_| None);
        return Outcome { announcer, ..Outcome::default() };
    }
    let balancer = service.status.as_ref().and_then(|status| status.load_balancer.as_ref());
    let there = balancer.and_then(|balancer| balancer.ingress.clone()).unwrap_or_default();
    let current = there.first().and_then(|ingress| ingress.ip.as_deref());
    let chosen = match site.pool {
        Some(pool) => from_pool(service, current, pool, site.services).map(|ip| Some(ip.to_string())),
        None => match of_a_node(service, current, site) {
            // No node is Ready just now; taking the address away would help nobody.
            Ok(None) if current.is_some() => return Outcome::default(),
            chosen => chosen,
        },
    };
    let (chosen, refusal) = match chosen {
        Ok(chosen) => (chosen, None),
        Err(refusal) => (None, Some(refusal)),
    };
    // A node's own address needs nobody to answer for it.
    let announcer = if chosen.is_some() && site.pool.is_some() {
        announcer(service, announced.map(String::as_str), site)
    } else {
        None
    };
    let ingress =
        |ip: String| LoadBalancerIngress { ip: Some(ip), ip_mode: Some("VIP".to_owned()), ..Default::default() };
    let wanted: Vec<_> = chosen.map(ingress).into_iter().collect();
    Outcome {
        ingress: (wanted != there).then_some(wanted),
        announcer: (announcer.as_ref() != announced).then_some(announcer),
        refusal,
    }
}

/// An address of the pool for this Service alone: the one it asks for, else the one it has, else the first free one.
fn from_pool(
    service: &Service,
    current: Option<&str>,
    pool: &AddressPool,
    services: &[Arc<Service>],
) -> Result<Ipv4Addr, Refusal> {
    let current = current.and_then(|ip| ip.parse::<Ipv4Addr>().ok());
    // Where two came to hold the same address, the older one keeps it.
    let holder = |ip: Ipv4Addr| {
        let text = ip.to_string();
        let mut others = services.iter().filter(|other| other.metadata.uid != service.metadata.uid);
        let holds = |other: &Arc<Service>| {
            claims(other).0.contains(&&*text) && !(current == Some(ip) && age(service) < age(other))
        };
        others.find(|other| holds(other)).map(|other| ObjectKey::of(&**other))
    };
    let annotations = service.metadata.annotations.as_ref();
    let wanted = annotations.and_then(|all| all.get(WANTED_IP));
    let wanted = wanted.or(service.spec.as_ref().and_then(|spec| spec.load_balancer_ip.as_ref()));
    if let Some(text) = wanted.filter(|text| !text.is_empty()) {
        let ip = text.parse().ok().filter(|ip| pool.contains(*ip));
        let address = ip.ok_or_else(|| Refusal::NotInPool { text: text.clone(), pool: pool.clone() })?;
        return holder(address).map_or(Ok(address), |holder| Err(Refusal::AddressTaken { address, holder }));
    }
    if let Some(current) = current.filter(|ip| pool.contains(*ip) && holder(*ip).is_none()) {
        return Ok(current);
    }
    let others = services.iter().filter(|other| other.metadata.uid != service.metadata.uid);
    let taken: BTreeSet<Ipv4Addr> = others.flat_map(|other| claims(other).0).flat_map(|ip| ip.parse()).collect();
    pool.addresses().find(|ip| !taken.contains(ip)).ok_or_else(|| Refusal::Exhausted(pool.clone()))
}

/// The node that answers: who does it now, as long as it can; else one by a hash, which spreads the Services, of those
/// that can. Where only nodes with an endpoint serve, one of them, if there is any.
fn announcer(service: &Service, current: Option<&str>, site: &Site<'_>) -> Option<String> {
    let names = site.nodes.iter().filter(|node| can_serve(node)).map(|node| meta::name(&node.metadata));
    let able: Vec<&str> = names.collect();
    let serves = |name: &&str| serves_locally(service) && site.serving.contains(*name);
    let serving: Vec<&str> = able.iter().copied().filter(serves).collect();
    let candidates = if serving.is_empty() { able } else { serving };
    // The name comes first, so that what follows mixes what two names differ in.
    let rank = |name: &&str| fnv1a_32(format!("{name} {}", meta::uid(&service.metadata)).as_bytes());
    let stays = current.filter(|current| candidates.is_empty() || candidates.contains(current));
    stays.or_else(|| candidates.iter().copied().max_by_key(rank)).map(str::to_owned)
}

/// An address of a node on which all ports of the Service are free. None where no node can serve.
fn of_a_node(service: &Service, current: Option<&str>, site: &Site<'_>) -> Result<Option<String>, Refusal> {
    let mut addresses: Vec<_> = site.nodes.iter().filter_map(|node| address(node)).collect();
    // The address that clients know comes first: it stays as long as its node does.
    addresses.sort_unstable_by_key(|address| (Some(*address) != current, *address));
    let mut refusal = None;
    for address in addresses {
        match holder(service, address, Some(address) == current, site.services) {
            None => return Ok(Some(address.to_owned())),
            found => refusal = refusal.or(found),
        }
    }
    refusal.map_or(Ok(None), Err)
}

/// What is older comes first.
fn age(service: &Service) -> impl Ord + use<> {
    (service.metadata.creation_timestamp.clone(), service.metadata.uid.clone())
}

/// Who keeps a Service from an address. Where two came to hold the same port, the older one keeps it.
fn holder(service: &Service, address: &str, holds: bool, services: &[Arc<Service>]) -> Option<Refusal> {
    let wanted = ports(service);
    services.iter().find_map(|other| {
        let (theirs, ports) = claims(other);
        if other.metadata.uid == service.metadata.uid
            || !theirs.contains(&address)
            || holds && age(service) < age(other)
        {
            return None;
        }
        let (protocol, port) = *wanted.intersection(&ports).next()?;
        let (address, protocol, holder) = (address.into(), protocol.into(), ObjectKey::of(&**other));
        Some(Refusal::PortTaken { address, protocol, port, holder })
    })
}

#[cfg(test)]
mod tests;
