//! Routes of the main table. Source: `rtnetlink(7)`.

use std::net::{IpAddr, Ipv4Addr};

use super::{
    Links, NetError, Result,
    links::{family, rtm},
    wire::{Request, address, attributes, flags, native_u32},
};

pub(super) mod rta {
    pub const DESTINATION: u16 = 1;
    pub const OUT_LINK: u16 = 4;
    pub const GATEWAY: u16 = 5;
    pub const PRIORITY: u16 = 6;
    pub const PREFERRED_SOURCE: u16 = 7;
}

const RT_TABLE_MAIN: u8 = 254;
pub(super) const RT_SCOPE_UNIVERSE: u8 = 0;
const RT_SCOPE_NOWHERE: u8 = 255;
const RTN_UNICAST: u8 = 1;
const RTNH_ONLINK: u32 = 4;

/// A route of the main table. Without a gateway the destination is reached on the link itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Route {
    pub destination: IpAddr,
    pub prefix: u8,
    pub link: u32,
    pub gateway: Option<IpAddr>,
    /// The address the host takes as its own when it opens a connection over this route.
    pub source: Option<IpAddr>,
    /// The gateway is on the link although no address of the link says so.
    pub is_on_link: bool,
    /// Who made it, as `ip route` prints it behind `proto`: [`Route::STATIC`], or a number that tells one's own apart.
    pub protocol: u8,
}

impl Route {
    pub const STATIC: u8 = 4;

    /// A route to what is reached on the link itself.
    pub fn new(destination: IpAddr, prefix: u8, link: u32) -> Self {
        let (gateway, source) = (None, None);
        Self { destination, prefix, link, gateway, source, is_on_link: false, protocol: Self::STATIC }
    }
}

impl Links {
    /// Removes a route; succeeds where there is none.
    pub fn remove_route(&self, route: &Route) -> Result<()> {
        let mut request = Request::new();
        let name = format!("{}/{}", route.destination, route.prefix);
        request.message(rtm::DEL_ROUTE, flags::ACK, "remove route", &name, |w| {
            w.header(&route_header(route, RT_SCOPE_NOWHERE));
            w.address(rta::DESTINATION, route.destination);
            w.u32(rta::OUT_LINK, route.link);
        });
        self.netlink.execute_forgiving(&request, NetError::is_missing)
    }

    /// The index of the link that the IPv4 default route with the lowest metric leaves by.
    pub fn default_route_link(&self) -> Result<Option<u32>> {
        let mut best: Option<(u32, u32)> = None;
        self.each_route(|route, metric| {
            if route.prefix == 0 && best.is_none_or(|(_, lowest)| metric < lowest) {
                best = Some((route.link, metric));
            }
        })?;
        Ok(best.map(|(link, _)| link))
    }

    /// The IPv4 routes of the main table that leave by one link.
    pub fn routes(&self) -> Result<Vec<Route>> {
        let mut routes = Vec::new();
        self.each_route(|route, _| routes.push(route))?;
        Ok(routes)
    }

    /// Each route with its metric.
    fn each_route(&self, mut each: impl FnMut(Route, u32)) -> Result<()> {
        let mut request = Request::new();
        request.message(rtm::GET_ROUTE, flags::DUMP, "list", "routes", |w| {
            let mut header = [0; 12];
            header[0] = nix::libc::AF_INET as u8;
            w.header(&header);
        });
        self.netlink.query(&request, |message| {
            if let Some((route, metric)) = parse_route(message.payload) {
                each(route, metric);
            }
        })
    }
}

/// `struct rtmsg`.
pub(super) fn route_header(route: &Route, scope: u8) -> [u8; 12] {
    let mut header = [0; 12];
    header[..2].copy_from_slice(&[family(route.destination), route.prefix]);
    header[4..8].copy_from_slice(&[RT_TABLE_MAIN, route.protocol, scope, RTN_UNICAST]);
    let hop = if route.is_on_link { RTNH_ONLINK } else { 0 };
    header[8..].copy_from_slice(&hop.to_ne_bytes());
    header
}

fn parse_route(payload: &[u8]) -> Option<(Route, u32)> {
    let (header, rest) = payload.split_at_checked(12)?;
    if header[4] != RT_TABLE_MAIN || header[7] != RTN_UNICAST {
        return None;
    }
    let mut route = Route::new(Ipv4Addr::UNSPECIFIED.into(), header[1], 0);
    route.protocol = header[5];
    route.is_on_link = native_u32(&header[8..])? & RTNH_ONLINK != 0;
    let mut metric = 0;
    for (kind, value) in attributes(rest) {
        match kind {
            rta::DESTINATION => route.destination = address(value)?,
            rta::OUT_LINK => route.link = native_u32(value)?,
            rta::GATEWAY => route.gateway = address(value),
            rta::PREFERRED_SOURCE => route.source = address(value),
            rta::PRIORITY => metric = native_u32(value)?,
            _ => {}
        }
    }
    (route.link != 0).then_some((route, metric))
}
