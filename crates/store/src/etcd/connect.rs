//! The way to an endpoint: TCP, TLS where the address says so, HTTP/2.

use std::{path::PathBuf, sync::Arc, time::Duration};

use http::Uri;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject};
use tokio::{net::TcpStream, time::timeout};
use tokio_rustls::TlsConnector;

use knarr_grpc::client::{Failure, Sender};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// A peer that is gone without a word is found out this fast, whatever the connection waits for. etcd takes it amiss
/// more often than every 5 s.
const PING_EVERY: Duration = Duration::from_secs(10);
const PING_TIMEOUT: Duration = Duration::from_secs(5);
/// How much one answer may have under way: a list is megabytes.
const WINDOW_BYTES: u32 = 4 << 20;
const DEFAULT_PORT: u16 = 2379;

/// How etcd is reached.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EtcdConfig {
    /// `http://HOST:PORT` or `https://HOST:PORT`, of one cluster.
    pub endpoints: Vec<String>,
    /// The authorities that etcd's certificates are from.
    pub ca_file: Option<PathBuf>,
    /// The client's certificate and its key.
    pub cert_file: Option<PathBuf>,
    pub key_file: Option<PathBuf>,
}

/// What of the configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum EtcdConfigError {
    #[error("no etcd endpoint is named: give at least one, as https://HOST:2379")]
    NoEndpoint,
    #[error("{endpoint:?} is no etcd endpoint: it reads http://HOST:PORT or https://HOST:PORT")]
    Endpoint { endpoint: String },
    #[error("etcd endpoints with https need --etcd-cafile, the authority that their certificates are from")]
    NoAuthority,
    #[error("{option} is for endpoints with https, and there is none")]
    Unused { option: &'static str },
    #[error("--etcd-certfile and --etcd-keyfile belong together: name both or none")]
    HalfCertificate,
    #[error("{} holds no {what} in PEM", path.display())]
    Empty { path: PathBuf, what: &'static str },
    #[error("cannot read the {what} in {}", path.display())]
    Read {
        path: PathBuf,
        what: &'static str,
        #[source]
        source: rustls_pki_types::pem::Error,
    },
    #[error("the certificates for etcd cannot be used")]
    Tls(#[source] rustls::Error),
}

#[derive(Clone)]
pub struct Endpoint {
    /// As requests name it, `https://HOST:PORT`.
    pub origin: String,
    host: String,
    port: u16,
    tls: Option<(TlsConnector, ServerName<'static>)>,
}

impl EtcdConfig {
    /// Reads the files and checks that all fits together; asks no endpoint.
    pub(super) fn endpoints(&self) -> Result<Vec<Endpoint>, EtcdConfigError> {
        let Self { endpoints, ca_file, cert_file, key_file } = self;
        let with_tls = endpoints.iter().any(|endpoint| endpoint.starts_with("https:"));
        let files = [("--etcd-cafile", ca_file), ("--etcd-certfile", cert_file), ("--etcd-keyfile", key_file)];
        if !with_tls && let Some((option, _)) = files.iter().find(|(_, file)| file.is_some()) {
            return Err(EtcdConfigError::Unused { option });
        }
        let connector = if with_tls { Some(TlsConnector::from(Arc::new(self.tls()?))) } else { None };
        if endpoints.is_empty() {
            return Err(EtcdConfigError::NoEndpoint);
        }
        endpoints.iter().map(|endpoint| parse(endpoint, connector.as_ref())).collect()
    }

    fn tls(&self) -> Result<ClientConfig, EtcdConfigError> {
        let ca_file = self.ca_file.as_ref().ok_or(EtcdConfigError::NoAuthority)?;
        let mut roots = RootCertStore::empty();
        for certificate in certificates(ca_file)? {
            roots.add(certificate).map_err(EtcdConfigError::Tls)?;
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(EtcdConfigError::Tls)?
            .with_root_certificates(roots);
        let mut config = match (&self.cert_file, &self.key_file) {
            (Some(cert), Some(key)) => {
                let read = |source| EtcdConfigError::Read { path: key.clone(), what: "private key", source };
                let key = PrivateKeyDer::from_pem_file(key).map_err(read)?;
                builder.with_client_auth_cert(certificates(cert)?, key).map_err(EtcdConfigError::Tls)?
            }
            (None, None) => builder.with_no_client_auth(),
            _ => return Err(EtcdConfigError::HalfCertificate),
        };
        config.alpn_protocols = vec![b"h2".to_vec()];
        Ok(config)
    }
}

fn certificates(path: &PathBuf) -> Result<Vec<CertificateDer<'static>>, EtcdConfigError> {
    let what = "certificate";
    let read = |source| EtcdConfigError::Read { path: path.clone(), what, source };
    let certificates: Vec<_> =
        CertificateDer::pem_file_iter(path).map_err(read)?.collect::<Result<_, _>>().map_err(read)?;
    if certificates.is_empty() { Err(EtcdConfigError::Empty { path: path.clone(), what }) } else { Ok(certificates) }
}

fn parse(endpoint: &str, connector: Option<&TlsConnector>) -> Result<Endpoint, EtcdConfigError> {
    let wrong = || EtcdConfigError::Endpoint { endpoint: endpoint.to_owned() };
    let uri: Uri = endpoint.parse().map_err(|_| wrong())?;
    let host = uri.host().filter(|_| matches!(uri.path(), "" | "/") && uri.query().is_none()).ok_or_else(wrong)?;
    let port = uri.port_u16().unwrap_or(DEFAULT_PORT);
    let scheme = uri.scheme_str().ok_or_else(wrong)?;
    // An address of IPv6 stands in brackets there, and nowhere else.
    let bare = host.trim_start_matches('[').trim_end_matches(']').to_owned();
    let tls = match (scheme, connector) {
        ("http", _) => None,
        ("https", Some(connector)) => {
            let name = ServerName::try_from(bare.clone()).map_err(|_| wrong())?;
            Some((connector.clone(), name))
        }
        _ => return Err(wrong()),
    };
    Ok(Endpoint { origin: format!("{scheme}://{host}:{port}"), host: bare, port, tls })
}

impl Endpoint {
    pub async fn connect(&self) -> Result<Sender, Failure> {
        match timeout(CONNECT_TIMEOUT, self.dial()).await {
            Ok(Ok(sender)) => Ok(sender),
            Ok(Err(error)) => Err(Failure::Unsent(format!("{}: {error}", self.origin))),
            Err(_) => Err(Failure::Unsent(format!("{}: no connection within {CONNECT_TIMEOUT:?}", self.origin))),
        }
    }

    async fn dial(&self) -> Result<Sender, Box<dyn std::error::Error + Send + Sync>> {
        let stream = TcpStream::connect((self.host.as_str(), self.port)).await?;
        stream.set_nodelay(true)?;
        let Some((connector, name)) = &self.tls else { return handshake(stream).await };
        handshake(connector.connect(name.clone(), stream).await?).await
    }
}

async fn handshake<S>(stream: S) -> Result<Sender, Box<dyn std::error::Error + Send + Sync>>
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Send + Unpin + 'static,
{
    let (sender, connection) = hyper::client::conn::http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .initial_stream_window_size(WINDOW_BYTES)
        .initial_connection_window_size(2 * WINDOW_BYTES)
        .keep_alive_interval(PING_EVERY)
        .keep_alive_timeout(PING_TIMEOUT)
        .handshake(TokioIo::new(stream))
        .await?;
    // It ends with the last sender; what went wrong is heard by whoever waits for an answer.
    tokio::spawn(async move { drop(connection.await) });
    Ok(sender)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_used_is_refused_with_the_reason() {
        type Row = (&'static [&'static str], [Option<&'static str>; 3], &'static str);
        let rows: [Row; 7] = [
            (&[], [None; 3], "no etcd endpoint is named"),
            (&["a:2379"], [None; 3], "is no etcd endpoint"),
            (&["ftp://a"], [None; 3], "is no etcd endpoint"),
            (&["http://a/path"], [None; 3], "is no etcd endpoint"),
            (&["https://a"], [None; 3], "need --etcd-cafile"),
            (&["http://a"], [Some("/ca"), None, None], "--etcd-cafile is for endpoints with https"),
            (&["https://a"], [Some("/no/such/file"), None, None], "cannot read the certificate in /no/such/file"),
        ];
        for (endpoints, [ca_file, cert_file, key_file], reason) in rows {
            let endpoints = endpoints.iter().map(|endpoint| (*endpoint).to_owned()).collect();
            let [ca_file, cert_file, key_file] = [ca_file, cert_file, key_file].map(|file| file.map(PathBuf::from));
            let config = EtcdConfig { endpoints, ca_file, cert_file, key_file };
            let refused = config.endpoints().err().map(|error| error.to_string()).unwrap_or_default();
            assert!(refused.contains(reason), "{config:?}: {refused}");
        }
    }

    #[test]
    fn an_endpoint_is_taken_apart() {
        for (endpoint, origin, host) in [
            ("http://127.0.0.1:23790", "http://127.0.0.1:23790", "127.0.0.1"),
            ("http://etcd", "http://etcd:2379", "etcd"),
            ("http://[::1]:4/", "http://[::1]:4", "::1"),
        ] {
            let parsed = parse(endpoint, None).unwrap();
            assert_eq!((parsed.origin.as_str(), parsed.host.as_str()), (origin, host));
        }
    }
}
