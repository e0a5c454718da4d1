//! From one Service to the elements that serve it; a pure function.

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    net::{IpAddr, Ipv4Addr},
};

use knarr_client::ObjectKey;
use knarr_os::net::nft::{Value, Words};

use super::{Endpoint, ServicePort, ServiceView, topology::Nearness};
use crate::dataplane::{self, Allow, Chain, Frontend, Match, Pick, REJECT_CHAIN, Scope};

/// The maps a Service has elements in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Map {
    Frontends,
    Groups,
    Refusals,
    Firewall,
    Backends,
    Members,
}

impl Map {
    pub const ALL: [Self; 6] =
        [Self::Frontends, Self::Groups, Self::Refusals, Self::Firewall, Self::Backends, Self::Members];

    pub fn name(self) -> &'static str {
        match self {
            Self::Frontends => dataplane::FRONTENDS.name,
            Self::Groups => dataplane::GROUPS.name,
            Self::Refusals => dataplane::REFUSALS.name,
            Self::Firewall => dataplane::FIREWALL.name,
            Self::Backends => dataplane::BACKENDS.name,
            Self::Members => dataplane::MEMBERS.name,
        }
    }
}

pub type ElementKey = (Map, Words);
pub type Elements = BTreeMap<ElementKey, Value>;
/// An endpoint's address and port.
pub type Backend = (Ipv4Addr, u16);

/// What one Service needs in the table.
#[derive(Debug, Default)]
pub struct Plan {
    pub elements: Elements,
    /// The chains that its elements refer to.
    pub chains: HashSet<Chain>,
}

/// Where the proxy stands.
#[derive(Clone, Debug)]
pub struct Site {
    pub node: String,
    /// The zone the node is in, as a label of it says.
    pub zone: Option<String>,
    /// The address this process answers on where no pod does: not to be refused for want of endpoints.
    pub cluster_dns: Ipv4Addr,
}

/// Numbers groups, and remembers where the endpoints of each are.
pub trait Groups {
    /// The number of a Service's group; always the same for the same name and protocol.
    fn number(&mut self, service: &ObjectKey, name: &str, protocol: u8) -> u32;
    /// The endpoints of a group by their positions now.
    fn positions(&self, number: u32) -> Vec<Backend>;
}

/// The elements for a Service at a site. Endpoints keep their positions where they can, so that only what changed
/// moves.
pub fn plan(service: &ServiceView, site: &Site, groups: &mut dyn Groups) -> Plan {
    let mut planner = Planner { plan: Plan::default(), service, site, groups };
    if service.proxied {
        for port in &service.ports {
            planner.add_port(port);
        }
    }
    planner.plan
}

/// A numbered list of endpoints.
struct Group {
    number: u32,
    length: u32,
}

struct Planner<'a> {
    plan: Plan,
    service: &'a ServiceView,
    site: &'a Site,
    groups: &'a mut dyn Groups,
}

impl Planner<'_> {
    fn add_port(&mut self, port: &ServicePort) {
        let node = &*self.site.node;
        let usable = self.service.endpoints.iter().filter(|endpoint| backend(endpoint, port).is_some());
        let nearness = Nearness::of(usable, self.site);
        // Without anyone ready there is nobody to prefer either: nearness is anywhere then.
        let cluster = choose(&self.service.endpoints, port, |endpoint| nearness.admits(endpoint, self.site));
        // A policy of `Local` is a must and asks for no hints.
        let here = choose(&self.service.endpoints, port, |endpoint| endpoint.node.as_deref() == Some(node));
        let wants_here = self.service.internal_local || self.service.external_local;
        let all = self.add_group(port, "all", &cluster);
        let local = if wants_here { self.add_group(port, "local", &here) } else { None };
        // No endpoint anywhere is an error the client is told; none on this node is for others to make up for.
        let unserved = if cluster.is_empty() { Value::Goto(REJECT_CHAIN.into()) } else { Value::Drop };

        let inside = if self.service.internal_local { &local } else { &all };
        for ip in self.service.cluster_ips.iter().filter_map(ipv4) {
            self.add_frontend(frontend(Scope::All, Some(ip), port.protocol, port.port), inside, &unserved);
        }
        if !self.service.source_ranges.is_empty() {
            let allow = Allow::new(&self.service.source_ranges);
            for ip in &self.service.balancer_ips {
                let key = frontend(Scope::All, Some(*ip), port.protocol, port.port).key();
                self.plan.elements.insert((Map::Firewall, key), Value::Goto(allow.chain()));
            }
            self.plan.chains.insert(Chain::Allow(allow));
        }
        let by_address = self.service.external_ips.iter().map(|ip| (Some(*ip), port.port));
        let by_port = port.node_port.map(|node_port| (None, node_port));
        for (ip, number) in by_address.chain(by_port) {
            // What comes from inside may go anywhere: it has no source address to lose.
            self.add_frontend(frontend(Scope::All, ip, port.protocol, number), &all, &unserved);
            if self.service.external_local {
                self.add_frontend(frontend(Scope::Outside, ip, port.protocol, number), &local, &unserved);
            }
        }
    }

    fn add_group(&mut self, port: &ServicePort, which: &str, backends: &BTreeSet<Backend>) -> Option<Group> {
        let number = self.groups.number(&self.service.key, &format!("{} {which}", port.name), port.protocol);
        let placed = arrange(&self.groups.positions(number), backends);
        for (index, (ip, port)) in placed.iter().enumerate() {
            let endpoint = Words::new().ip(*ip).port(*port);
            let position = Words::new().number(number).number(index as u32);
            self.plan.elements.insert((Map::Backends, position), Value::Words(endpoint));
            if self.service.affinity_s.is_some() {
                let member = Words::new().number(number).ip(*ip);
                self.plan.elements.insert((Map::Members, member), Value::Words(Words::new().port(*port)));
            }
        }
        (!placed.is_empty()).then_some(Group { number, length: placed.len() as u32 })
    }

    fn add_frontend(&mut self, frontend: Frontend, group: &Option<Group>, unserved: &Value) {
        let key = frontend.key();
        let Some(group) = group else {
            if frontend.ip == Some(self.site.cluster_dns) {
                return;
            }
            self.plan.elements.insert((Map::Refusals, key), unserved.clone());
            if frontend.scope == Scope::Outside {
                // Ends the search, or the packet would be served as one from inside.
                self.plan.elements.insert((Map::Frontends, key), Value::Accept);
            }
            return;
        };
        let by = Match { scope: frontend.scope, by_address: frontend.ip.is_some() };
        let pick = Pick { by, length: group.length, affinity_s: self.service.affinity_s };
        self.plan.elements.insert((Map::Frontends, key), Value::Goto(pick.chain()));
        self.plan.elements.insert((Map::Groups, key), Value::Words(Words::new().number(group.number)));
        self.plan.chains.insert(Chain::Pick(pick));
    }
}

