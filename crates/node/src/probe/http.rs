//! One HTTP GET, as probes and hooks make it: a fresh connection, any certificate, no pooling.

use std::{
    sync::{Arc, OnceLock},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Request, Uri};
use http_body_util::{BodyExt, Empty, Limited};
use hyper_util::rt::TokioIo;
use k8s_openapi::{
    api::core::v1::{ContainerPort, HTTPGetAction},
    apimachinery::pkg::util::intstr::IntOrString,
};
use knarr_client::dial::{self, DialError};
use tokio::io::{AsyncRead, AsyncWrite};

/// Of a body, only the beginning is kept, for the message.
const BODY_LIMIT: usize = 10 * 1024;
const MAX_REDIRECTS: usize = 10;

#[derive(Clone, Debug)]
pub struct Get {
    pub https: bool,
    pub host: String,
    pub port: u16,
    pub path: String,
    pub headers: Vec<(String, String)>,
    pub user_agent: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    pub status: u16,
    pub body: String,
    /// It sent us to another host, where a probe does not follow.
    pub elsewhere: Option<String>,
}

/// A port by number, or by the name a container gives it.
pub fn port(port: &IntOrString, ports: Option<&Vec<ContainerPort>>) -> Result<u16, String> {
    let number = match port {
        IntOrString::Int(number) => Some(*number),
        IntOrString::String(text) => text.parse().ok().or_else(|| {
            let named = ports?.iter().find(|port| port.name.as_ref() == Some(text))?;
            Some(named.container_port)
        }),
    };
    let number = number.ok_or_else(|| format!("couldn't find port: {}", shown(port)))?;
    u16::try_from(number).ok().filter(|number| *number > 0).ok_or_else(|| format!("invalid port number: {number}"))
}

fn shown(port: &IntOrString) -> String {
    match port {
        IntOrString::Int(number) => number.to_string(),
        IntOrString::String(text) => text.clone(),
    }
}

impl Get {
    /// From an API object; `pod_ip` is asked where the action names no host.
    pub fn from_action(
        action: &HTTPGetAction,
        ports: Option<&Vec<ContainerPort>>,
        pod_ip: &str,
        purpose: &str,
    ) -> Result<Self, String> {
        let path = action.path.clone().unwrap_or_default();
        let headers = action.http_headers.iter().flatten().map(|header| (header.name.clone(), header.value.clone()));
        Ok(Self {
            https: action.scheme.as_deref().is_some_and(|scheme| scheme.eq_ignore_ascii_case("https")),
            host: action.host.clone().filter(|host| !host.is_empty()).unwrap_or_else(|| pod_ip.to_owned()),
            port: port(&action.port, ports)?,
            path: if path.starts_with('/') { path } else { format!("/{path}") },
            headers: headers.collect(),
            user_agent: format!("{purpose}/{}", crate::API_MINOR),
        })
    }

    fn authority(&self) -> String {
        if self.host.contains(':') {
            format!("[{}]:{}", self.host, self.port)
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }

    pub fn url(&self) -> String {
        format!("{}://{}{}", if self.https { "https" } else { "http" }, self.authority(), self.path)
    }

    /// The same, asked once more without TLS where that is all the server speaks: a hook's scheme was not looked at for
    /// years, and what was written then goes on working.
    pub async fn send_in_any_way(self, timeout: Duration) -> Result<Answer, String> {
        let plain = Self { https: false, ..self.clone() };
        match self.send(timeout).await {
            Err(error) if error.ends_with(PLAIN_SERVER) => {
                plain.without_credentials().send(timeout).await.or(Err(error))
            }
            other => other,
        }
    }

    fn without_credentials(mut self) -> Self {
        self.headers.retain(|(name, _)| !name.eq_ignore_ascii_case("authorization"));
        self
    }

    /// Follows redirects as long as they stay on the same host.
    pub async fn send(mut self, timeout: Duration) -> Result<Answer, String> {
        let url = self.url();
        let all = async {
            for _ in 0..=MAX_REDIRECTS {
                let (answer, location) = self.once().await.map_err(|error| format!("Get {url:?}: {error}"))?;
                let redirect = location.filter(|_| matches!(answer.status, 301 | 302 | 303 | 307 | 308));
                let Some(location) = redirect else { return Ok(answer) };
                if !self.follow(&location) {
                    return Ok(Answer { elsewhere: Some(location), ..answer });
                }
            }
            Err(format!("Get {url:?}: stopped after {MAX_REDIRECTS} redirects"))
        };
        let late =
            || format!("Get {url:?}: context deadline exceeded (Client.Timeout exceeded while awaiting headers)");
        tokio::time::timeout(timeout, all).await.unwrap_or_else(|_| Err(late()))
    }

    fn follow(&mut self, location: &str) -> bool {
        let Ok(uri) = location.parse::<Uri>() else { return false };
        if let Some(host) = uri.host() {
            if host.trim_matches(['[', ']']) != self.host {
                return false;
            }
            self.https = uri.scheme_str() == Some("https");
            self.port = uri.port_u16().unwrap_or(if self.https { 443 } else { 80 });
        }
        self.path = uri.path_and_query().map_or("/".to_owned(), ToString::to_string);
        true
    }

    async fn once(&self) -> Result<(Answer, Option<String>), String> {
        let stream = dial::connect(&self.host, self.port).await.map_err(|error| dialled(&self.authority(), &error))?;
        let _ = stream.set_nodelay(true);
        if !self.https {
            return self.exchange(stream).await;
        }
        let name = rustls_pki_types::ServerName::try_from(self.host.clone()).map_err(|error| error.to_string())?;
        let connector = tokio_rustls::TlsConnector::from(any_certificate());
        let stream = connector.connect(name, stream).await.map_err(|error| tls_error(&error))?;
        self.exchange(stream).await
    }

    async fn exchange<S>(&self, stream: S) -> Result<(Answer, Option<String>), String>
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(|error| error.to_string())?;
        let connection = tokio::spawn(connection);
        let answer = async {
            let response = sender.send_request(self.request()?).await.map_err(|error| error.to_string())?;
            let status = response.status().as_u16();
            let location = response.headers().get(http::header::LOCATION).and_then(|value| value.to_str().ok());
            let location = location.map(str::to_owned);
            // A longer body is cut, and a broken one counts as empty: the status is what matters.
            let body = Limited::new(response.into_body(), BODY_LIMIT).collect().await;
            let body = body.map(|body| body.to_bytes()).unwrap_or_default();
            let body = String::from_utf8_lossy(&body).into_owned();
            Ok((Answer { status, body, elsewhere: None }, location))
        };
        let answer = answer.await;
        connection.abort();
        answer
    }

