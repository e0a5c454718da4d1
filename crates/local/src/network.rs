//! The host's side of a cluster's network: a bridge, a table that masquerades what leaves it, and forwarding.

use std::{net::IpAddr, path::Path};

use knarr_os::net::{
    Links, Mac,
    nft::{Batch, ChainHook, ChainKind, Expr, Family, Hook, MetaKey, Nftables, Op, Reg, ipv4},
    sysctl,
};

use crate::{
    ClusterRecord, LocalError, Range, Result,
    error::{At, During},
};

/// What the names of the bridges begin with; a number follows. Not `knarr-`, which are the pods' links.
const BRIDGE: &str = "knarrbr";
const FORWARDING: &str = "ipv4/ip_forward";
const FAMILY: Family = Family::Ipv4;
const CHAIN: &str = "postrouting";
const SOURCE_NAT: ChainHook = ChainHook { kind: ChainKind::Nat, hook: Hook::Postrouting, priority: 100 };
const DEFAULT_MTU: u32 = 1500;
/// The longest text that a link can carry beside its name.
const ALIAS_BYTES: usize = 255;

/// A range and a name for a bridge that nobody on this host uses.
pub fn choose(wanted: Option<Range>) -> Result<(Range, String)> {
    let links = Links::open().during("opening the network")?;
    let names: Vec<String> = links.list().during("listing links")?.into_iter().map(|link| link.name).collect();
    let bridge = (0u32..).map(|number| format!("{BRIDGE}{number}")).find(|name| !names.contains(name));
    let bridge = bridge.ok_or(LocalError::NoFreeRange)?;
    if let Some(range) = wanted {
        check_free(&links, range)?;
        return Ok((range, bridge));
    }
    for range in Range::usual() {
        match check_free(&links, range) {
            Err(LocalError::RangeTaken { .. }) => {}
            checked => return checked.map(|()| (range, bridge)),
        }
    }
    Err(LocalError::NoFreeRange)
}

fn check_free(links: &Links, range: Range) -> Result<()> {
    let all = links.list().during("listing links")?;
    for route in links.routes().during("listing routes")? {
        let IpAddr::V4(destination) = route.destination else { continue };
        if route.prefix > 0 && range.overlaps(destination, route.prefix) {
            let link = all.iter().find(|link| link.index == route.link).map_or("another link", |link| &link.name);
            return Err(LocalError::RangeTaken { range, link: link.to_owned() });
        }
    }
    Ok(())
}

/// Makes what is missing of the host's side. `directory` is written on the bridge, which says whose it is. What
/// forwarding was before is put into the record, which the caller has to write.
pub fn ensure(record: &mut ClusterRecord, directory: &Path) -> Result<()> {
    let links = Links::open().during("opening the network")?;
    let owner = owner(directory);
    let there = links.find(&record.bridge).during("looking for the bridge")?;
    if there.is_none_or(|link| link.alias.as_deref() != Some(&owner)) {
        check_free(&links, record.range)?;
        let (_, free) = choose(Some(record.range))?;
        record.bridge = free;
    }
    let host = record.range.host();
    links.add_bridge(&record.bridge, mac(host.octets()), uplink_mtu(&links)?).during("making the bridge")?;
    let index = links.get(&record.bridge).during("looking for the bridge")?.index;
    let configure = links.change(|changes| {
        changes.set_up(index);
        changes.set_alias(index, &owner);
        changes.add_address(index, host.into(), Range::PREFIX);
    });
    configure.during("configuring the bridge")?;
    masquerade(&record.bridge, record.range)?;
    let forwarding = sysctl::read(FORWARDING).during("reading kernel settings")?;
    if forwarding != "1" {
        record.former_forwarding.get_or_insert(forwarding);
        sysctl::write(FORWARDING, "1").during("changing kernel settings")?;
    }
    Ok(())
}

/// What leaves the bridge for the world goes in the host's name.
fn masquerade(bridge: &str, range: Range) -> Result<()> {
    let mut name = bridge.as_bytes().to_vec();
    // The whole name, not a beginning.
    name.push(0);
    let (first, mask) = (range.at(0).octets(), [255, 255, 255, 0]);
    let mut batch = Batch::new(FAMILY, bridge);
    batch.add_table();
    batch.add_chain(CHAIN, Some(SOURCE_NAT));
    batch.flush_chain(CHAIN);
    batch.add_rule(
        CHAIN,
        &[
            Expr::Meta { key: MetaKey::OutName, to: Reg(8) },
            Expr::Compare { reg: Reg(8), op: Op::NotEqual, with: &name },
            ipv4::source(Reg(8)),
            Expr::Bitwise { from: Reg(8), to: Reg(8), mask, xor: [0; 4] },
            Expr::Compare { reg: Reg(8), op: Op::Equal, with: &first },
            Expr::Masquerade,
        ],
    );
    let nftables = Nftables::open().during("opening nftables")?;
    nftables.commit(batch).during("making the cluster's nftables table")
}

