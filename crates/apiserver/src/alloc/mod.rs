//! Cluster addresses and node ports of Services. What is taken is read from the Services themselves, and of addresses
//! also from the IPAddresses there are, so a restart forgets nothing; only what was handed out a moment ago, and is not
//! in the watch cache yet, is remembered beside them. The IPAddress of an address that is handed out here is written
//! with its Service, in one transaction (`write/addresses.rs`).

mod ledger;
mod plugin;
mod ports;
mod ranges;

#[cfg(test)]
mod tests;

pub use knarr_api::address_range::{AddressRange, RangeError};
pub use plugin::{ServiceAllocation, ServiceRanges};
pub use ports::PortRange;
pub(crate) use ranges::DEFAULT_CIDR;
