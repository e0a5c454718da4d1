//! The cluster's certificates and keys. One certificate authority signs what the API server shows, what
//! clients and nodes prove themselves with, and what nodes serve; a separate key signs service account tokens.
//!
//! Everything lies in one directory, made at the first start and readable by its owner only. Whatever is there
//! already is kept: a user may bring an authority of their own, and certificates are renewed only when they
//! are near their end, carry a foreign signature or lack a name that the server is now reached by. A server that runs
//! looks at them again and again ([`Certificates`]), and shows new ones without being started anew.

mod anyone;
mod authority;
mod cluster;
mod current;
mod files;
mod front_proxy;
mod inspect;
mod kubeconfig;
mod request;
mod shown;
mod subject;
mod tls;

#[cfg(test)]
mod tests;

pub use authority::{CertificateAuthority, Identity, Leaf, Purpose, Subject};
pub use cluster::{KUBELET_CLIENT_GROUP, KUBELET_CLIENT_NAME, Pki, ServerNames};
pub use current::Certificates;
pub use front_proxy::{FRONT_PROXY_NAME, FrontProxy, ProxyIdentity, Trust, anonymous_client};
pub use inspect::{PeerIdentity, peer_identity};
pub use kubeconfig::kubeconfig;
pub use request::{RequestError, Requested};
pub use shown::Shown;
pub use tls::{ApiTls, client_config, server_config};

use std::path::{Path, PathBuf};

/// What may go wrong while certificates are made, kept or read.
#[derive(Debug, thiserror::Error)]
pub enum PkiError {
    #[error("could not read {}; check that it is readable by the user Knarr runs as", path.display())]
    Read { path: PathBuf, source: std::io::Error },
    #[error("could not write {}; check that the directory is writable and the disk not full", path.display())]
    Write { path: PathBuf, source: std::io::Error },
    #[error("{what} is not a usable PEM file: {why}; restore it from a backup, or remove it to have a new one made")]
    Damaged { what: String, why: String },
    #[error("could not make {what}")]
    Generate { what: String, source: rcgen::Error },
    #[error("could not set up TLS with the cluster's certificates")]
    Tls(#[source] rustls::Error),
    #[error("could not set up verification of client certificates")]
    Verifier(#[source] rustls::server::VerifierBuilderError),
}

/// Writes a file that only its owner may read, whole or not at all, into a directory of that kind.
pub(crate) fn write_private(directory: &Path, name: &str, text: &str) -> Result<(), PkiError> {
    files::Directory::open(directory)?.write(name, text)
}

impl PkiError {
    fn damaged(what: impl Into<String>, why: impl std::fmt::Display) -> Self {
        Self::Damaged { what: what.into(), why: why.to_string() }
    }

    /// Says where the damaged thing lies, for those who know it by name only.
    fn in_directory(self, directory: &Path) -> Self {
        match self {
            Self::Damaged { what, why } => Self::Damaged { what: format!("{what} in {}", directory.display()), why },
            other => other,
        }
    }
}
