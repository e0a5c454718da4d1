//! The embedded container runtime: images, sandboxes, containers, and the shims that hold them. It speaks CRI and
//! nothing else: it knows no Pod, only what a kubelet would ask containerd for.
//!
//! The runtime itself can be killed at any instant. What runs is held by shims ([`shim`]), one process per sandbox;
//! what is known is in files below the data directory; opening the runtime again finds both.

mod cdi;
mod client;
mod config;
mod container;
mod convert;
#[cfg(fuzzing)]
pub mod fuzzing;
pub mod images;
mod launch;
mod lifecycle;
mod metrics;
mod records;
mod reset;
mod runtime;
mod sandbox;
mod service;
pub mod shim;
mod signal;
mod spec;
mod stats;
mod stream;
mod weights;

pub use config::{Config, Limits};
pub use images::ImageStore;
pub use reset::reset;
pub use runtime::{EmbeddedRuntime, OpenError};

/// The runtime under the short name its users open it by.
pub type Runtime = EmbeddedRuntime;
