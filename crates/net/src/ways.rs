//! The ways to the pods of other nodes: a plain route to a node that is a neighbour, a tunnel (VXLAN) to one that is
//! not. Whatever goes these ways keeps its addresses; only what leaves the cluster is masqueraded.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr},
    sync::Arc,
};

use k8s_openapi::api::core::v1::Node;
use knarr_client::meta;
use knarr_os::net::{Forwarding, LinkConfig, Links, Neighbour, Route, Vxlan, sysctl};

use crate::{
    Config, Ipv4Cidr, Overlay,
    config::gateway,
    error::{During, Result},
    host::{ROUTE_PROTOCOL, is_ours},
    names::{self, TUNNEL_LINK},
};

/// What a tunnel adds to a packet: Ethernet, IPv4, UDP and VXLAN headers.
pub const TUNNEL_BYTES: u32 = 50;
const VXLAN_PORT: u16 = 8472;
const VXLAN_ID: u32 = ROUTE_PROTOCOL as u32;

/// A node whose pods are reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    pub name: String,
    pub ip: Ipv4Addr,
    pub way: Way,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// The node is reached on this link itself.
    Link(u32),
    Tunnel,
}

/// The links of this host that are not ours, each with an address and the prefix that says who is on it.
pub type Uplinks = Vec<(u32, Ipv4Cidr, Ipv4Addr)>;

pub fn uplinks(links: &Links) -> Result<Uplinks> {
    let all = links.list().during("listing links")?;
    let foreign = |index| all.iter().any(|link| link.index == index && !is_ours(&link.name));
    let addresses = links.addresses().during("listing addresses")?;
    let uplinks = addresses.into_iter().filter_map(|(link, ip, prefix)| match ip {
        IpAddr::V4(ip) if foreign(link) && !ip.is_loopback() => Some((link, Ipv4Cidr::new(ip, prefix)?, ip)),
        _ => None,
    });
    Ok(uplinks.collect())
}

/// The link on which an address is a neighbour.
pub fn link_to(uplinks: &Uplinks, ip: Ipv4Addr) -> Option<u32> {
    let near = uplinks.iter().filter(|(_, range, own)| range.contains(ip) && *own != ip);
    near.max_by_key(|(_, range, _)| range.prefix()).map(|(link, ..)| *link)
}

/// The peers by their pod ranges. Pure.
pub fn plan(nodes: &[Arc<Node>], me: &str, overlay: Overlay, uplinks: &Uplinks) -> BTreeMap<Ipv4Cidr, Peer> {
    let peers = nodes.iter().filter(|node| meta::name(&node.metadata) != me);
    let peers = peers.filter_map(|node| {
        let range: Ipv4Cidr = node.spec.as_ref()?.pod_cidr.as_deref()?.parse().ok()?;
        let ip = internal_ip(node)?;
        let near = link_to(uplinks, ip);
        let way = match (overlay, near) {
            (Overlay::Auto | Overlay::Routes, Some(link)) => Way::Link(link),
            (Overlay::Routes, None) => return None,
            (Overlay::Auto, None) | (Overlay::Vxlan, _) => Way::Tunnel,
        };
        Some((range, Peer { name: meta::name(&node.metadata).to_owned(), ip, way }))
    });
    // Of two nodes that claim one range the first by name has it, whatever order they were seen in.
    let mut found = BTreeMap::<_, Peer>::new();
    for (range, peer) in peers {
        let taken = found.get(&range).is_some_and(|other| other.name < peer.name);
        if !taken {
            found.insert(range, peer);
        }
    }
    found
}

/// A node's own IPv4 address.
pub fn internal_ip(node: &Node) -> Option<Ipv4Addr> {
    let addresses = node.status.as_ref()?.addresses.iter().flatten();
    let mut internal = addresses.filter(|address| address.type_ == "InternalIP");
    internal.find_map(|address| address.address.parse().ok())
}

