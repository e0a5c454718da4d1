//! Which Knarr this is, and which Kubernetes API it speaks.

/// Knarr's own version.
pub const SHORT: &str = env!("CARGO_PKG_VERSION");

pub fn print() {
    crate::say::say!("knarr {SHORT} (Kubernetes API {})", knarr_api::version::KUBERNETES);
}
