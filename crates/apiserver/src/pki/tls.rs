use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use rustls::client::WantsClientCert;
use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::ring::default_provider;
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{
    ClientConfig, ConfigBuilder, DigitallySignedStruct, DistinguishedName, RootCertStore, ServerConfig, SignatureScheme,
};
use rustls_pki_types::{CertificateDer, UnixTime};

use super::{Leaf, PkiError, Shown, anyone::AnyCertificate, front_proxy::bundle, peer_identity};
use crate::aggregation::RequestHeaders;

/// What the API server serves with: every client certificate gets through the handshake, so that the answer to one that
/// is foreign or expired is a Status and no broken connection; which are good, [`ApiTls::vouches_for`] says.
#[derive(Clone)]
pub struct ApiTls {
    pub(crate) config: Arc<ServerConfig>,
    verifier: Arc<dyn ClientCertVerifier>,
    shown: Arc<Shown>,
    client_authority: CertificateDer<'static>,
    front_proxies: Option<FrontProxies>,
}

/// Whose word is taken for who asks.
#[derive(Clone)]
struct FrontProxies {
    verifier: Arc<dyn ClientCertVerifier>,
    headers: Arc<RequestHeaders>,
}

impl ApiTls {
    /// Serves with `leaf` for ever.
    pub fn new(leaf: &Leaf, client_authority: &CertificateDer<'static>) -> Result<Self, PkiError> {
        // The authority comes along in the chain: a machine that joins knows only its key's hash.
        Self::showing(Shown::with_authority(leaf, client_authority)?, client_authority)
    }

    /// Serves with what is shown by then.
    pub fn showing(shown: Arc<Shown>, client_authority: &CertificateDer<'static>) -> Result<Self, PkiError> {
        let verifier = verifier(client_authority)?;
        let config = server_config_with(shown.clone(), Arc::new(Later(verifier.clone())))?;
        let client_authority = client_authority.clone();
        Ok(Self { config: Arc::new(config), verifier, shown, client_authority, front_proxies: None })
    }

    /// Believes proxies with a certificate of these authorities (PEM) what they say in headers about who asks.
    pub fn with_front_proxies(mut self, authorities: &[u8], headers: RequestHeaders) -> Result<Self, PkiError> {
        let roots = bundle(authorities)?;
        // Clients choose a certificate by the authorities that the server names: it has to name all.
        let mut all = roots.clone();
        all.add(self.client_authority.clone()).map_err(PkiError::Tls)?;
        self.config = Arc::new(server_config_with(self.shown.clone(), Arc::new(Later(verifier_of(all)?)))?);
        self.front_proxies = Some(FrontProxies { verifier: verifier_of(roots)?, headers: Arc::new(headers) });
        Ok(self)
    }

