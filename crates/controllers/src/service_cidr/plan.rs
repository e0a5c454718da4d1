//! What becomes of a ServiceCIDR. Pure.

use std::{net::IpAddr, sync::Arc, time::Duration};

use jiff::Timestamp;
use k8s_openapi::api::networking::v1::{IPAddress, ServiceCIDR};
use knarr_api::address_range::AddressRange;
use knarr_client::meta;

use crate::address_repair::is_managed;

pub const READY: &str = "Ready";
const FINALIZER: &str = "networking.k8s.io/service-cidr-finalizer";
/// From the beginning of a deletion no server allocates from the range any more, once it has heard of it: for so long
/// they are given to hear.
const GRACE: Duration = Duration::from_secs(10);

#[derive(Debug, PartialEq, Eq)]
pub struct Condition {
    pub is_ready: bool,
    pub reason: &'static str,
    pub message: &'static str,
}

const IS_READY: Condition = Condition { is_ready: true, reason: "", message: "Kubernetes Service CIDR is ready" };
const IS_HELD: Condition = Condition {
    is_ready: false,
    reason: "Terminating",
    message: "There are still IPAddresses referencing the ServiceCIDR, please remove them or create a new ServiceCIDR",
};

#[derive(Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// The finalizers that the object is to have from now on.
    pub finalizers: Option<Vec<String>>,
    pub condition: Option<Condition>,
    /// Look again after this long.
    pub after: Option<Duration>,
}

pub fn plan(cidr: &ServiceCIDR, all: &[Arc<ServiceCIDR>], addresses: &[Arc<IPAddress>], now: Timestamp) -> Plan {
    let finalizers = cidr.metadata.finalizers.clone().unwrap_or_default();
    let is_protected = meta::has_finalizer(&cidr.metadata, FINALIZER);
    let Some(deleted_at) = &cidr.metadata.deletion_timestamp else {
        let protect = || finalizers.iter().cloned().chain([FINALIZER.to_owned()]).collect();
        let finalizers = (!is_protected).then(protect);
        return Plan { finalizers, condition: unless_said(cidr, IS_READY), after: None };
    };
    if !is_protected {
        return Plan::default();
    }
    if orphans(cidr, all, addresses) {
        return Plan { condition: unless_said(cidr, IS_HELD), ..Plan::default() };
    }
    let age = Duration::try_from(now.duration_since(deleted_at.0)).unwrap_or_default();
    if age < GRACE {
        return Plan { after: Some(GRACE - age), ..Plan::default() };
    }
    let rest = finalizers.into_iter().filter(|finalizer| finalizer != FINALIZER).collect();
    Plan { finalizers: Some(rest), ..Plan::default() }
}

fn unless_said(cidr: &ServiceCIDR, wanted: Condition) -> Option<Condition> {
    let status = if wanted.is_ready { "True" } else { "False" };
    let mut conditions = cidr.status.iter().flat_map(|status| status.conditions.iter().flatten());
    let said = conditions.find(|condition| condition.type_ == READY);
    let is_said = said
        .is_some_and(|said| said.status == status && said.reason == wanted.reason && said.message == wanted.message);
    (!is_said).then_some(wanted)
}

/// True where an address that was allocated for a Service would lie in no ServiceCIDR. Those that are about to go
/// themselves keep none.
fn orphans(cidr: &ServiceCIDR, all: &[Arc<ServiceCIDR>], addresses: &[Arc<IPAddress>]) -> bool {
    let others: Vec<AddressRange> = all.iter().filter(|other| !is_deleted(other)).flat_map(|one| ranges(one)).collect();
    let own: Vec<AddressRange> = ranges(cidr).collect();
    if own.iter().all(|range| others.iter().any(|other| other.covers(range))) {
        return false;
    }
    let managed = addresses.iter().filter(|address| is_managed(address));
    let mut managed = managed.filter_map(|address| address.metadata.name.as_deref()?.parse::<IpAddr>().ok());
    let within = |ranges: &[AddressRange], address| ranges.iter().any(|range| range.contains(address));
    managed.any(|address| within(&own, address) && !within(&others, address))
}

pub fn is_deleted(cidr: &ServiceCIDR) -> bool {
    cidr.metadata.deletion_timestamp.is_some()
}

pub fn ranges(cidr: &ServiceCIDR) -> impl Iterator<Item = AddressRange> {
    let cidrs = cidr.spec.iter().flat_map(|spec| spec.cidrs.iter().flatten());
    cidrs.filter_map(|cidr| cidr.parse().ok())
}

pub fn contains(cidr: &ServiceCIDR, address: IpAddr) -> bool {
    ranges(cidr).any(|range| range.contains(address))
}
