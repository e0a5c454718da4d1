//! Which Knarr this is, and which Kubernetes API it speaks.

/// Knarr's own version.
pub const SHORT: &str = env!("CARGO_PKG_VERSION");
/// The Kubernetes release whose API is served.
pub const KUBERNETES: &str = "v1.36.0";

pub fn print() {
    crate::say::say!("knarr {SHORT} (Kubernetes API {KUBERNETES})");
}
