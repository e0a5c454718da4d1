//! What API servers tell each other by: the one in front shows a certificate of an authority of its own and says in
//! headers who asks. Were that the cluster's authority, everybody with a certificate could say to be anybody.

use std::{path::Path, sync::Arc};

use jiff::Timestamp;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::{CertificateDer, pem::PemObject};

use super::{
    CertificateAuthority, Identity, Leaf, PkiError, Shown, Subject,
    cluster::{open_authority, open_leaf},
    files::Directory,
    tls::{client_config_from, trusting_anyone},
};

/// The name in the certificate that this server shows to others.
pub const FRONT_PROXY_NAME: &str = "front-proxy-client";

/// The authority of front proxies, and this server's certificate from it.
pub struct FrontProxy {
    pub authority: CertificateAuthority,
    pub client: Leaf,
}

impl FrontProxy {
    /// Reads a directory, and makes what it lacks; a certificate near its end is made anew.
    pub fn open(path: &Path, now: Timestamp) -> Result<Self, PkiError> {
        let directory = Directory::open(path)?;
        let authority = open_authority(&directory, "front-proxy-ca", "front-proxy-ca", now)?;
        let identity = Identity::client(Subject::new(FRONT_PROXY_NAME, None));
        let client = open_leaf(&directory, "front-proxy-client", &identity, &authority, now)?;
        Ok(Self { authority, client })
    }
}

/// Whom to believe to be the server that was called.
#[derive(Clone, Copy, Debug)]
pub enum Trust<'a> {
    /// Whom any of the certificates in this PEM stands for.
    Bundle(&'a [u8]),
    /// Whom the host trusts.
    System,
    Anyone,
}

/// Calls other servers with a certificate that may be replaced meanwhile.
pub struct ProxyIdentity(Arc<Shown>);

impl ProxyIdentity {
    pub fn new(shown: Arc<Shown>) -> Self {
        Self(shown)
    }

    pub fn of(leaf: &Leaf) -> Result<Self, PkiError> {
        Ok(Self(Shown::new(leaf)?))
    }

    pub fn client(&self, trust: Trust<'_>) -> Result<ClientConfig, PkiError> {
        let mut config = client(trust, Some(self.0.clone()))?;
        // A session that is resumed would show the certificate of before.
        config.resumption = rustls::client::Resumption::disabled();
        Ok(config)
    }
}

/// TLS towards somebody, without a certificate of one's own.
pub fn anonymous_client(trust: Trust<'_>) -> Result<ClientConfig, PkiError> {
    client(trust, None)
}

fn client(trust: Trust<'_>, shown: Option<Arc<Shown>>) -> Result<ClientConfig, PkiError> {
    match trust {
        Trust::Anyone => trusting_anyone(shown),
        Trust::Bundle(pem) => client_config_from(bundle(pem)?, shown),
        Trust::System => client_config_from(system(), shown),
    }
}

/// All certificates of a PEM; at least one must be there.
pub(super) fn bundle(pem: &[u8]) -> Result<RootCertStore, PkiError> {
    let damaged = |why: String| PkiError::damaged("the bundle of certificate authorities", why);
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(pem) {
        let certificate = certificate.map_err(|error| damaged(error.to_string()))?;
        roots.add(certificate).map_err(|error| damaged(error.to_string()))?;
    }
    if roots.is_empty() {
        return Err(damaged("there is no certificate in it".into()));
    }
    Ok(roots)
}

/// What the host's users trust. A host that trusts nobody has an empty list, and every handshake says so.
fn system() -> RootCertStore {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    roots
}
