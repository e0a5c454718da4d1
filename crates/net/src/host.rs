//! What the node itself needs: its link in the pod network, the routes, and the kernel settings, which are noted
//! before they are changed so that a reset can put them back.

use std::{collections::BTreeMap, fs, io, net::IpAddr, path::Path};

use knarr_os::net::{
    Links, Route,
    nft::{BaseChain, Hook, Nftables},
    sysctl,
};

use crate::{
    Config, Ipv4Cidr,
    config::gateway,
    error::{During, NetworkError, Result},
    names::{self, LINK_PREFIX, NODE_LINK, TABLE},
};

/// Marks our routes to other nodes: `ip route` prints it behind `proto`.
pub const ROUTE_PROTOCOL: u8 = 75;

const DEFAULT_MTU: u32 = 1500;
/// The settings of the whole host that are changed. Forwarding is what makes it a router for its pods.
const SETTINGS: &[(&str, &str)] = &[("ipv4/ip_forward", "1")];
/// `NFPROTO_INET` and `NFPROTO_IPV4`
const INET: u8 = 1;
const IPV4: u8 = 2;
const RECORD: &str = "sysctls.json";

/// The largest packet that leaves the host in one piece.
pub fn uplink_mtu(links: &Links) -> Result<u32> {
    let Some(index) = links.default_route_link().during("looking for the default route")? else {
        return Ok(DEFAULT_MTU);
    };
    let all = links.list().during("listing links")?;
    Ok(all.iter().find(|link| link.index == index).map_or(DEFAULT_MTU, |link| link.mtu))
}

/// Refuses a range that another program routes to already: another cluster's leftovers, a VPN. A wider route of
/// theirs does no harm, for ours are narrower and win.
pub fn check_range(links: &Links, what: &'static str, range: Ipv4Cidr) -> Result<()> {
    let all = links.list().during("listing links")?;
    let name = |index| all.iter().find(|link| link.index == index).map_or("", |link| &link.name);
    for route in links.routes().during("listing routes")? {
        let IpAddr::V4(destination) = route.destination else { continue };
        let Some(found) = Ipv4Cidr::new(destination, route.prefix) else { continue };
        let link = name(route.link);
        let is_foreign = !is_ours(link) && route.protocol != ROUTE_PROTOCOL;
        if is_foreign && found.prefix() >= range.prefix() && range.contains(destination) {
            return Err(NetworkError::RangeTaken { what, range, link: link.to_owned(), found });
        }
    }
    Ok(())
}

/// Whose pod network this host has, where it has one that says so.
pub fn owner(links: &Links) -> Result<Option<String>> {
    let link = links.find(NODE_LINK).during("looking for the node's link")?;
    Ok(link.and_then(|link| link.alias).filter(|alias| !alias.is_empty()))
}

/// Refuses a host whose network is that of another data directory: pods of both would share addresses, and the table.
pub fn check_owner(links: &Links, data_dir: &Path) -> Result<()> {
    match owner(links)? {
        Some(owner) if owner != names::owner(data_dir) => Err(NetworkError::HostTaken { owner }),
        _ => Ok(()),
    }
}

/// Makes the node's link, or completes the one that is there.
pub fn ensure_node_link(links: &Links, config: &Config, mtu: u32) -> Result<()> {
    links.add_bridge(NODE_LINK, names::mac(NODE_LINK), mtu).during("making the node's link")?;
    let index = links.get(NODE_LINK).during("looking for the node's link")?.index;
    let configure = links.change(|changes| {
        changes.set_up(index);
        changes.set_alias(index, &names::owner(&config.data_dir));
        changes.add_address(index, config.cluster_dns.into(), 32);
    });
    configure.during("configuring the node's link")
}

