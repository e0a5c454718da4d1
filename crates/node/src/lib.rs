//! The node agent: turns the pods that are bound to this node into containers, and says what became of them.
//!
//! It knows the API only as a client and containers only through the CRI; how a container is made is the
//! runtime's business, how a service is reached is the network's. Every pod has one small task of its own
//! ([`pod::worker`]) which compares what the API wants with what the runtime lists and does what
//! [`pod::plan`] says, so that a restart of the agent needs no memory of its own: it re-adopts what runs.

mod agent;
mod checkpoint;
mod config;
mod cpus;
mod csi;
mod devices;
mod disk;
mod dra;
mod evict;
#[cfg(fuzzing)]
pub mod fuzzing;
mod gc;
mod images;
mod logs;
mod plugins;
mod pod;
mod probe;
mod provision;
mod register;
mod reserve;
mod server;
mod shutdown;
mod static_pods;
#[cfg(test)]
mod testing;
mod volume;

pub use agent::{Agent, AgentError};
pub use config::Config;
pub use cpus::{CpuOptions, CpuPolicy, CpuSet};
pub use csi::reset as reset_drivers;
pub use evict::{
    Eviction, Levels, Signal, ThresholdError, default_hard, parse_grace_periods, parse_reclaims, parse_thresholds,
};
pub use gc::{ImageGc, ImageGcError};
pub use images::keyring::Keyring;
pub use plugins::dirs as plugin_dirs;
pub use register::Machine;
pub use reserve::{Budget, Reserved, ReservedError};
pub use shutdown::{Periods, PeriodsError};
pub use volume::reset;

/// What probes and hooks call themselves in `User-Agent`.
pub(crate) const API_MINOR: &str = "1.36";
