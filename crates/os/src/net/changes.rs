//! Small changes of links, addresses, neighbours and routes, which go to the kernel in one system call.

use std::net::IpAddr;

use super::{
    Mac, Route,
    links::{IFF_UP, address_header, family, ifla, link_header, rtm},
    routes::{RT_SCOPE_UNIVERSE, route_header, rta},
    wire::{Request, flags},
};

pub(super) const NUD_PERMANENT: u16 = 0x80;
const RT_SCOPE_LINK: u8 = 253;

/// Changes collected for one system call.
pub struct LinkChanges {
    pub(super) request: Request,
}

impl LinkChanges {
    pub fn set_up(&mut self, index: u32) {
        self.request.message(rtm::NEW_LINK, flags::ACK, "take up link", &index.to_string(), |w| {
            w.header(&link_header(index, IFF_UP, IFF_UP));
        });
    }

    /// Takes a link down: its routes go, its addresses stay.
    pub fn set_down(&mut self, index: u32) {
        self.request.message(rtm::NEW_LINK, flags::ACK, "take down link", &index.to_string(), |w| {
            w.header(&link_header(index, 0, IFF_UP));
        });
    }

    pub fn set_alias(&mut self, index: u32, alias: &str) {
        self.request.message(rtm::NEW_LINK, flags::ACK, "set alias of link", &index.to_string(), |w| {
            w.header(&link_header(index, 0, 0));
            w.text(ifla::ALIAS, alias);
        });
    }

    /// Makes a link a port of a bridge.
    pub fn set_master(&mut self, index: u32, bridge: u32) {
        self.request.message(rtm::NEW_LINK, flags::ACK, "set bridge of link", &index.to_string(), |w| {
            w.header(&link_header(index, 0, 0));
            w.u32(ifla::MASTER, bridge);
        });
    }

    pub fn add_address(&mut self, index: u32, ip: IpAddr, prefix: u8) {
        let make = flags::CREATE | flags::EXCLUSIVE | flags::ACK;
        self.request.message(rtm::NEW_ADDR, make, "add address", &ip.to_string(), |w| {
            w.header(&address_header(index, ip, prefix));
            w.address(2, ip);
            w.address(1, ip);
        });
    }

    /// A neighbour that is known for good, so that no packet ever waits for its address.
    pub fn set_neighbour(&mut self, index: u32, ip: IpAddr, mac: Mac) {
        let make = flags::CREATE | flags::REPLACE | flags::ACK;
        self.request.message(rtm::NEW_NEIGHBOUR, make, "set neighbour", &ip.to_string(), |w| {
            w.header(&neighbour_header(family(ip), index));
            w.address(1, ip);
            w.bytes(2, &mac.0);
        });
    }

    pub fn set_route(&mut self, route: &Route) {
        let make = flags::CREATE | flags::REPLACE | flags::ACK;
        let name = format!("{}/{}", route.destination, route.prefix);
        self.request.message(rtm::NEW_ROUTE, make, "set route", &name, |w| {
            let scope = if route.gateway.is_some() { RT_SCOPE_UNIVERSE } else { RT_SCOPE_LINK };
            w.header(&route_header(route, scope));
            if route.prefix > 0 {
                w.address(rta::DESTINATION, route.destination);
            }
            w.u32(rta::OUT_LINK, route.link);
            if let Some(gateway) = route.gateway {
                w.address(rta::GATEWAY, gateway);
            }
            if let Some(source) = route.source {
                w.address(rta::PREFERRED_SOURCE, source);
            }
        });
    }
}

/// `struct ndmsg`, of a neighbour that is known for good.
pub(super) fn neighbour_header(family: u8, index: u32) -> [u8; 12] {
    let mut header = [0; 12];
    header[0] = family;
    header[4..8].copy_from_slice(&index.to_ne_bytes());
    header[8..10].copy_from_slice(&NUD_PERMANENT.to_ne_bytes());
    header
}