/// Makes the kernel's routes those to these peers, and no others of ours.
pub fn apply(links: &Links, config: &Config, own: &Ipv4Cidr, mtu: u32, peers: &BTreeMap<Ipv4Cidr, Peer>) -> Result<()> {
    let tunnel = if peers.values().any(|peer| peer.way == Way::Tunnel) {
        Some(ensure_tunnel(links, config, own, mtu)?)
    } else {
        links.remove(TUNNEL_LINK).during("removing the tunnel")?;
        None
    };
    if let Some(tunnel) = tunnel {
        let tunnelled = peers.iter().filter(|(_, peer)| peer.way == Way::Tunnel);
        set_neighbours(links, tunnel, tunnelled.map(|(range, peer)| (range.first(), peer)))?;
    }
    let wanted: Vec<_> = peers
        .iter()
        .filter_map(|(range, peer)| {
            let to = |link| Route::new(range.first().into(), range.prefix(), link);
            let route = match peer.way {
                Way::Link(link) => Route { gateway: Some(peer.ip.into()), ..to(link) },
                Way::Tunnel => Route {
                    gateway: Some(range.first().into()),
                    is_on_link: true,
                    // The answer has to find the tunnel too.
                    source: Some(gateway(own).into()),
                    ..to(tunnel?)
                },
            };
            Some(Route { protocol: ROUTE_PROTOCOL, ..route })
        })
        .collect();
    let found = links.routes().during("listing routes")?;
    let (kept, stale): (Vec<_>, Vec<_>) =
        found.into_iter().filter(|route| route.protocol == ROUTE_PROTOCOL).partition(|route| wanted.contains(route));
    // First the new ones, each in the place of the former one with the same destination.
    let missing = wanted.iter().filter(|route| !kept.contains(route));
    links.change(|changes| missing.for_each(|route| changes.set_route(route))).during("routing to other nodes")?;
    let is_replaced = |stale: &Route| {
        wanted.iter().any(|route| (route.destination, route.prefix) == (stale.destination, stale.prefix))
    };
    let mut gone = stale.iter().filter(|stale| !is_replaced(stale));
    gone.try_for_each(|route| links.remove_route(route).during("removing a route to another node"))
}

/// The tunnel's link, with the settings that this node has now.
fn ensure_tunnel(links: &Links, config: &Config, own: &Ipv4Cidr, mtu: u32) -> Result<u32> {
    let wanted =
        LinkConfig { name: TUNNEL_LINK, mac: tunnel_mac(&config.node_name), mtu: mtu.saturating_sub(TUNNEL_BYTES) };
    let from = config.node_ip;
    let is_as_wanted = |link: &knarr_os::net::Link| {
        link.mac == Some(wanted.mac) && link.mtu == wanted.mtu && link.tunnel_from == Some(from)
    };
    let link = match links.find(TUNNEL_LINK).during("looking for the tunnel")? {
        Some(link) if is_as_wanted(&link) => link,
        other => {
            if other.is_some() {
                links.remove(TUNNEL_LINK).during("removing the former tunnel")?;
            }
            let vxlan = Vxlan { id: VXLAN_ID, port: VXLAN_PORT, from };
            links.add_vxlan(wanted, vxlan).during("making the tunnel (does the kernel have the module vxlan?)")?;
            // A peer may take the plain way to us and be reached by the tunnel.
            sysctl::write(&format!("ipv4/conf/{TUNNEL_LINK}/rp_filter"), "2").during("configuring the tunnel")?;
            links.get(TUNNEL_LINK).during("looking for the tunnel")?
        }
    };
    // What is masqueraded on its way into the tunnel takes this address: pods never have the first of a range.
    let address = links.change(|changes| changes.add_address(link.index, own.first().into(), 32));
    address.during("configuring the tunnel")?;
    Ok(link.index)
}

/// Always the same for a node, so that peers need not be told.
fn tunnel_mac(node: &str) -> knarr_os::net::Mac {
    names::mac(&format!("{node}/{TUNNEL_LINK}"))
}

fn set_neighbours<'a>(links: &Links, tunnel: u32, peers: impl Iterator<Item = (Ipv4Addr, &'a Peer)>) -> Result<()> {
    let wanted: Vec<_> = peers
        .map(|(first, peer)| {
            let mac = tunnel_mac(&peer.name);
            (Neighbour { ip: first.into(), mac }, Forwarding { mac, machine: peer.ip.into() })
        })
        .collect();
    let neighbours = links.neighbours(tunnel).during("listing the tunnel's neighbours")?;
    let forwardings = links.forwardings(tunnel).during("listing the tunnel's machines")?;
    let change = links.change(|changes| {
        for (neighbour, forwarding) in &wanted {
            if !forwardings.contains(forwarding) {
                changes.set_forwarding(tunnel, forwarding);
            }
            if !neighbours.contains(neighbour) {
                changes.set_neighbour(tunnel, neighbour.ip, neighbour.mac);
            }
        }
    });
    change.during("telling the tunnel where its peers are")?;
    for stale in neighbours.iter().filter(|found| !wanted.iter().any(|(neighbour, _)| neighbour.ip == found.ip)) {
        links.remove_neighbour(tunnel, stale).during("removing a peer from the tunnel")?;
    }
    for stale in forwardings.iter().filter(|found| !wanted.iter().any(|(_, forwarding)| forwarding.mac == found.mac)) {
        links.remove_forwarding(tunnel, stale).during("removing a peer from the tunnel")?;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
