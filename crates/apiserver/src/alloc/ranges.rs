use std::net::IpAddr;

use knarr_api::address_range::AddressRange;
use serde_json::Value;

use crate::builtin;
use crate::contract::Lookup;
use crate::derived::Derived;
use crate::json::{items, text};

/// The ServiceCIDR that the server makes itself, of the range that it was started with.
pub(crate) const DEFAULT_CIDR: &str = "kubernetes";

/// A ServiceCIDR, as far as it matters here.
struct ServiceCidr {
    is_default: bool,
    /// Where no condition says otherwise it is ready, as upstream has it: the controller may not have seen it yet.
    is_ready: bool,
    ranges: Vec<AddressRange>,
}

/// What addresses are handed out of: the ServiceCIDRs that are ready.
pub(super) struct Ranges {
    /// Counts for as long as there is no default ServiceCIDR, which is then about to be made of it.
    own: AddressRange,
    cidrs: Derived<ServiceCidr>,
    ready: Vec<AddressRange>,
}

impl Ranges {
    pub(super) fn new(own: AddressRange) -> Self {
        Self { own, cidrs: Derived::new(builtin::service_cidrs(), "", service_cidr), ready: vec![own] }
    }

    /// Catches up with the stored ServiceCIDRs.
    pub(super) fn refresh(&mut self, lookup: &dyn Lookup) {
        if !self.cidrs.refresh(lookup) {
            return;
        }
        let ready = self.cidrs.iter().filter(|cidr| cidr.is_ready).flat_map(|cidr| cidr.ranges.iter().copied());
        let is_missing = !self.cidrs.iter().any(|cidr| cidr.is_default);
        self.ready = ready.chain(is_missing.then_some(self.own)).collect();
        // This cluster has one family of addresses.
        self.ready.retain(|range| range.is_ipv4() == self.own.is_ipv4() && range.can_be_given_out());
        self.ready.sort_unstable();
        self.ready.dedup();
    }

    pub(super) fn contain(&self, address: IpAddr) -> bool {
        self.ready.iter().any(|range| range.contains(address))
    }

    /// An address that is not taken, of a range chosen by chance; of another where that one is full.
    pub(super) fn pick(&self, random: u64, is_taken: impl Fn(IpAddr) -> bool) -> Option<IpAddr> {
        let start = usize::try_from(random % self.ready.len().max(1) as u64).unwrap_or(0);
        let (before, after) = self.ready.split_at(start);
        after.iter().chain(before).find_map(|range| range.pick(random, &is_taken))
    }
}

fn service_cidr(object: &Value) -> Option<ServiceCidr> {
    let metadata = &object["metadata"];
    let ready = items(&object["status"]["conditions"]).iter().find(|condition| condition["type"] == "Ready");
    let ranges: Vec<AddressRange> =
        items(&object["spec"]["cidrs"]).iter().filter_map(|cidr| text(cidr).parse().ok()).collect();
    Some(ServiceCidr {
        is_default: metadata["name"] == DEFAULT_CIDR,
        is_ready: metadata["deletionTimestamp"].is_null() && ready.is_none_or(|ready| ready["status"] == "True"),
        ranges,
    })
}
