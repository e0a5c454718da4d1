//! The first connection. The server is known by the hash of its CA's key and nothing else: it must show a CA with that
//! hash, and a certificate of that CA for the name it is called by.

use std::sync::{Arc, Mutex, PoisonError};

use jiff::Timestamp;
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme,
    client::{
        WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::{CryptoProvider, ring::default_provider, verify_tls12_signature, verify_tls13_signature},
};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use sha2::{Digest, Sha256};
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::{JoinError, keys};

/// SHA-256 of a certificate's SubjectPublicKeyInfo, as kubeadm's `--discovery-token-ca-cert-hash` has it.
pub fn authority_hash(certificate: &[u8]) -> Option<[u8; 32]> {
    let (_, certificate) = X509Certificate::from_der(certificate).ok()?;
    Some(Sha256::digest(certificate.public_key().raw).into())
}

pub fn authority_hash_of_pem(pem: &str) -> Option<[u8; 32]> {
    authority_hash(keys::certificates(pem).ok()?.first()?)
}

/// What the server showed.
#[derive(Clone, Debug, Default)]
pub struct Shown {
    /// The CA that the token names, once it was there.
    pub authority: Option<CertificateDer<'static>>,
    /// The hash of another CA that it showed instead.
    pub other: Option<[u8; 32]>,
    /// When the server's certificate begins and ends to hold.
    pub validity: Option<(Timestamp, Timestamp)>,
}

/// Recognises the server by the hash, and keeps what it showed.
#[derive(Debug)]
pub struct Pinned {
    expected: [u8; 32],
    provider: Arc<CryptoProvider>,
    shown: Mutex<Shown>,
}

impl Pinned {
    pub fn new(expected: [u8; 32]) -> Arc<Self> {
        Arc::new(Self { expected, provider: Arc::new(default_provider()), shown: Mutex::default() })
    }

    pub fn shown(&self) -> Shown {
        self.shown.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub fn client_config(self: &Arc<Self>) -> Result<ClientConfig, JoinError> {
        let builder = ClientConfig::builder_with_provider(self.provider.clone())
            .with_safe_default_protocol_versions()
            .map_err(JoinError::key)?;
        Ok(builder.dangerous().with_custom_certificate_verifier(self.clone()).with_no_client_auth())
    }
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        chain: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let is_expected = |der: &&CertificateDer<'_>| authority_hash(der) == Some(self.expected);
        let mut shown = self.shown.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(authority) = chain.iter().find(is_expected) else {
            shown.other = chain.last().or(Some(leaf)).and_then(|der| authority_hash(der));
            return Err(CertificateError::UnknownIssuer.into());
        };
        let validity = keys::validity(leaf).ok_or(CertificateError::BadEncoding)?;
        *shown = Shown { authority: Some(authority.clone().into_owned()), other: None, validity: Some(validity) };
        drop(shown);
        let mut roots = RootCertStore::empty();
        roots.add(authority.clone().into_owned())?;
        let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), self.provider.clone()).build();
        let verifier = verifier.map_err(|error| rustls::Error::General(error.to_string()))?;
        // Judged within the certificate's own time: whose clock is wrong is found out by asking the server.
        let (from, until) = (seconds(validity.0), seconds(validity.1));
        let time = UnixTime::since_unix_epoch(std::time::Duration::from_secs(now.as_secs().clamp(from, until)));
        verifier.verify_server_cert(leaf, chain, name, ocsp, time)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signature, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signature, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

fn seconds(time: Timestamp) -> u64 {
    u64::try_from(time.as_second()).unwrap_or(0)
}
