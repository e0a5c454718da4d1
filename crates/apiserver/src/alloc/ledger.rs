use std::collections::HashMap;
use std::net::IpAddr;
use std::time::Duration;

use knarr_api::address_range::AddressRange;
use serde_json::Value;
use tokio::time::Instant;

use super::ranges::Ranges;
use crate::builtin;
use crate::contract::Lookup;
use crate::derived::Derived;
use crate::json::{items, text};

/// How long a hand-out is remembered before it must have shown up as a stored Service. Longer than any request
/// may take.
const RESERVED: Duration = Duration::from_secs(90);

/// Something that one Service at most may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Claim {
    Address(IpAddr),
    /// A port of every node, for services and for their health checks alike.
    NodePort(u16),
}

/// What a stored Service has.
pub(super) struct Holding {
    owner: String,
    claims: Vec<Claim>,
}

/// Who has what, and what it is taken from.
pub(super) struct Ledger {
    pub ranges: Ranges,
    services: Derived<Holding>,
    holders: HashMap<Claim, String>,
    reserved: HashMap<Claim, (String, Instant)>,
}

/// A Service by namespace and name.
pub(super) fn owner_of(namespace: &str, name: &str) -> String {
    format!("{namespace}/{name}")
}

impl Ledger {
    pub(super) fn new(own: AddressRange) -> Self {
        Self {
            ranges: Ranges::new(own),
            services: Derived::new(builtin::services(), "", holding),
            holders: HashMap::new(),
            reserved: HashMap::new(),
        }
    }

    /// Catches up with the stored Services and ServiceCIDRs.
    pub(super) fn refresh(&mut self, lookup: &dyn Lookup) {
        self.ranges.refresh(lookup);
        if self.services.refresh(lookup) {
            self.holders.clear();
            for holding in self.services.iter() {
                self.holders.extend(holding.claims.iter().map(|claim| (*claim, holding.owner.clone())));
            }
            let holders = &self.holders;
            self.reserved.retain(|claim, _| !holders.contains_key(claim));
        }
        let now = Instant::now();
        self.reserved.retain(|_, (_, until)| *until > now);
    }

    /// Who has it, if that is somebody else.
    pub(super) fn taken_from(&self, claim: Claim, owner: &str) -> Option<&str> {
        let reserved = self.reserved.get(&claim).map(|(holder, _)| holder);
        let holder = self.holders.get(&claim).or(reserved)?;
        (holder != owner).then_some(holder.as_str())
    }

    pub(super) fn is_taken(&self, claim: Claim) -> bool {
        self.holders.contains_key(&claim) || self.reserved.contains_key(&claim)
    }

    pub(super) fn reserve(&mut self, claim: Claim, owner: &str) {
        self.reserved.insert(claim, (owner.to_owned(), Instant::now() + RESERVED));
    }

    /// Forgets what was handed out to a Service that goes away; what it has stored goes with the object.
    pub(super) fn forget(&mut self, owner: &str) {
        self.reserved.retain(|_, (holder, _)| holder != owner);
    }

    /// For a Service that is known to be gone although the cache still shows it.
    pub(super) fn drop_holder(&mut self, owner: &str) {
        self.holders.retain(|_, holder| holder != owner);
        self.forget(owner);
    }
}

/// The claims of a Service as it is written.
pub(super) fn claims(service: &Value) -> Vec<Claim> {
    let spec = &service["spec"];
    let single = std::iter::once(&spec["clusterIP"]);
    let addresses = single.chain(items(&spec["clusterIPs"])).filter_map(|ip| text(ip).parse().ok()).map(Claim::Address);
    let ports = items(&spec["ports"]).iter().map(|port| &port["nodePort"]).chain([&spec["healthCheckNodePort"]]);
    let ports = ports.filter_map(port_number).map(Claim::NodePort);
    addresses.chain(ports).collect()
}

/// A port that is set: not missing and not 0.
pub(super) fn port_number(value: &Value) -> Option<u16> {
    value.as_u64().and_then(|port| u16::try_from(port).ok()).filter(|port| *port != 0)
}

fn holding(service: &Value) -> Option<Holding> {
    let metadata = &service["metadata"];
    let claims = claims(service);
    let owner = owner_of(text(&metadata["namespace"]), text(&metadata["name"]));
    (!claims.is_empty()).then_some(Holding { owner, claims })
}
