//! Links and addresses. Source: `rtnetlink(7)`.

use std::{fmt, fs::File, net::IpAddr, os::fd::AsRawFd, path::Path};

use super::{
    LinkChanges, NetError, Netlink, Protocol, Result,
    routes::RT_SCOPE_UNIVERSE,
    wire::{Attributes, Message, Request, address, attribute, attributes, flags, native_u32, text},
};

pub(super) mod rtm {
    pub const NEW_LINK: u16 = 16;
    pub const DEL_LINK: u16 = 17;
    pub const GET_LINK: u16 = 18;
    pub const SET_LINK: u16 = 19;
    pub const NEW_ADDR: u16 = 20;
    pub const DEL_ADDR: u16 = 21;
    pub const GET_ADDR: u16 = 22;
    pub const NEW_ROUTE: u16 = 24;
    pub const DEL_ROUTE: u16 = 25;
    pub const GET_ROUTE: u16 = 26;
    pub const NEW_NEIGHBOUR: u16 = 28;
    pub const DEL_NEIGHBOUR: u16 = 29;
    pub const GET_NEIGHBOUR: u16 = 30;
}

pub(super) mod ifla {
    pub const ADDRESS: u16 = 1;
    pub const NAME: u16 = 3;
    pub const MTU: u16 = 4;
    pub const MASTER: u16 = 10;
    pub const LINK_INFO: u16 = 18;
    pub const ALIAS: u16 = 20;
    pub const GROUP: u16 = 27;
    pub const NET_NS_FD: u16 = 28;
    pub const INFO_KIND: u16 = 1;
    pub const INFO_DATA: u16 = 2;
    pub const VETH_PEER: u16 = 1;
    pub const VXLAN_ID: u16 = 1;
    pub const VXLAN_LOCAL: u16 = 4;
    pub const VXLAN_LEARNING: u16 = 7;
    pub const VXLAN_PORT: u16 = 15;
}

pub(super) const IFF_UP: u32 = 1;
/// A group that no link is in but those that are being removed.
const DOOMED: u32 = 0x6b6e_6172;
/// So many acknowledgements fit into a socket's buffer.
const REMOVED_AT_ONCE: usize = 100;

/// An Ethernet address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Mac(pub [u8; 6]);

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

/// A link as the kernel describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    pub index: u32,
    pub name: String,
    pub mtu: u32,
    pub up: bool,
    pub mac: Option<Mac>,
    /// A note of up to 255 bytes that anybody may leave on a link.
    pub alias: Option<String>,
    /// Where a VXLAN link's packets come from.
    pub tunnel_from: Option<IpAddr>,
}

/// One end of a veth pair to be made.
#[derive(Clone, Copy, Debug)]
pub struct LinkConfig<'a> {
    pub name: &'a str,
    pub mac: Mac,
    pub mtu: u32,
}

/// The links, addresses and routes of one network namespace.
#[derive(Debug)]
pub struct Links {
    pub(super) netlink: Netlink,
}

impl Links {
    /// Those of the calling thread's network namespace.
    pub fn open() -> Result<Self> {
        Ok(Self { netlink: Netlink::open(Protocol::Route)? })
    }

    /// Those of the network namespace that a file holds.
    pub fn open_in(netns: &Path) -> Result<Self> {
        Ok(Self { netlink: Netlink::open_in(netns, Protocol::Route)? })
    }

    pub fn list(&self) -> Result<Vec<Link>> {
        let mut request = Request::new();
        request.message(rtm::GET_LINK, flags::DUMP, "list", "links", |w| w.header(&link_header(0, 0, 0)));
        let mut links = Vec::new();
        self.netlink.query(&request, |message| links.extend(parse_link(&message)))?;
        Ok(links)
    }

