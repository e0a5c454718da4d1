//! Connection tracking entries by ctnetlink: listed and deleted one by one, because a datagram "connection"
//! has no end of its own and would be sent to a vanished endpoint for as long as the client keeps talking.
//!
//! Source: `include/uapi/linux/netfilter/nfnetlink_conntrack.h`.

use std::net::{IpAddr, Ipv4Addr};

use super::{
    NetError, Netlink, Result,
    wire::{Attributes, Request, address, attribute, attributes, flags},
};

const SUBSYSTEM: u16 = 1 << 8;
const GET: u16 = SUBSYSTEM | 1;
const DELETE: u16 = SUBSYSTEM | 2;

mod cta {
    pub const TUPLE_ORIGINAL: u16 = 1;
    pub const TUPLE_REPLY: u16 = 2;
    pub const TUPLE_IP: u16 = 1;
    pub const TUPLE_PROTO: u16 = 2;
    pub const FILTER: u16 = 25;
    pub const FILTER_ORIGINAL: u16 = 1;
    pub const FILTER_REPLY: u16 = 2;
    pub const FILTER_BY_PROTOCOL: u32 = 1 << 3;
    pub const PROTO_NUMBER: u16 = 1;
    pub const PROTO_SOURCE_PORT: u16 = 2;
    pub const PROTO_DESTINATION_PORT: u16 = 3;
}

/// One direction of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tuple {
    pub source: IpAddr,
    pub destination: IpAddr,
    pub protocol: u8,
    pub source_port: u16,
    pub destination_port: u16,
}

/// A tracked connection: as its first packet came, and as answers to it come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Connection {
    pub original: Tuple,
    pub reply: Tuple,
}

/// Deletes the connections of a protocol that `doomed` picks; answers how many went.
pub fn delete(netlink: &Netlink, protocol: u8, doomed: impl Fn(&Connection) -> bool) -> Result<usize> {
    let mut request = Request::new();
    let mut count = 0;
    for connection in list(netlink, protocol)?.iter().filter(|connection| doomed(connection)) {
        count += 1;
        request.message(DELETE, flags::ACK, "delete connection to", &connection.reply.source.to_string(), |w| {
            w.header(&header(connection.original.source));
            w.nest(cta::TUPLE_ORIGINAL, |w| write_tuple(w, &connection.original));
        });
    }
    if count > 0 {
        // An entry may time out between the listing and its deletion.
        netlink.execute_forgiving(&request, NetError::is_missing)?;
    }
    Ok(count)
}

/// The tracked IPv4 connections of a protocol that has ports. The kernel picks them out, since a busy host tracks
/// a hundred thousand others; kernels before 5.8 cannot, and send all.
pub fn list(netlink: &Netlink, protocol: u8) -> Result<Vec<Connection>> {
    let ask = |filtered: bool| {
        let mut request = Request::new();
        request.message(GET, flags::DUMP, "list", "connections", |w| {
            w.header(&header(Ipv4Addr::UNSPECIFIED.into()));
            if filtered {
                w.nest(cta::TUPLE_ORIGINAL, |w| {
                    w.nest(cta::TUPLE_PROTO, |w| w.u8(cta::PROTO_NUMBER, protocol));
                });
                w.nest(cta::FILTER, |w| {
                    w.u32(cta::FILTER_ORIGINAL, cta::FILTER_BY_PROTOCOL);
                    w.u32(cta::FILTER_REPLY, 0);
                });
            }
        });
        let mut found = Vec::new();
        netlink.query(&request, |message| {
            let rest = message.payload.get(4..).unwrap_or_default();
            let side = |kind| attribute(rest, kind).and_then(parse_tuple);
            if let (Some(original), Some(reply)) = (side(cta::TUPLE_ORIGINAL), side(cta::TUPLE_REPLY)) {
                found.push(Connection { original, reply });
            }
        })?;
        found.retain(|connection| connection.original.protocol == protocol);
        Ok(found)
    };
    match ask(true) {
        Err(NetError::Refused { .. }) => ask(false),
        answer => answer,
    }
}

/// `struct nfgenmsg`.
fn header(ip: IpAddr) -> [u8; 4] {
    let family = if ip.is_ipv4() { nix::libc::AF_INET } else { nix::libc::AF_INET6 };
    [family as u8, 0, 0, 0]
}

fn write_tuple(w: &mut Attributes<'_>, tuple: &Tuple) {
    let (source, destination) = if tuple.source.is_ipv4() { (1, 2) } else { (3, 4) };
    w.nest(cta::TUPLE_IP, |w| {
        w.address(source, tuple.source);
        w.address(destination, tuple.destination);
    });
    w.nest(cta::TUPLE_PROTO, |w| {
        w.u8(cta::PROTO_NUMBER, tuple.protocol);
        w.bytes(cta::PROTO_SOURCE_PORT, &tuple.source_port.to_be_bytes());
        w.bytes(cta::PROTO_DESTINATION_PORT, &tuple.destination_port.to_be_bytes());
    });
}

fn parse_tuple(bytes: &[u8]) -> Option<Tuple> {
    let mut ends = attributes(attribute(bytes, cta::TUPLE_IP)?);
    let source = ends.find(|(kind, _)| matches!(kind, 1 | 3)).and_then(|(_, value)| address(value))?;
    let destination = ends.find(|(kind, _)| matches!(kind, 2 | 4)).and_then(|(_, value)| address(value))?;
    let proto = attribute(bytes, cta::TUPLE_PROTO)?;
    let port = |kind| Some(u16::from_be_bytes(attribute(proto, kind)?.try_into().ok()?));
    Some(Tuple {
        source,
        destination,
        protocol: *attribute(proto, cta::PROTO_NUMBER)?.first()?,
        source_port: port(cta::PROTO_SOURCE_PORT)?,
        destination_port: port(cta::PROTO_DESTINATION_PORT)?,
    })
}