/// Removes what [`ensure`] made. Forwarding stays on while another network of Knarr on this host needs it: the first
/// other cluster found is told what it was, through `heir`.
pub fn remove(record: &ClusterRecord, directory: &Path, heir: impl FnOnce(&Path, &str) -> Result<()>) -> Result<()> {
    let links = Links::open().during("opening the network")?;
    let owner = owner(directory);
    // By what is written on it: the number may have come to be another's, where this host was started again.
    let all = links.list().during("listing links")?;
    for link in all.iter().filter(|link| is_bridge(&link.name) && link.alias.as_deref() == Some(&owner)) {
        let mut batch = Batch::new(FAMILY, &link.name);
        batch.delete_table();
        match Nftables::open().during("opening nftables")?.commit(batch) {
            Err(error) if !error.is_missing() => return Err(error).during("removing the cluster's nftables table"),
            _ => {}
        }
        // The nodes' links too: the kernel takes down the network of the dead in its own time.
        let is_port = |name: &str| name.strip_prefix(&link.name).is_some_and(|end| end.starts_with('-'));
        let ports = all.iter().map(|port| port.name.as_str()).filter(|name| is_port(name));
        links.remove_all(ports).during("removing the nodes' links")?;
        links.remove(&link.name).during("removing the bridge")?;
    }
    let Some(former) = &record.former_forwarding else { return Ok(()) };
    let mut others = all.iter().filter(|link| link.alias.as_deref() != Some(&owner));
    match others.find(|link| is_bridge(&link.name) || link.name == "knarr0") {
        Some(other) if is_bridge(&other.name) => heir(Path::new(other.alias.as_deref().unwrap_or_default()), former),
        Some(_) => Ok(()),
        None => sysctl::write(FORWARDING, former).during("restoring kernel settings"),
    }
}

fn is_bridge(name: &str) -> bool {
    name.strip_prefix(BRIDGE).is_some_and(|number| number.parse::<u32>().is_ok())
}

fn owner(directory: &Path) -> String {
    let mut text = directory.to_string_lossy().into_owned();
    let too_long = text.len().saturating_sub(ALIAS_BYTES);
    let at = (too_long..=text.len()).find(|at| text.is_char_boundary(*at)).unwrap_or(0);
    text.drain(..at);
    text
}

/// The largest packet that leaves the host in one piece.
pub fn uplink_mtu(links: &Links) -> Result<u32> {
    let index = links.default_route_link().during("looking for the default route")?;
    let all = links.list().during("listing links")?;
    Ok(all.iter().find(|link| Some(link.index) == index).map_or(DEFAULT_MTU, |link| link.mtu))
}

/// The hardware address that goes with an address, so that neighbours need not learn a new one when a node starts
/// again. Locally administered.
pub fn mac([a, b, c, d]: [u8; 4]) -> Mac {
    Mac([0x02, 0x6b, a, b, c, d])
}

/// The host's end of a node's link.
pub fn port(bridge: &str, address: std::net::Ipv4Addr) -> String {
    format!("{bridge}-{}", address.octets()[3])
}

/// The name servers that a node can reach, as the text of a `resolv.conf`: a server on the host's loopback address,
/// such as systemd-resolved's, is out of a node's reach, so the file with those behind it is taken.
pub fn name_servers() -> Option<std::path::PathBuf> {
    const FILES: [&str; 3] =
        ["/etc/resolv.conf", "/run/systemd/resolve/resolv.conf", "/run/NetworkManager/no-stub-resolv.conf"];
    let reachable = |text: &str| {
        text.lines()
            .filter_map(|line| line.trim().strip_prefix("nameserver")?.trim().parse::<IpAddr>().ok())
            .any(|server| !server.is_loopback())
    };
    FILES
        .iter()
        .map(Path::new)
        .find(|file| std::fs::read_to_string(file).is_ok_and(|text| reachable(&text)))
        .and_then(|file| std::fs::canonicalize(file).at("find", file).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_links_fit() {
        let port = port("knarrbr255", Range::usual().last().unwrap().at(Range::LAST_NODE));
        assert_eq!(port, "knarrbr255-199");
        assert!(port.len() <= 15);
        for (name, expected) in [("knarrbr0", true), ("knarrbr12", true), ("knarrbr0-2", false), ("knarr0", false)] {
            assert_eq!(is_bridge(name), expected, "{name}");
        }
    }

    #[test]
    fn a_long_owner_keeps_its_end() {
        assert_eq!(owner(Path::new("/a")), "/a");
        assert!(owner(Path::new(&format!("/{}/é/z", "ü".repeat(200)))).ends_with("/é/z"));
        assert!(owner(Path::new(&"ü".repeat(200))).len() <= ALIAS_BYTES);
    }
}
