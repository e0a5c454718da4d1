//! Makes the table serve the Services: plans those that changed, and applies the difference as one batch.

use std::{
    collections::{BTreeMap, HashSet},
    net::{IpAddr, Ipv4Addr},
    sync::Arc,
};

use knarr_client::ObjectKey;
use knarr_os::net::{
    conntrack,
    nft::{Batch, Element, Nftables, Value},
};

use super::{
    ServiceView,
    ledger::{Change, Ledger},
    plan::{Backend, Groups as _, Map, Plan, Site, plan},
};
use crate::{
    dataplane::{Chain, FAMILY},
    error::{During, Result},
    names::TABLE,
};

const UDP: u8 = 17;

/// The proxy of one node.
pub struct Proxy {
    nftables: Arc<Nftables>,
    site: Site,
    ledger: Ledger,
    /// The chains that are as this version makes them.
    chains: HashSet<Chain>,
    commits: u32,
}

impl Proxy {
    /// Takes over what is in the table.
    pub fn open(nftables: Arc<Nftables>, site: Site) -> Result<Self> {
        let ledger = read(&nftables)?;
        Ok(Self { nftables, site, ledger, chains: HashSet::new(), commits: 0 })
    }

    /// Takes the zone its node is in. Services given before were served as in the former one, until given again.
    pub fn set_zone(&mut self, zone: Option<String>) {
        self.site.zone = zone;
    }

    /// Serves these Services as they are now (`None`: no more). After an error nothing of it has happened, and all
    /// Services have to be given again.
    pub fn update(&mut self, services: &[(ObjectKey, Option<Arc<ServiceView>>)]) -> Result<()> {
        let mut changes = Vec::new();
        let mut chains = HashSet::new();
        for (key, view) in services {
            let plan = match view {
                Some(view) => plan(view, &self.site, &mut self.ledger),
                None => Plan::default(),
            };
            chains.extend(plan.chains.iter().cloned());
            changes.extend(self.ledger.assign(key, plan));
        }
        let committed = self.commit(&changes, &chains);
        for (key, _) in services.iter().filter(|(_, view)| view.is_none()) {
            self.ledger.forget(key);
        }
        committed
    }

    /// Removes what no Service wants. To be called once all have been given.
    pub fn sweep(&mut self) -> Result<()> {
        let changes = self.ledger.sweep();
        self.commit(&changes, &HashSet::new())
    }

    /// Services that wait for an address or port of another one.
    pub fn waiting(&self) -> Vec<ObjectKey> {
        self.ledger.waiting().cloned().collect()
    }

    /// How many times the table was changed since this was last asked.
    pub fn take_commits(&mut self) -> u32 {
        std::mem::take(&mut self.commits)
    }

    fn commit(&mut self, changes: &[Change], chains: &HashSet<Chain>) -> Result<()> {
        if changes.is_empty() {
            return Ok(());
        }
        let mut batch = Batch::new(FAMILY, TABLE);
        let new_chains: Vec<_> = chains.difference(&self.chains).cloned().collect();
        new_chains.iter().for_each(|chain| chain.add(&mut batch));
        let elements = |side: fn(&Change) -> Option<&Value>| {
            let mut by_map = BTreeMap::<Map, Vec<Element>>::new();
            for (change, value) in changes.iter().filter_map(|change| Some((change, side(change)?))) {
                let (map, key) = change.key;
                by_map.entry(map).or_default().push(Element { key, value: value.clone() });
            }
            by_map
        };
        // An element that changes is removed and added: within a batch no packet sees it missing.
        for (map, elements) in elements(|change| change.old.as_ref()) {
            batch.delete_elements(map.name(), &elements);
        }
        for (map, elements) in elements(|change| change.new.as_ref()) {
            batch.add_elements(map.name(), &elements);
        }
        if let Err(error) = self.nftables.commit(batch).during("updating the Service proxy") {
            // The ledger is ahead of the kernel, or somebody else changed the table: see what is there.
            self.chains.clear();
            self.ledger = read(&self.nftables)?;
            return Err(error);
        }
        self.commits += 1;
        self.chains.extend(new_chains);
        self.flush_datagrams(changes)
    }

    /// A datagram flow keeps its endpoint for as long as it lasts. Where the endpoint is gone, or where there was
    /// none at first, it must be looked up anew.
    fn flush_datagrams(&self, changes: &[Change]) -> Result<()> {
        let lost: HashSet<Backend> = changes.iter().filter_map(|change| self.lost_backend(change)).collect();
        let served: HashSet<(Ipv4Addr, u16)> = changes.iter().filter_map(newly_served).collect();
        if lost.is_empty() && served.is_empty() {
            return Ok(());
        }
        let doomed = |connection: &conntrack::Connection| {
            let (original, reply) = (&connection.original, &connection.reply);
            let (IpAddr::V4(asked), IpAddr::V4(answering)) = (original.destination, reply.source) else { return false };
            if asked == answering {
                let port = original.destination_port;
                return served.contains(&(asked, port)) || served.contains(&(Ipv4Addr::UNSPECIFIED, port));
            }
            lost.contains(&(answering, reply.source_port))
        };
        conntrack::delete(self.nftables.netlink(), UDP, doomed).during("ending datagram flows").map(drop)
    }

    /// The endpoint that a UDP group no longer has because of this change.
    fn lost_backend(&self, change: &Change) -> Option<Backend> {
        let (Map::Backends, key) = change.key else { return None };
        let group = key.number_at(0);
        let Some(Value::Words(old)) = &change.old else { return None };
        let backend = (old.ip_at(0), old.port_at(1));
        let may_be_udp = self.ledger.protocol(group).is_none_or(|protocol| protocol == UDP);
        (may_be_udp && !self.ledger.positions(group).contains(&backend)).then_some(backend)
    }
}

/// The address and port of a UDP frontend that had no endpoint before this change.
fn newly_served(change: &Change) -> Option<(Ipv4Addr, u16)> {
    let (Map::Groups, key) = change.key else { return None };
    let is_new = change.old.is_none() && change.new.is_some();
    (is_new && key.as_bytes()[8] == UDP).then(|| (key.ip_at(1), key.port_at(3)))
}

fn read(nftables: &Nftables) -> Result<Ledger> {
    let mut found = Vec::new();
    for map in Map::ALL {
        let elements = nftables.elements(FAMILY, TABLE, map.name()).during("reading the Service proxy's table")?;
        found.push((map, elements));
    }
    Ok(Ledger::of(found))
}
