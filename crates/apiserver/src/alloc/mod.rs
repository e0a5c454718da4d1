//! Cluster addresses and node ports of Services. What is taken is read from the Services themselves, so nothing
//! can leak and a restart needs no repair; only what was handed out a moment ago, and is not in the watch cache
//! yet, is remembered beside them.

mod addresses;
mod ledger;
mod plugin;
mod ports;

#[cfg(test)]
mod tests;

pub use addresses::{AddressRange, RangeError};
pub use plugin::{ServiceAllocation, ServiceRanges};
pub use ports::PortRange;
