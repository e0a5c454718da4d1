use std::sync::Arc;
use std::time::Duration;

use hyper::client::conn::http1::SendRequest;
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::contract::Body;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

#[derive(Debug, thiserror::Error)]
pub enum DialError {
    #[error("no answer from {address} within {} s; check that it runs and that the network reaches it", CONNECT_TIMEOUT.as_secs())]
    Timeout { address: String },
    #[error("could not connect to {address}: {source}")]
    Connect { address: String, source: std::io::Error },
    #[error("{0:?} is not a name that a certificate can be checked against")]
    Name(String),
    #[error("no HTTP with {address}: {source}")]
    Handshake { address: String, source: hyper::Error },
}

/// Opens connections: to nodes with the API server's own client certificate, to all others without any.
#[derive(Clone)]
pub struct Dialer {
    node_tls: Arc<ClientConfig>,
    insecure_tls: Arc<ClientConfig>,
}

impl Dialer {
    /// `node_tls` trusts the cluster's authority and shows the API server's kubelet client certificate.
    pub fn new(node_tls: ClientConfig) -> Self {
        Self { node_tls: Arc::new(node_tls), insecure_tls: Arc::new(trust_anyone()) }
    }

    /// A node's own port.
    pub async fn node(&self, host: &str, port: u16) -> Result<SendRequest<Body>, DialError> {
        self.tls(host, port, &self.node_tls).await
    }

    /// A pod or the endpoint of a service. Whose certificate it shows is the business of whoever asked for
    /// `https:`, as upstream has it: the pods of a cluster have no common authority.
    pub async fn endpoint(&self, https: bool, host: &str, port: u16) -> Result<SendRequest<Body>, DialError> {
        if https {
            return self.tls(host, port, &self.insecure_tls).await;
        }
        let address = join(host, port);
        handshake(connect(&address).await?, address).await
    }

    async fn tls(&self, host: &str, port: u16, config: &Arc<ClientConfig>) -> Result<SendRequest<Body>, DialError> {
        let address = join(host, port);
        let name = ServerName::try_from(host.to_owned()).map_err(|_| DialError::Name(host.to_owned()))?;
        let stream = connect(&address).await?;
        let connecting = TlsConnector::from(config.clone()).connect(name, stream);
        let stream = tokio::time::timeout(CONNECT_TIMEOUT, connecting)
            .await
            .map_err(|_| DialError::Timeout { address: address.clone() })?
            .map_err(|source| DialError::Connect { address: address.clone(), source })?;
        handshake(stream, address).await
    }
}

fn join(host: &str, port: u16) -> String {
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

async fn connect(address: &str) -> Result<TcpStream, DialError> {
    let stream = tokio::time::timeout(CONNECT_TIMEOUT, TcpStream::connect(address))
        .await
        .map_err(|_| DialError::Timeout { address: address.to_owned() })?
        .map_err(|source| DialError::Connect { address: address.to_owned(), source })?;
    // Keystrokes of an exec session must not wait for more of them.
    let _ = stream.set_nodelay(true);
    Ok(stream)
}

async fn handshake(
    stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
    address: String,
) -> Result<SendRequest<Body>, DialError> {
    let (sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .map_err(|source| DialError::Handshake { address, source })?;
    // It ends with the exchange; what goes wrong with it shows in the exchange.
    tokio::spawn(connection.with_upgrades());
    Ok(sender)
}

fn trust_anyone() -> ClientConfig {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier = Arc::new(AnyCertificate(provider.clone()));
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(rustls::DEFAULT_VERSIONS)
        .expect("ring offers cipher suites for the default versions")
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    config
}

/// Accepts any certificate, but still checks that the other side has its key.
#[derive(Debug)]
struct AnyCertificate(Arc<rustls::crypto::CryptoProvider>);

impl rustls::client::danger::ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _end_entity: &rustls_pki_types::CertificateDer<'_>,
        _intermediates: &[rustls_pki_types::CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: rustls_pki_types::UnixTime,
    ) -> Result<rustls::client::danger::ServerCertVerified, rustls::Error> {
        Ok(rustls::client::danger::ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &rustls_pki_types::CertificateDer<'_>,
        signature: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &rustls_pki_types::CertificateDer<'_>,
        signature: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
