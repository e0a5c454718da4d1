//! Builders of `kube::Client`: over a service in this process, or over HTTPS to another machine.

use std::path::{Path, PathBuf};

use http::{HeaderValue, Request, Response, header::USER_AGENT};
use kube::client::Body;
use tower::{BoxError, Service, ServiceExt as _};

#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    #[error("the API server address {url:?} is not a URL; give it as https://host:port")]
    Url {
        url: String,
        #[source]
        source: http::uri::InvalidUri,
    },
    #[error("the kubeconfig {path} cannot be used; check that the file exists, is readable and names a cluster")]
    Kubeconfig {
        path: PathBuf,
        #[source]
        source: kube::config::KubeconfigError,
    },
    #[error("no TLS connection to {url} can be set up; check the CA, the client certificate and its key")]
    Tls {
        url: String,
        #[source]
        source: Box<kube::Error>,
    },
}

/// How a remote client proves who it is.
#[derive(Clone)]
pub enum Credentials {
    /// PEM of a client certificate (with its chain) and of its private key.
    Certificate { certificate_pem: String, key_pem: String },
    /// A bearer token.
    Token(String),
}

/// An API server on another machine (or on this one, over TLS).
#[derive(Clone)]
pub struct Remote {
    /// `https://host:port`
    pub url: String,
    /// DER of the certificate authorities that the server's certificate is checked against.
    pub ca_der: Vec<Vec<u8>>,
    pub credentials: Credentials,
    pub default_namespace: String,
}

/// A client whose requests are calls of `service`. `user_agent` names the caller in logs and managed fields.
/// Has to be called inside a tokio runtime.
pub fn in_process<S, B>(service: S, user_agent: &'static str) -> kube::Client
where
    S: Service<Request<Body>, Response = Response<B>> + Send + 'static,
    S::Future: Send + 'static,
    S::Error: Into<BoxError>,
    B: http_body::Body<Data = bytes::Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    let named = service.map_request(move |mut request: Request<Body>| {
        request.headers_mut().entry(USER_AGENT).or_insert(HeaderValue::from_static(user_agent));
        request
    });
    kube::Client::new(named, "default")
}

/// A client over HTTPS. Has to be called inside a tokio runtime.
pub fn remote(remote: Remote) -> Result<kube::Client, ConnectError> {
    let Remote { url, ca_der, credentials, default_namespace } = remote;
    let uri = url.parse().map_err(|source| ConnectError::Url { url: url.clone(), source })?;
    let mut config = kube::Config::new(uri);
    config.root_cert = Some(ca_der);
    config.default_namespace = default_namespace;
    match credentials {
        Credentials::Certificate { certificate_pem, key_pem } => {
            config.auth_info.client_certificate_data = Some(base64(certificate_pem.as_bytes()));
            config.auth_info.client_key_data = Some(base64(key_pem.as_bytes()).into());
        }
        Credentials::Token(token) => config.auth_info.token = Some(token.into()),
    }
    kube::Client::try_from(config).map_err(|source| ConnectError::Tls { url, source: Box::new(source) })
}

/// A client for the current context of a kubeconfig file.
pub async fn from_kubeconfig(path: &Path) -> Result<kube::Client, ConnectError> {
    let wrong = |source| ConnectError::Kubeconfig { path: path.to_owned(), source };
    let kubeconfig = kube::config::Kubeconfig::read_from(path).map_err(wrong)?;
    let config = kube::Config::from_custom_kubeconfig(kubeconfig, &Default::default()).await.map_err(wrong)?;
    let url = config.cluster_url.to_string();
    kube::Client::try_from(config).map_err(|source| ConnectError::Tls { url, source: Box::new(source) })
}

/// kube's configuration takes certificates the way a kubeconfig holds them.
fn base64(bytes: &[u8]) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.encode(bytes)
}
