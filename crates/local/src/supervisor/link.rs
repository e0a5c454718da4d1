//! The node's link: one end on the cluster's bridge, the other `eth0` of the network namespace that this process is in.

use std::path::Path;

use knarr_os::net::{LinkConfig, Links, Mac, Route};

use crate::{ClusterRecord, NodeRecord, Range, Result, error::During, network};

const LINK: &str = "eth0";

/// `host` are the links of the host, opened before this process left its network namespace.
pub fn connect(host: &Links, cluster: &ClusterRecord, node: &NodeRecord) -> Result<()> {
    let port = network::port(&cluster.bridge, node.address);
    let mtu = network::uplink_mtu(host)?;
    let mac = network::mac(node.address.octets());
    let mut port_mac = mac;
    let Mac([_, kind, ..]) = &mut port_mac;
    *kind += 1;
    // Of a former life: the kernel takes down the network of the dead in its own time.
    host.remove(&port).during("removing the node's former link")?;
    let here = LinkConfig { name: &port, mac: port_mac, mtu };
    let there = LinkConfig { name: LINK, mac, mtu };
    host.add_veth(here, there, Path::new("/proc/self/ns/net")).during("making the node's link")?;
    let bridge = host.get(&cluster.bridge).during("looking for the cluster's bridge")?.index;
    let index = host.get(&port).during("looking for the node's link")?.index;
    host.change(|changes| changes.set_master(index, bridge)).during("connecting the node's link")?;

    let own = Links::open().during("opening the node's network")?;
    let index = own.get(LINK).during("looking for the node's link")?.index;
    let any = std::net::Ipv4Addr::UNSPECIFIED.into();
    let gateway = Some(cluster.range.host().into());
    let configure = own.change(|changes| {
        changes.set_up(index);
        changes.add_address(index, node.address.into(), Range::PREFIX);
        changes.set_route(&Route { gateway, ..Route::new(any, 0, index) });
    });
    configure.during("configuring the node's link")
}