    /// The link of this name, `None` where there is none.
    pub fn find(&self, name: &str) -> Result<Option<Link>> {
        let mut request = Request::new();
        request.message(rtm::GET_LINK, 0, "look up link", name, |w| {
            w.header(&link_header(0, 0, 0));
            w.text(ifla::NAME, name);
        });
        let mut link = None;
        match self.netlink.query(&request, |message| link = link.take().or(parse_link(&message))) {
            Ok(()) => Ok(link),
            Err(error) if error.is_missing() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The link of this name, which must be there.
    pub fn get(&self, name: &str) -> Result<Link> {
        self.find(name)?.ok_or_else(|| NetError::NoLink { name: name.into() })
    }

    /// Makes a bridge and takes it up; succeeds where it is there.
    pub fn add_bridge(&self, name: &str, mac: Mac, mtu: u32) -> Result<()> {
        let mut request = Request::new();
        let create = flags::CREATE | flags::EXCLUSIVE | flags::ACK;
        request.message(rtm::NEW_LINK, create, "add bridge", name, |w| {
            w.header(&link_header(0, IFF_UP, IFF_UP));
            w.text(ifla::NAME, name);
            w.bytes(ifla::ADDRESS, &mac.0);
            w.u32(ifla::MTU, mtu);
            w.nest(ifla::LINK_INFO, |w| w.text(ifla::INFO_KIND, "bridge"));
        });
        self.netlink.execute_forgiving(&request, NetError::is_exists)
    }

    /// Makes a veth pair, one end here, up, and one in the network namespace that `netns` holds, down.
    pub fn add_veth(&self, here: LinkConfig<'_>, there: LinkConfig<'_>, netns: &Path) -> Result<()> {
        let namespace = File::open(netns).map_err(|source| NetError::Namespace { path: netns.into(), source })?;
        let mut request = Request::new();
        let create = flags::CREATE | flags::EXCLUSIVE | flags::ACK;
        request.message(rtm::NEW_LINK, create, "add veth", here.name, |w| {
            w.header(&link_header(0, IFF_UP, IFF_UP));
            veth_end(w, here);
            w.nest(ifla::LINK_INFO, |w| {
                w.text(ifla::INFO_KIND, "veth");
                w.nest(ifla::INFO_DATA, |w| {
                    w.nest(ifla::VETH_PEER, |w| {
                        // It cannot be taken up in the same message: that needs the pair to be complete.
                        w.header(&link_header(0, 0, 0));
                        veth_end(w, there);
                        w.u32(ifla::NET_NS_FD, namespace.as_raw_fd() as u32);
                    });
                });
            });
        });
        self.netlink.execute(&request)
    }

    /// Removes a link (and with a veth its other end); succeeds where there is none.
    pub fn remove(&self, name: &str) -> Result<()> {
        let mut request = Request::new();
        request.message(rtm::DEL_LINK, flags::ACK, "remove link", name, |w| {
            w.header(&link_header(0, 0, 0));
            w.text(ifla::NAME, name);
        });
        self.netlink.execute_forgiving(&request, NetError::is_missing)
    }

    /// Removes several at once, which takes hardly longer than one does: the kernel waits for all its processors once,
    /// and not for each. Those that are not there count as removed.
    pub fn remove_all<'a>(&self, names: impl IntoIterator<Item = &'a str>) -> Result<()> {
        let names: Vec<_> = names.into_iter().collect();
        names.chunks(REMOVED_AT_ONCE).try_for_each(|names| match names {
            [name] => self.remove(name),
            names => self.remove_marked(names),
        })
    }

    fn remove_marked(&self, names: &[&str]) -> Result<()> {
        let mut request = Request::new();
        for name in names {
            request.message(rtm::SET_LINK, flags::ACK, "mark link for removal", name, |w| {
                w.header(&link_header(0, 0, 0));
                w.text(ifla::NAME, name);
                w.u32(ifla::GROUP, DOOMED);
            });
        }
        request.message(rtm::DEL_LINK, flags::ACK, "remove links", "marked for removal", |w| {
            w.header(&link_header(0, 0, 0));
            w.u32(ifla::GROUP, DOOMED);
        });
        self.netlink.execute_forgiving(&request, NetError::is_missing)
    }

    pub fn set_up(&self, index: u32) -> Result<()> {
        self.change(|plan| plan.set_up(index))
    }

    /// Applies several small changes in one system call. What is there already counts as done.
    pub fn change(&self, plan: impl FnOnce(&mut LinkChanges)) -> Result<()> {
        let mut changes = LinkChanges { request: Request::new() };
        plan(&mut changes);
        if changes.request.is_empty() {
            return Ok(());
        }
        self.netlink.execute_forgiving(&changes.request, NetError::is_exists)
    }

    /// Takes an address off a link; succeeds where it is not there.
    pub fn remove_address(&self, index: u32, ip: IpAddr, prefix: u8) -> Result<()> {
        let mut request = Request::new();
        request.message(rtm::DEL_ADDR, flags::ACK, "remove address", &ip.to_string(), |w| {
            w.header(&address_header(index, ip, prefix));
            w.address(2, ip);
        });
        // The kernel says "cannot assign" of an address that is not there.
        let is_gone = |error: &NetError| error.is_missing() || error.errno() == Some(nix::libc::EADDRNOTAVAIL);
        self.netlink.execute_forgiving(&request, is_gone)
    }

    /// The addresses of this host as (link index, address, prefix length).
    pub fn addresses(&self) -> Result<Vec<(u32, IpAddr, u8)>> {
        let mut request = Request::new();
        request.message(rtm::GET_ADDR, flags::DUMP, "list", "addresses", |w| w.header(&[0; 8]));
        let mut found = Vec::new();
        self.netlink.query(&request, |message| {
            let Some((header, rest)) = message.payload.split_at_checked(8) else { return };
            let Some(index) = native_u32(&header[4..8]) else { return };
            let (mut local, mut remote) = (None, None);
            for (kind, value) in attributes(rest) {
                match kind {
                    1 => remote = address(value),
                    2 => local = address(value),
                    _ => {}
                }
            }
            // On a point-to-point link the two differ, and the local one is the host's own.
            found.extend(local.or(remote).map(|ip| (index, ip, header[1])));
        })?;
        Ok(found)
    }
}

fn veth_end(w: &mut Attributes<'_>, end: LinkConfig<'_>) {
    w.text(ifla::NAME, end.name);
    w.bytes(ifla::ADDRESS, &end.mac.0);
    w.u32(ifla::MTU, end.mtu);
}

/// `struct ifinfomsg`.
pub(super) fn link_header(index: u32, link_flags: u32, change: u32) -> [u8; 16] {
    let mut header = [0; 16];
    header[4..8].copy_from_slice(&index.to_ne_bytes());
    header[8..12].copy_from_slice(&link_flags.to_ne_bytes());
    header[12..16].copy_from_slice(&change.to_ne_bytes());
    header
}

/// `struct ifaddrmsg`.
pub(super) fn address_header(index: u32, ip: IpAddr, prefix: u8) -> [u8; 8] {
    let mut header = [family(ip), prefix, 0, RT_SCOPE_UNIVERSE, 0, 0, 0, 0];
    header[4..].copy_from_slice(&index.to_ne_bytes());
    header
}

pub(super) fn family(ip: IpAddr) -> u8 {
    let family = if ip.is_ipv4() { nix::libc::AF_INET } else { nix::libc::AF_INET6 };
    family as u8
}

fn parse_link(message: &Message<'_>) -> Option<Link> {
    let (header, rest) = message.payload.split_at_checked(16).filter(|_| message.kind == rtm::NEW_LINK)?;
    let mut link = Link {
        index: native_u32(&header[4..8])?,
        name: String::new(),
        mtu: 0,
        up: native_u32(&header[8..12])? & IFF_UP != 0,
        mac: None,
        alias: None,
        tunnel_from: None,
    };
    for (kind, value) in attributes(rest) {
        match kind {
            ifla::NAME => link.name = text(value).to_owned(),
            ifla::MTU => link.mtu = native_u32(value)?,
            ifla::ALIAS => link.alias = Some(text(value).to_owned()),
            ifla::ADDRESS => link.mac = value.try_into().ok().map(Mac),
            ifla::LINK_INFO if attribute(value, ifla::INFO_KIND).is_some_and(|kind| text(kind) == "vxlan") => {
                let data = attribute(value, ifla::INFO_DATA).unwrap_or_default();
                link.tunnel_from = attribute(data, ifla::VXLAN_LOCAL).and_then(address);
            }
            _ => {}
        }
    }
    Some(link)
}
