//! The veth pair of one pod.

use std::{net::Ipv4Addr, path::Path};

use knarr_os::net::{LinkConfig, Links, Route, sysctl};

use crate::{
    error::{During, Result},
    names::{self, POD_LINK},
};

/// What to make.
pub struct Attachment<'a> {
    /// The name of the node's end.
    pub link: &'a str,
    pub ip: Ipv4Addr,
    pub gateway: Ipv4Addr,
    pub mtu: u32,
    pub netns: &'a Path,
}

/// Makes a pod's link with its addresses and routes. May be repeated after it was cut short anywhere.
pub fn attach(links: &Links, pod: &Attachment<'_>) -> Result<()> {
    let node_mac = names::mac(pod.link);
    let there = LinkConfig { name: POD_LINK, mac: names::mac(&format!("{}/{POD_LINK}", pod.link)), mtu: pod.mtu };
    let inside = Links::open_in(pod.netns).during("entering the pod's network namespace")?;
    let make = || links.add_veth(LinkConfig { name: pod.link, mac: node_mac, mtu: pod.mtu }, there, pod.netns);
    match make() {
        Err(error) if error.is_exists() && inside.find(POD_LINK).during("looking into the pod")?.is_none() => {
            // Left over from a namespace that is gone.
            links.remove(pod.link).during("removing a pod's former link")?;
            make().during("making the pod's link")?;
        }
        Err(error) if !error.is_exists() => return Err(error).during("making the pod's link"),
        _ => {}
    }
    configure_inside(&inside, pod, node_mac)?;
    let node_end = links.get(pod.link).during("looking for the pod's link")?;
    let to_pod = Route { source: Some(pod.gateway.into()), ..Route::new(pod.ip.into(), 32, node_end.index) };
    links.change(|changes| changes.set_route(&to_pod)).during("routing to the pod")?;
    // Lets a node port answer on 127.0.0.1; the table's input chain keeps pods from using it the other way.
    sysctl::write(&format!("ipv4/conf/{}/route_localnet", pod.link), "1").during("configuring the pod's link")
}

/// In the pod all traffic goes to the gateway, whose hardware address is the node's end and known for good.
fn configure_inside(inside: &Links, pod: &Attachment<'_>, node_mac: knarr_os::net::Mac) -> Result<()> {
    let link = inside.get(POD_LINK).during("looking into the pod")?.index;
    let loopback = inside.get("lo").during("looking into the pod")?.index;
    let gateway = pod.gateway.into();
    let to_gateway = Route::new(gateway, 32, link);
    let default = Route { gateway: Some(gateway), ..Route::new(Ipv4Addr::UNSPECIFIED.into(), 0, link) };
    let configure = inside.change(|changes| {
        changes.set_up(loopback);
        changes.set_up(link);
        changes.add_address(link, pod.ip.into(), 32);
        changes.set_neighbour(link, gateway, node_mac);
        changes.set_route(&to_gateway);
        changes.set_route(&default);
    });
    configure.during("configuring the pod's side of its link")
}
