use std::sync::Arc;

use arc_swap::ArcSwap;
use rustls::SignatureScheme;
use rustls::client::ResolvesClientCert;
use rustls::crypto::ring::default_provider;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};

use super::{Leaf, PkiError};

/// What is shown in handshakes: whatever was set last. Connections that are there already go on with what they began
/// with.
#[derive(Debug)]
pub struct Shown {
    current: ArcSwap<CertifiedKey>,
    /// Comes after the leaf in the chain.
    further: Option<CertificateDer<'static>>,
}

impl Shown {
    pub fn new(leaf: &Leaf) -> Result<Arc<Self>, PkiError> {
        Self::with_further(leaf, None)
    }

    /// The authority comes along in the chain.
    pub fn with_authority(leaf: &Leaf, authority: &CertificateDer<'static>) -> Result<Arc<Self>, PkiError> {
        Self::with_further(leaf, Some(authority.clone()))
    }

    fn with_further(leaf: &Leaf, further: Option<CertificateDer<'static>>) -> Result<Arc<Self>, PkiError> {
        let current = ArcSwap::from_pointee(certified(leaf, further.as_ref())?);
        Ok(Arc::new(Self { current, further }))
    }

    pub fn set(&self, leaf: &Leaf) -> Result<(), PkiError> {
        self.current.store(Arc::new(certified(leaf, self.further.as_ref())?));
        Ok(())
    }
}

fn certified(leaf: &Leaf, further: Option<&CertificateDer<'static>>) -> Result<CertifiedKey, PkiError> {
    let mut chain = CertificateDer::pem_slice_iter(leaf.certificate_pem.as_bytes())
        .collect::<Result<Vec<_>, _>>()
        .map_err(|e| PkiError::damaged("a certificate", e))?;
    chain.extend(further.cloned());
    let key =
        PrivateKeyDer::from_pem_slice(leaf.key_pem.as_bytes()).map_err(|e| PkiError::damaged("a private key", e))?;
    CertifiedKey::from_der(chain, key, &default_provider()).map_err(PkiError::Tls)
}

impl ResolvesServerCert for Shown {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.current.load_full())
    }
}

impl ResolvesClientCert for Shown {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(self.current.load_full())
    }

    fn has_certs(&self) -> bool {
        true
    }
}
