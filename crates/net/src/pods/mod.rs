//! The pod network: each pod has a veth pair, one end in its namespace with the pod's address, the other on the
//! node with a route to that one address.
//!
//! There is no switch between the pods. Whatever a pod sends is routed by the node, so that connection tracking
//! sees both directions: on a common bridge the answer of a pod to its neighbour would pass by the node, and a
//! connection that was made through a Service would break. Pods cannot claim each other's addresses either.

mod attach;
mod ipam;
mod removal;
#[cfg(test)]
mod tests;

use std::{
    collections::HashSet,
    net::{IpAddr, Ipv4Addr},
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use async_trait::async_trait;
use knarr_cri::{CriError, NetworkAddress, NetworkRequest, PodNetwork};
use knarr_os::net::{
    Links,
    nft::{Batch, Element, Nftables, Value, Words},
};

pub use ipam::{HostPort, Ipam, Lease};
use removal::Removal;

use crate::{
    Ipv4Cidr,
    config::gateway,
    dataplane::{FAMILY, HAIRPINS, HOST_PORTS},
    error::{During, NetworkError, Result},
    names::{self, TABLE},
};

/// The pods' attachments of one node.
pub struct Pods {
    links: Arc<Links>,
    nftables: Arc<Nftables>,
    ipam: Mutex<Ipam>,
    removal: Removal,
    mtu: u32,
}

impl Pods {
    /// Takes over the attachments that are there, and takes back the addresses of those that are not.
    pub fn open(records: &Path, links: Arc<Links>, nftables: Arc<Nftables>, mtu: u32) -> Result<Self> {
        let mut ipam = Ipam::open(records.join("addresses"))?;
        release_lost(&mut ipam, &links)?;
        let pods = Self { links, nftables, ipam: Mutex::new(ipam), removal: Removal::default(), mtu };
        pods.reconcile()?;
        Ok(pods)
    }

    /// Gives new pods addresses from this range. Answers how many pods have one from elsewhere.
    pub fn set_range(&self, range: Ipv4Cidr) -> usize {
        let mut ipam = self.ipam();
        ipam.set_range(range);
        ipam.leases().filter(|lease| !range.contains(lease.ip)).count()
    }

    fn ipam(&self) -> MutexGuard<'_, Ipam> {
        self.ipam.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes the table's elements for pods those of the leases, whatever happened before.
    pub fn reconcile(&self) -> Result<()> {
        let ipam = self.ipam();
        let mut batch = Batch::new(FAMILY, TABLE);
        for (set, wanted) in [
            (HAIRPINS.name, ipam.leases().map(hairpin).collect::<Vec<_>>()),
            (HOST_PORTS.name, ipam.leases().flat_map(host_ports).collect()),
        ] {
            let found = self.nftables.elements(FAMILY, TABLE, set).during("reading the pods' nftables elements")?;
            let stale: Vec<_> = found.iter().filter(|element| !wanted.contains(element)).cloned().collect();
            let missing: Vec<_> = wanted.iter().filter(|element| !found.contains(element)).cloned().collect();
            batch.delete_elements(set, &stale);
            batch.add_elements(set, &missing);
        }
        self.nftables.commit(batch).during("bringing the pods' nftables elements up to date")
    }

    fn attach(&self, request: &NetworkRequest) -> Result<NetworkAddress> {
        let ports = request.port_mappings.iter().filter_map(HostPort::of).collect();
        let pod = format!("{}/{}", request.namespace, request.name);
        // One pod at a time: what follows takes about a millisecond, nearly all of it under the kernel's own lock.
        let mut ipam = self.ipam();
        let known = ipam.get(&request.sandbox_id).is_some();
        let lease = ipam.allocate(&request.sandbox_id, pod, ports)?;
        let gateway = ipam.range().map_or(lease.ip, |range| gateway(&range));
        let made = self.make_link(&lease, gateway, request).and_then(|()| self.add_elements(&lease));
        if let Err(error) = made {
            if !known {
                // The pod never had the address, so nobody needs it to be kept. Errors here repeat the first one.
                let _ = self.links.remove(&names::pod_link(&lease.sandbox_id));
                let _ = ipam.release(&lease.sandbox_id);
            }
            return Err(error);
        }
        Ok(NetworkAddress { ips: vec![IpAddr::V4(lease.ip)] })
    }

    fn make_link(&self, lease: &Lease, gateway: Ipv4Addr, request: &NetworkRequest) -> Result<()> {
        attach::attach(
            &self.links,
            &attach::Attachment {
                link: &names::pod_link(&lease.sandbox_id),
                ip: lease.ip,
                gateway,
                mtu: self.mtu,
                netns: &request.netns,
            },
        )
    }

    fn add_elements(&self, lease: &Lease) -> Result<()> {
        let mut batch = Batch::new(FAMILY, TABLE);
        batch.add_elements(HAIRPINS.name, &[hairpin(lease)]);
        batch.add_elements(HOST_PORTS.name, &host_ports(lease).collect::<Vec<_>>());
        self.nftables.commit(batch).during("adding the pod's nftables elements")
    }

    /// The address stays taken until the link is gone. Others may attach and detach meanwhile.
    fn detach(&self, sandbox_id: &str) -> Result<()> {
        let lease = self.ipam().get(sandbox_id).cloned();
        for (set, elements) in lease.iter().flat_map(|lease| {
            [(HAIRPINS.name, vec![hairpin(lease)]), (HOST_PORTS.name, host_ports(lease).collect::<Vec<_>>())]
        }) {
            let mut batch = Batch::new(FAMILY, TABLE);
            batch.delete_elements(set, &elements);
            match self.nftables.commit(batch) {
                Err(error) if !error.is_missing() => return Err(error).during("removing the pod's nftables elements"),
                _ => {}
            }
        }
        self.removal.remove(&self.links, names::pod_link(sandbox_id)).during("removing a pod's link")?;
        if lease.is_some() { self.ipam().release(sandbox_id) } else { Ok(()) }
    }

    #[cfg(test)]
    pub fn leases(&self) -> Vec<Lease> {
        self.ipam.lock().unwrap_or_else(PoisonError::into_inner).leases().cloned().collect()
    }
}

/// A link ends with its pod's network namespace: after the machine was started anew there are none, and the addresses
/// are free.
fn release_lost(ipam: &mut Ipam, links: &Links) -> Result<()> {
    let there: HashSet<_> = links.list().during("listing links")?.into_iter().map(|link| link.name).collect();
    let ids: Vec<_> = ipam.leases().map(|lease| lease.sandbox_id.clone()).collect();
    ids.iter().filter(|id| !there.contains(&names::pod_link(id))).try_for_each(|id| ipam.release(id))
}

fn hairpin(lease: &Lease) -> Element {
    Element { key: Words::new().ip(lease.ip).ip(lease.ip), value: Value::None }
}

fn host_ports(lease: &Lease) -> impl Iterator<Item = Element> {
    lease.host_ports.iter().map(|port| Element {
        key: Words::new()
            .ip(port.host_ip.unwrap_or(Ipv4Addr::UNSPECIFIED))
            .protocol(port.protocol)
            .port(port.host_port),
        value: Value::Words(Words::new().ip(lease.ip).port(port.container_port)),
    })
}

/// The pod network as the runtime sees it. Netlink calls block for the microseconds they take, and entering a
/// namespace needs a thread, so each call runs on a blocking one.
#[derive(Clone)]
pub struct PodNetworkHandle(pub Arc<Pods>);

#[async_trait]
impl PodNetwork for PodNetworkHandle {
    async fn add(&self, request: &NetworkRequest) -> knarr_cri::Result<NetworkAddress> {
        let (pods, request) = (self.0.clone(), request.clone());
        let action = format!("attach pod {}/{} to the network", request.namespace, request.name);
        blocking(action, move || pods.attach(&request)).await
    }

    async fn del(&self, request: &NetworkRequest) -> knarr_cri::Result<()> {
        let (pods, sandbox_id) = (self.0.clone(), request.sandbox_id.clone());
        let action = format!("detach pod {}/{} from the network", request.namespace, request.name);
        blocking(action, move || pods.detach(&sandbox_id)).await
    }

    async fn status(&self) -> knarr_cri::Result<()> {
        let pods = self.0.clone();
        if pods.ipam().range().is_none() {
            let message = format!("Network plugin returns error: {}", NetworkError::NoRange);
            return Err(CriError::Unavailable { message });
        }
        let found = blocking("look for the node's link".into(), move || {
            pods.links.find(names::NODE_LINK).during("looking for the node's link")
        });
        match found.await? {
            Some(_) => Ok(()),
            None => Err(CriError::Unavailable {
                message: format!("link {} is gone; restart Knarr to make it again", names::NODE_LINK),
            }),
        }
    }
}

async fn blocking<T: Send + 'static>(
    action: String,
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> knarr_cri::Result<T> {
    let result = knarr_os::aside(work).await.unwrap_or(Err(NetworkError::WorkerGone));
    result.map_err(|error| CriError::internal(format!("cannot {action}"), error))
}
