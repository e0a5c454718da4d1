//! How a machine becomes a node of a cluster and stays it: the first connection, to a server that is known only by the
//! hash of its CA's key; the certificates that are asked for over it; and their renewal for as long as the node runs.
//! (<https://kubernetes.io/docs/reference/access-authn-authz/kubelet-tls-bootstrapping/>)
//!
//! What it ends in is an [`Identity`]: files in the data directory, a connection to the API, and TLS for the node's own
//! port. It knows nothing of pods.

mod error;
mod files;
mod greet;
mod identity;
mod join;
mod keys;
mod pin;
mod renew;
mod request;

pub use error::JoinError;
pub use greet::greet;
pub use identity::Identity;
pub use join::{Joining, join};
pub use pin::{authority_hash, authority_hash_of_pem};
pub use renew::{Renewal, keep_current};

/// How a node calls itself to the API server.
const USER_AGENT: &str = "knarr-node";
