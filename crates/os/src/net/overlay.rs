//! VXLAN links without learning: where each peer is, is told by hand. A packet to a peer's pods has the peer as its
//! gateway; the gateway's hardware address is a [`Neighbour`], and the machine behind that address a [`Forwarding`].
//! Source: RFC 7348, `bridge(8)`.

use std::net::IpAddr;

use super::{
    LinkConfig, Links, Mac, NetError, Result,
    changes::{LinkChanges, NUD_PERMANENT, neighbour_header},
    links::{IFF_UP, ifla, link_header, rtm},
    wire::{Message, Request, address, attributes, flags, native_u32},
};

const NDA_ADDRESS: u16 = 1;
const NDA_MAC: u16 = 2;
const AF_BRIDGE: u8 = nix::libc::AF_BRIDGE as u8;
/// The entry is the link's own table's, not that of a bridge it is a port of.
const NTF_SELF: u8 = 2;

/// What tells a VXLAN link from others of the same host.
#[derive(Clone, Copy, Debug)]
pub struct Vxlan {
    pub id: u32,
    /// The UDP port, here and at the peers.
    pub port: u16,
    /// The address of this host that packets leave with.
    pub from: IpAddr,
}

/// The hardware address of a neighbour on a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Neighbour {
    pub ip: IpAddr,
    pub mac: Mac,
}

/// The machine to which a VXLAN link sends what is for a hardware address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Forwarding {
    pub mac: Mac,
    pub machine: IpAddr,
}

impl Links {
    /// Makes a VXLAN link and takes it up; an error where there is one of the name.
    pub fn add_vxlan(&self, link: LinkConfig<'_>, vxlan: Vxlan) -> Result<()> {
        let mut request = Request::new();
        let create = flags::CREATE | flags::EXCLUSIVE | flags::ACK;
        request.message(rtm::NEW_LINK, create, "add VXLAN link", link.name, |w| {
            w.header(&link_header(0, IFF_UP, IFF_UP));
            w.text(ifla::NAME, link.name);
            w.bytes(ifla::ADDRESS, &link.mac.0);
            w.u32(ifla::MTU, link.mtu);
            w.nest(ifla::LINK_INFO, |w| {
                w.text(ifla::INFO_KIND, "vxlan");
                w.nest(ifla::INFO_DATA, |w| {
                    w.u32(ifla::VXLAN_ID, vxlan.id);
                    w.address(ifla::VXLAN_LOCAL, vxlan.from);
                    w.u8(ifla::VXLAN_LEARNING, 0);
                    w.bytes(ifla::VXLAN_PORT, &vxlan.port.to_be_bytes());
                });
            });
        });
        self.netlink.execute(&request)
    }

    /// The IPv4 neighbours on a link that are known for good.
    pub fn neighbours(&self, link: u32) -> Result<Vec<Neighbour>> {
        self.permanent(nix::libc::AF_INET as u8, link, |ip, mac| Neighbour { ip, mac })
    }

    /// The forwarding table of a VXLAN link.
    pub fn forwardings(&self, link: u32) -> Result<Vec<Forwarding>> {
        self.permanent(AF_BRIDGE, link, |machine, mac| Forwarding { mac, machine })
    }

    pub fn remove_neighbour(&self, link: u32, neighbour: &Neighbour) -> Result<()> {
        let mut request = Request::new();
        request.message(rtm::DEL_NEIGHBOUR, flags::ACK, "remove neighbour", &neighbour.ip.to_string(), |w| {
            w.header(&neighbour_header(super::links::family(neighbour.ip), link));
            w.address(NDA_ADDRESS, neighbour.ip);
        });
        self.netlink.execute_forgiving(&request, NetError::is_missing)
    }

    pub fn remove_forwarding(&self, link: u32, forwarding: &Forwarding) -> Result<()> {
        let mut request = Request::new();
        request.message(rtm::DEL_NEIGHBOUR, flags::ACK, "remove forwarding to", &forwarding.machine.to_string(), |w| {
            write_forwarding(w, link, forwarding);
        });
        self.netlink.execute_forgiving(&request, NetError::is_missing)
    }

    fn permanent<T>(&self, family: u8, link: u32, make: impl Fn(IpAddr, Mac) -> T) -> Result<Vec<T>> {
        let mut request = Request::new();
        request.message(rtm::GET_NEIGHBOUR, flags::DUMP, "list", "neighbours", |w| {
            w.header(&neighbour_header(family, link));
        });
        let mut found = Vec::new();
        self.netlink.query(&request, |message| {
            found.extend(parse(&message, link).map(|(ip, mac)| make(ip, mac)));
        })?;
        Ok(found)
    }
}

impl LinkChanges {
    /// Sends what is for a hardware address to a machine; to this one from now on, where it went to another.
    pub fn set_forwarding(&mut self, link: u32, forwarding: &Forwarding) {
        let make = flags::CREATE | flags::REPLACE | flags::ACK;
        let machine = forwarding.machine.to_string();
        self.request.message(rtm::NEW_NEIGHBOUR, make, "set forwarding to", &machine, |w| {
            write_forwarding(w, link, forwarding);
        });
    }
}

fn write_forwarding(w: &mut super::wire::Attributes<'_>, link: u32, forwarding: &Forwarding) {
    let mut header = neighbour_header(AF_BRIDGE, link);
    header[10] = NTF_SELF;
    w.header(&header);
    w.bytes(NDA_MAC, &forwarding.mac.0);
    w.address(NDA_ADDRESS, forwarding.machine);
}

fn parse(message: &Message<'_>, link: u32) -> Option<(IpAddr, Mac)> {
    let (header, rest) = message.payload.split_at_checked(12).filter(|_| message.kind == rtm::NEW_NEIGHBOUR)?;
    let state = u16::from_ne_bytes([header[8], header[9]]);
    if native_u32(&header[4..8])? != link || state & NUD_PERMANENT == 0 {
        return None;
    }
    let (mut ip, mut mac) = (None, None);
    for (kind, value) in attributes(rest) {
        match kind {
            NDA_ADDRESS => ip = address(value),
            NDA_MAC => mac = value.try_into().ok().map(Mac),
            _ => {}
        }
    }
    Some((ip?, mac?))
}