    /// What to read in the requests of a connection whose certificate is a front proxy's.
    pub fn front_proxy(&self, chain: &[CertificateDer<'_>], now: Timestamp) -> Option<Arc<RequestHeaders>> {
        let FrontProxies { verifier, headers } = self.front_proxies.as_ref()?;
        let common_name = peer_identity(chain.first()?).map(|peer| peer.common_name).unwrap_or_default();
        let is_proxy = headers.allows(&common_name) && vouches(&**verifier, chain, now);
        is_proxy.then(|| headers.clone())
    }

    /// True for a chain that leads to the authority and holds now. None at all needs nobody to vouch for it.
    pub fn vouches_for(&self, chain: &[CertificateDer<'_>], now: Timestamp) -> bool {
        chain.is_empty() || vouches(&*self.verifier, chain, now)
    }
}

fn vouches(verifier: &dyn ClientCertVerifier, chain: &[CertificateDer<'_>], now: Timestamp) -> bool {
    let Some((leaf, intermediates)) = chain.split_first() else { return false };
    let since_epoch = Duration::from_secs(u64::try_from(now.as_second()).unwrap_or(0));
    verifier.verify_client_cert(leaf, intermediates, UnixTime::since_unix_epoch(since_epoch)).is_ok()
}

/// Checks in the handshake that the client has its certificate's key, and leaves the certificate for later.
#[derive(Debug)]
struct Later(Arc<dyn ClientCertVerifier>);

impl ClientCertVerifier for Later {
    fn offer_client_auth(&self) -> bool {
        self.0.offer_client_auth()
    }

    fn client_auth_mandatory(&self) -> bool {
        self.0.client_auth_mandatory()
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.0.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.0.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.0.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_verify_schemes()
    }
}

/// Serves with `leaf`. A client may show a certificate; if it does, the authority must have signed it.
pub fn server_config(leaf: &Leaf, client_authority: &CertificateDer<'static>) -> Result<ServerConfig, PkiError> {
    server_config_showing(client_authority, Shown::new(leaf)?)
}

/// As [`server_config`], with what is shown by then.
pub(super) fn server_config_showing(
    client_authority: &CertificateDer<'static>,
    shown: Arc<Shown>,
) -> Result<ServerConfig, PkiError> {
    server_config_with(shown, verifier(client_authority)?)
}

fn verifier(client_authority: &CertificateDer<'static>) -> Result<Arc<dyn ClientCertVerifier>, PkiError> {
    verifier_of(roots(client_authority)?)
}

fn verifier_of(roots: RootCertStore) -> Result<Arc<dyn ClientCertVerifier>, PkiError> {
    WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::new(default_provider()))
        .allow_unauthenticated()
        .build()
        .map_err(PkiError::Verifier)
}

fn server_config_with(shown: Arc<Shown>, verifier: Arc<dyn ClientCertVerifier>) -> Result<ServerConfig, PkiError> {
    let mut config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(PkiError::Tls)?
        .with_client_cert_verifier(verifier)
        .with_cert_resolver(shown);
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}

/// Trusts the authority only, and shows `leaf` to who asks. Speaks HTTP/1.1, which upgrades need.
pub fn client_config(authority: &CertificateDer<'static>, leaf: Option<&Leaf>) -> Result<ClientConfig, PkiError> {
    client_config_with(authority, leaf.map(Shown::new).transpose()?)
}

/// As [`client_config`], with what is shown by then.
pub(super) fn client_config_showing(
    authority: &CertificateDer<'static>,
    shown: Arc<Shown>,
) -> Result<ClientConfig, PkiError> {
    let mut config = client_config_with(authority, Some(shown))?;
    // A session that is resumed would show the certificate of before.
    config.resumption = rustls::client::Resumption::disabled();
    Ok(config)
}

fn client_config_with(
    authority: &CertificateDer<'static>,
    shown: Option<Arc<Shown>>,
) -> Result<ClientConfig, PkiError> {
    client_config_from(roots(authority)?, shown)
}

pub(super) fn client_config_from(roots: RootCertStore, shown: Option<Arc<Shown>>) -> Result<ClientConfig, PkiError> {
    let builder = ClientConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(PkiError::Tls)?
        .with_root_certificates(roots);
    Ok(showing(builder, shown))
}

/// Takes anybody for the server that was called.
pub(super) fn trusting_anyone(shown: Option<Arc<Shown>>) -> Result<ClientConfig, PkiError> {
    let builder = ClientConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(PkiError::Tls)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(AnyCertificate::default()));
    Ok(showing(builder, shown))
}

fn showing(builder: ConfigBuilder<ClientConfig, WantsClientCert>, shown: Option<Arc<Shown>>) -> ClientConfig {
    let mut config = match shown {
        Some(shown) => builder.with_client_cert_resolver(shown),
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    config
}

fn roots(authority: &CertificateDer<'static>) -> Result<RootCertStore, PkiError> {
    let mut roots = RootCertStore::empty();
    roots.add(authority.clone()).map_err(PkiError::Tls)?;
    Ok(roots)
}
