//! Builders of `kube::Client`: over a service in this process, or by a kubeconfig. Over HTTPS to a server that others
//! than people call, see [`crate::https`].

use std::path::{Path, PathBuf};

use http::{HeaderValue, Request, Response, header::USER_AGENT};
use kube::client::Body;
use tower::{BoxError, Service, ServiceExt as _};

#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
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

/// A client for the current context of a kubeconfig file.
pub async fn from_kubeconfig(path: &Path) -> Result<kube::Client, ConnectError> {
    let wrong = |source| ConnectError::Kubeconfig { path: path.to_owned(), source };
    let kubeconfig = kube::config::Kubeconfig::read_from(path).map_err(wrong)?;
    let config = kube::Config::from_custom_kubeconfig(kubeconfig, &Default::default()).await.map_err(wrong)?;
    let url = config.cluster_url.to_string();
    kube::Client::try_from(config).map_err(|source| ConnectError::Tls { url, source: Box::new(source) })
}
