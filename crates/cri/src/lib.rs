//! The contracts the node is built on: CRI messages, the runtime and image services, streams into
//! containers, and the pod network in CNI terms. Messages and traits only; no behaviour lives here.
//!
//! Source: the Container Runtime Interface v1 (kubernetes/cri-api) and the CNI specification 1.1.

mod error;
mod network;
mod service;
mod stream;

/// The messages of `runtime.v1`, as the protocol names them.
#[allow(clippy::all, missing_docs)]
pub mod v1 {
    include!(concat!(env!("OUT_DIR"), "/runtime.v1.rs"));
}

/// On an image's spec: when the last container of it went, or it came; in RFC 3339. A runtime may leave it out.
pub const LAST_USED: &str = "knarr.dev/last-used";

/// The target of the spans of a pod's start, one for each step: what `RUST_LOG=pod_start=debug` has written.
pub const POD_START: &str = "pod_start";

pub use error::{CriError, Result};
pub use network::{NetworkAddress, NetworkRequest, PodNetwork, PortMapping};
pub use service::{ImageService, RuntimeService};
pub use stream::{ExecSession, InputStream, OutputStream, StreamService, TerminalSize, Tunnel};
