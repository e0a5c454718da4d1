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
use crate::pki::{Trust, anonymous_client};

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
        let insecure_tls = anonymous_client(Trust::Anyone).expect("ring offers cipher suites for the default versions");
        Self { node_tls: Arc::new(node_tls), insecure_tls: Arc::new(insecure_tls) }
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
        dial_plain(host, port).await
    }

    async fn tls(&self, host: &str, port: u16, config: &Arc<ClientConfig>) -> Result<SendRequest<Body>, DialError> {
        dial_tls(host, port, host, config).await
    }
}

/// Connects to an address without TLS.
pub async fn dial_plain(host: &str, port: u16) -> Result<SendRequest<Body>, DialError> {
    let address = join(host, port);
    handshake(connect(&address).await?, address).await
}

/// Connects to an address, where whoever is there must show a certificate for `name`.
pub async fn dial_tls(
    host: &str,
    port: u16,
    name: &str,
    config: &Arc<ClientConfig>,
) -> Result<SendRequest<Body>, DialError> {
    let address = join(host, port);
    let name = ServerName::try_from(name.to_owned()).map_err(|_| DialError::Name(name.to_owned()))?;
    let stream = connect(&address).await?;
    let connecting = TlsConnector::from(config.clone()).connect(name, stream);
    let stream = tokio::time::timeout(CONNECT_TIMEOUT, connecting)
        .await
        .map_err(|_| DialError::Timeout { address: address.clone() })?
        .map_err(|source| DialError::Connect { address: address.clone(), source })?;
    handshake(stream, address).await
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
