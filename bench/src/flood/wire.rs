//! Connections that do what no well-behaved client does: HTTP/1.1 by hand, over TLS.

use std::sync::Arc;

use anyhow::{Context, Result};
use kube::Config;
use rustls::{ClientConfig, RootCertStore, pki_types::ServerName};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tokio_rustls::{TlsConnector, client::TlsStream};

pub struct Wire {
    connector: TlsConnector,
    host: String,
    port: u16,
    token: String,
}

impl Wire {
    pub fn new(config: &Config, token: &str) -> Result<Self> {
        let mut roots = RootCertStore::empty();
        for certificate in config.root_cert.iter().flatten() {
            roots.add(certificate.clone().into())?;
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let tls = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(Self {
            connector: TlsConnector::from(Arc::new(tls)),
            host: config.cluster_url.host().context("no host")?.to_owned(),
            port: config.cluster_url.port_u16().unwrap_or(443),
            token: token.to_owned(),
        })
    }

    pub async fn connect(&self) -> Result<TlsStream<TcpStream>> {
        let stream = TcpStream::connect((self.host.as_str(), self.port)).await?;
        let name = ServerName::try_from(self.host.clone())?;
        Ok(self.connector.connect(name, stream).await?)
    }

    /// A request's head without its end, so that more can follow.
    pub fn head(&self, method: &str, path: &str) -> String {
        format!("{method} {path} HTTP/1.1\r\nHost: {}\r\nAuthorization: Bearer {}\r\n", self.host, self.token)
    }
}

/// The status of the answer, as its first line says it; what was sent may have been cut off before.
pub async fn status(stream: &mut TlsStream<TcpStream>) -> Result<String> {
    let mut answer = vec![0; 512];
    let length = stream.read(&mut answer).await?;
    let text = String::from_utf8_lossy(&answer[..length]);
    Ok(text.lines().next().unwrap_or("closed").to_owned())
}

/// Sends until everything is sent or the other side will have no more.
pub async fn send(stream: &mut TlsStream<TcpStream>, bytes: &[u8]) -> bool {
    stream.write_all(bytes).await.is_ok() && stream.flush().await.is_ok()
}