/// Gives the node its address in its own pod range, in place of the one it had in a former range.
pub fn give_address(links: &Links, config: &Config, former: Option<&Ipv4Cidr>, range: &Ipv4Cidr) -> Result<()> {
    let index = links.get(NODE_LINK).during("looking for the node's link")?.index;
    let own = gateway(range);
    let services = config.service_cidr;
    let service_route =
        Route { source: Some(own.into()), ..Route::new(services.first().into(), services.prefix(), index) };
    let configure = links.change(|changes| {
        changes.add_address(index, own.into(), 32);
        // Without it a process of the node could not even begin to connect to a Service where there is no
        // default route.
        changes.set_route(&service_route);
    });
    configure.during("giving the node its pod address")?;
    match former.map(gateway).filter(|former| *former != own) {
        Some(former) => links.remove_address(index, former.into(), 32).during("taking back the node's former address"),
        None => Ok(()),
    }
}

/// Changes the host's settings, noting first what they were.
pub fn apply_settings(records: &Path) -> Result<()> {
    let path = records.join(RECORD);
    let mut former = read_record(&path)?;
    for (name, value) in SETTINGS {
        let current = sysctl::read(name).during("reading kernel settings")?;
        if current != *value && !former.contains_key(*name) {
            former.insert((*name).to_owned(), current);
            write_record(&path, &former)?;
        }
        sysctl::write(name, value).during("changing kernel settings")?;
    }
    Ok(())
}

/// Puts the host's settings back and forgets the note.
pub fn restore_settings(records: &Path) -> Result<()> {
    let path = records.join(RECORD);
    for (name, value) in read_record(&path)? {
        sysctl::write(&name, &value).during("restoring kernel settings")?;
    }
    match fs::remove_file(&path) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => Err(NetworkError::Record { path, source }),
        _ => Ok(()),
    }
}

/// The chains of other programs that drop what the node forwards, as `table chain`. Packets between pods and to the
/// world are forwarded, and no rule of ours can undo what another table drops.
pub fn forwarding_obstacles(nftables: &Nftables) -> Result<Vec<String>> {
    let chains = nftables.base_chains().during("listing nftables chains")?;
    let stands_in_the_way = |chain: &&BaseChain| {
        chain.drops && chain.hook == Hook::Forward as u32 && matches!(chain.family, IPV4 | INET) && chain.table != TABLE
    };
    Ok(chains.iter().filter(stands_in_the_way).map(|chain| format!("{} {}", chain.table, chain.name)).collect())
}

/// Removes all links of ours, the node's own last: it says whose they are.
pub fn remove_links(links: &Links) -> Result<()> {
    let mut all = links.list().during("listing links")?;
    all.retain(|link| is_ours(&link.name));
    all.sort_by_key(|link| link.name == NODE_LINK);
    links.remove_all(all.iter().map(|link| link.name.as_str())).during("removing links")
}

/// Removes the routes to other nodes' pods that lie on the host's own links; those on links of ours go with them.
pub fn remove_routes(links: &Links) -> Result<()> {
    let routes = links.routes().during("listing routes")?;
    let mut ours = routes.iter().filter(|route| route.protocol == ROUTE_PROTOCOL);
    ours.try_for_each(|route| links.remove_route(route).during("removing a route"))
}

pub fn is_ours(name: &str) -> bool {
    name == NODE_LINK || name.strip_prefix(LINK_PREFIX).is_some_and(|rest| rest.starts_with('-'))
}

fn read_record(path: &Path) -> Result<BTreeMap<String, String>> {
    match fs::read(path) {
        Ok(content) => serde_json::from_slice(&content)
            .map_err(|source| NetworkError::Record { path: path.into(), source: source.into() }),
        Err(source) if source.kind() == io::ErrorKind::NotFound => Ok(BTreeMap::new()),
        Err(source) => Err(NetworkError::Record { path: path.into(), source }),
    }
}

fn write_record(path: &Path, former: &BTreeMap<String, String>) -> Result<()> {
    let write = || {
        let new = path.with_extension("new");
        fs::write(&new, serde_json::to_vec(former)?)?;
        fs::rename(&new, path)
    };
    write().map_err(|source| NetworkError::Record { path: path.into(), source })
}
