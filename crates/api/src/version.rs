//! Which Kubernetes this is; everything that names a version takes it from here.

macro_rules! kubernetes {
    () => {
        "v1.36.2"
    };
}

/// The release whose API is served.
pub const KUBERNETES: &str = kubernetes!();
/// What server and node call themselves. Clients read the release from its beginning.
pub const GIT_VERSION: &str = concat!(kubernetes!(), "+knarr", env!("CARGO_PKG_VERSION"));