fn frontend(scope: Scope, ip: Option<Ipv4Addr>, protocol: u8, port: u16) -> Frontend {
    Frontend { scope, ip, protocol, port }
}

fn ipv4(ip: &IpAddr) -> Option<Ipv4Addr> {
    match ip {
        IpAddr::V4(ip) => Some(*ip),
        IpAddr::V6(_) => None,
    }
}

/// The endpoints that get new connections: the ready ones. Where there is none, those that end but still serve,
/// rather than nobody.
fn choose(endpoints: &[Endpoint], port: &ServicePort, wanted: impl Fn(&Endpoint) -> bool) -> BTreeSet<Backend> {
    let those = |pick: &dyn Fn(&Endpoint) -> bool| -> BTreeSet<Backend> {
        let picked = endpoints.iter().filter(|endpoint| wanted(endpoint) && pick(endpoint));
        picked.filter_map(|endpoint| backend(endpoint, port)).collect()
    };
    let ready = those(&|endpoint| endpoint.ready);
    if !ready.is_empty() {
        return ready;
    }
    those(&|endpoint| endpoint.serving && endpoint.terminating)
}

fn backend(endpoint: &Endpoint, port: &ServicePort) -> Option<Backend> {
    Some((ipv4(&endpoint.ip)?, target(endpoint, port)?))
}

fn target(endpoint: &Endpoint, port: &ServicePort) -> Option<u16> {
    let mut ports = endpoint.ports.iter();
    ports.find(|other| other.name == port.name && other.protocol == port.protocol).map(|found| found.port)
}

/// Places endpoints in a row without gaps: who has a place that remains keeps it.
fn arrange(now: &[Backend], wanted: &BTreeSet<Backend>) -> Vec<Backend> {
    let kept: Vec<_> =
        (0..wanted.len()).map(|index| now.get(index).filter(|backend| wanted.contains(backend))).collect();
    let staying: HashSet<_> = kept.iter().flatten().copied().collect();
    let mut homeless = wanted.iter().filter(|backend| !staying.contains(backend));
    kept.iter().filter_map(|place| place.or_else(|| homeless.next()).copied()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn arranging_keeps_places(now in prop::collection::btree_set(0u16..40, 0..20), wanted in prop::collection::btree_set(0u16..40, 0..20)) {
            let backend = |port: &u16| (Ipv4Addr::LOCALHOST, *port);
            let now: Vec<_> = now.iter().map(backend).collect();
            let wanted: BTreeSet<_> = wanted.iter().map(backend).collect();
            let placed = arrange(&now, &wanted);
            prop_assert_eq!(placed.iter().copied().collect::<BTreeSet<_>>(), wanted.clone());
            prop_assert_eq!(placed.len(), wanted.len());
            for (index, backend) in now.iter().enumerate().take(placed.len()) {
                prop_assert!(!wanted.contains(backend) || placed[index] == *backend, "{:?} moved", backend);
            }
        }
    }
}