    fn request(&self) -> Result<Request<Empty<Bytes>>, String> {
        let default_port = if self.https { 443 } else { 80 };
        let host = match self.port == default_port {
            true => self.authority().trim_end_matches(&format!(":{}", self.port)).to_owned(),
            false => self.authority(),
        };
        let mut request = Request::get(&self.path).body(Empty::new()).map_err(|error| error.to_string())?;
        let headers = request.headers_mut();
        let defaults = [("host", host), ("user-agent", self.user_agent.clone()), ("accept", "*/*".to_owned())];
        let defaults = defaults.into_iter().chain([("connection", "close".to_owned())]);
        for (name, value) in defaults.map(|(name, value)| (name.to_owned(), value)).chain(self.headers.iter().cloned())
        {
            let name = HeaderName::try_from(name).map_err(|error| error.to_string())?;
            let value = HeaderValue::try_from(value).map_err(|error| error.to_string())?;
            headers.insert(name, value);
        }
        Ok(request)
    }
}

/// What a server without TLS makes of a client with it. The other side's first bytes are no record of the protocol.
const PLAIN_SERVER: &str = "http: server gave HTTP response to HTTPS client";

fn tls_error(error: &std::io::Error) -> String {
    let cause = error.get_ref().and_then(|cause| cause.downcast_ref::<rustls::Error>());
    match cause {
        Some(rustls::Error::InvalidMessage(rustls::InvalidMessage::InvalidContentType)) => PLAIN_SERVER.to_owned(),
        _ => error.to_string(),
    }
}

/// Why there is no connection, as Go prints it, since it ends up in events that people search for.
pub fn dialled(address: &str, error: &DialError) -> String {
    match error {
        DialError::Lookup { .. } => format!("dial tcp: {error}"),
        DialError::Connect(error) => format!("dial tcp {address}: {}", connect_error(error)),
    }
}

fn connect_error(error: &std::io::Error) -> String {
    match error.kind() {
        std::io::ErrorKind::ConnectionRefused => "connect: connection refused".to_owned(),
        std::io::ErrorKind::HostUnreachable => "connect: no route to host".to_owned(),
        std::io::ErrorKind::NetworkUnreachable => "connect: network is unreachable".to_owned(),
        _ => error.to_string(),
    }
}

/// Probes ask whether something answers, not who it is: certificates are not checked, as documented.
fn any_certificate() -> Arc<rustls::ClientConfig> {
    static CONFIG: OnceLock<Arc<rustls::ClientConfig>> = OnceLock::new();
    CONFIG
        .get_or_init(|| {
            let provider = Arc::new(rustls::crypto::ring::default_provider());
            let versions =
                rustls::ClientConfig::builder_with_provider(provider.clone()).with_safe_default_protocol_versions();
            let builder = versions.unwrap_or_else(|error| unreachable!("ring has the default versions: {error}"));
            let verifier = Arc::new(NoVerifier(provider));
            Arc::new(builder.dangerous().with_custom_certificate_verifier(verifier).with_no_client_auth())
        })
        .clone()
}

#[derive(Debug)]
struct NoVerifier(Arc<rustls::crypto::CryptoProvider>);

impl rustls::client::danger::ServerCertVerifier for NoVerifier {
    fn verify_server_cert(
        &self,
        _: &rustls_pki_types::CertificateDer<'_>,
        _: &[rustls_pki_types::CertificateDer<'_>],
        _: &rustls_pki_types::ServerName<'_>,
        _: &[u8],
        _: rustls_pki_types::UnixTime,
    ) -> Result<rustls::client::danger::ServerCertVerified, rustls::Error> {
        Ok(rustls::client::danger::ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &rustls_pki_types::CertificateDer<'_>,
        _: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        Ok(rustls::client::danger::HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &rustls_pki_types::CertificateDer<'_>,
        _: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        Ok(rustls::client::danger::HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
