//! Certificates that can be exchanged while they are in use.

use std::sync::Arc;

use arc_swap::ArcSwapOption;
use jiff::Timestamp;
use rustls::{
    ClientConfig, RootCertStore, ServerConfig, SignatureScheme,
    client::ResolvesClientCert,
    crypto::ring::{default_provider, sign::any_supported_type},
    server::{ClientHello, ResolvesServerCert, WebPkiClientVerifier},
    sign::CertifiedKey,
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::{JoinError, files::Leaf};

/// What is shown in handshakes: whatever is in it at that moment, or nothing.
#[derive(Debug, Default)]
pub struct Swap {
    current: ArcSwapOption<CertifiedKey>,
}

impl Swap {
    pub fn set(&self, leaf: &Leaf) -> Result<(), JoinError> {
        let chain = certificates(&leaf.certificate)?;
        let key = PrivateKeyDer::from_pem_slice(leaf.key.as_bytes()).map_err(JoinError::key)?;
        let key = any_supported_type(&key).map_err(JoinError::key)?;
        let certified = CertifiedKey::new(chain, key);
        certified.keys_match().map_err(JoinError::key)?;
        self.current.store(Some(Arc::new(certified)));
        Ok(())
    }

    /// When what is shown begins and ends to hold.
    pub fn validity(&self) -> Option<(Timestamp, Timestamp)> {
        validity(self.current.load().as_ref()?.cert.first()?)
    }

    /// The addresses and names that it is for say the same as these.
    pub fn is_for(&self, names: &[String], addresses: &[std::net::IpAddr]) -> bool {
        let current = self.current.load();
        let Some(der) = current.as_ref().and_then(|current| current.cert.first()) else { return false };
        let certificate = |name: &str| {
            let name = rustls_pki_types::ServerName::try_from(name).ok()?;
            let parsed = rustls::server::ParsedCertificate::try_from(der).ok()?;
            rustls::client::verify_server_name(&parsed, &name).ok()
        };
        let addresses = addresses.iter().map(ToString::to_string);
        names.iter().cloned().chain(addresses).all(|name| certificate(&name).is_some())
    }
}

impl ResolvesClientCert for Swap {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        self.current.load_full()
    }

    fn has_certs(&self) -> bool {
        self.current.load().is_some()
    }
}

impl ResolvesServerCert for Swap {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.current.load_full()
    }
}

/// Trusts the authority only, and shows what is in the swap by then.
pub fn client_config(authority: &CertificateDer<'static>, own: Arc<Swap>) -> Result<ClientConfig, JoinError> {
    let builder = ClientConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(JoinError::key)?;
    let mut config = builder.with_root_certificates(roots(authority)?).with_client_cert_resolver(own);
    // A session that is resumed would show the certificate of before.
    config.resumption = rustls::client::Resumption::disabled();
    Ok(config)
}

/// Serves with what is in the swap by then. A client may show a certificate; if it does, the authority must have signed
/// it.
pub fn server_config(authority: &CertificateDer<'static>, own: Arc<Swap>) -> Result<ServerConfig, JoinError> {
    let provider = Arc::new(default_provider());
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots(authority)?), provider.clone())
        .allow_unauthenticated()
        .build()
        .map_err(JoinError::key)?;
    let builder =
        ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().map_err(JoinError::key)?;
    Ok(builder.with_client_cert_verifier(verifier).with_cert_resolver(own))
}

pub fn certificates(pem: &str) -> Result<Vec<CertificateDer<'static>>, JoinError> {
    CertificateDer::pem_slice_iter(pem.as_bytes()).collect::<Result<_, _>>().map_err(JoinError::key)
}

pub fn validity(certificate: &[u8]) -> Option<(Timestamp, Timestamp)> {
    let (_, certificate) = X509Certificate::from_der(certificate).ok()?;
    let time = |time: x509_parser::time::ASN1Time| Timestamp::from_second(time.timestamp()).ok();
    Some((time(certificate.validity().not_before)?, time(certificate.validity().not_after)?))
}

fn roots(authority: &CertificateDer<'static>) -> Result<RootCertStore, JoinError> {
    let mut roots = RootCertStore::empty();
    roots.add(authority.clone()).map_err(JoinError::key)?;
    Ok(roots)
}
