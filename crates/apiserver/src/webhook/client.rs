//! Sends one review and reads one answer: HTTP/1.1 over TLS, within the webhook's time, and never further than where
//! the configuration says. HTTP/2 is not offered, as upstream does not: its single connection would bind all requests
//! to one of several endpoints.

use std::{
    fmt,
    net::SocketAddr,
    sync::{Arc, OnceLock, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Response, header};
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::{body::Incoming, client::conn::http1::SendRequest};
use hyper_util::rt::TokioIo;
use rustls::{ClientConfig, RootCertStore, crypto::ring::default_provider};
use rustls_pki_types::{CertificateDer, ServerName, pem::PemObject};
use tokio::{net::TcpStream, time::Instant};
use tokio_rustls::TlsConnector;

use super::target::{Place, Target};
use crate::{Env, builtin, contract::Lookup, json::text, proxy};

/// Connections to one webhook that are kept although nobody uses them, and for how long.
const MAX_IDLE: usize = 25;
const MAX_IDLE_TIME: Duration = Duration::from_secs(30);
/// How much of an answer that is no success is shown.
const MAX_ERROR_BYTES: usize = 2048;

/// A connection that waits for its next request.
pub(super) struct Idle {
    address: String,
    sender: SendRequest<Full<Bytes>>,
    since: Instant,
}

impl fmt::Debug for Idle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Idle").field("address", &self.address).finish_non_exhaustive()
    }
}

/// What an exchange that brought no answer is told as, and the code that goes with it.
#[derive(Debug)]
pub(super) struct Failure {
    pub why: String,
    pub code: u16,
}

pub(super) struct Client {
    lookup: Arc<dyn Lookup>,
    env: Env,
    /// The host's authorities, read when the first webhook needs them.
    roots: OnceLock<Arc<RootCertStore>>,
}

impl Client {
    pub fn new(lookup: Arc<dyn Lookup>, env: Env) -> Self {
        Self { lookup, env, roots: OnceLock::new() }
    }

    pub fn uid(&self) -> String {
        self.env.uid().to_string()
    }

    /// Posts a review. The error is what stands after `failed to call webhook: `.
    pub async fn post(
        &self,
        target: &Target,
        body: Bytes,
        timeout: Duration,
        limit_bytes: usize,
    ) -> Result<Bytes, Failure> {
        let query = format!("timeout={}s", timeout.as_secs());
        let exchange = self.exchange(target, &query, body, limit_bytes);
        let outcome = match tokio::time::timeout(timeout, exchange).await {
            Ok(outcome) => outcome,
            Err(_) => Err(Trouble::OnTheWay("context deadline exceeded".into())),
        };
        outcome.map_err(|trouble| match trouble {
            Trouble::OnTheWay(why) => Failure { why: format!("Post \"{}\": {why}", target.shown(&query)), code: 503 },
            Trouble::Answered(failure) => failure,
        })
    }

    async fn exchange(&self, target: &Target, query: &str, body: Bytes, limit_bytes: usize) -> Result<Bytes, Trouble> {
        let address = self.resolve(target).await?;
        let (answer, sender) = match over_idle(target, &address, request(target, query, body)?).await? {
            Sent::Answered(answer, sender) => (answer, sender),
            Sent::Not(request) => {
                let mut sender = self.connect(target, &address).await?;
                let answer = sender.send_request(request).await.map_err(|error| Trouble::hyper(&error))?;
                (answer, sender)
            }
        };
        let bytes = read(answer, limit_bytes).await?;
        target.keep(Idle { address, sender, since: Instant::now() });
        Ok(bytes)
    }

    /// Where to connect to: host and port.
    async fn resolve(&self, target: &Target) -> Result<String, Trouble> {
        let (namespace, name, port) = match &target.place {
            Place::Address { host, port } => return Ok(join(host, *port)),
            Place::Service { namespace, name, port } => (namespace, name, *port),
        };
        let services = builtin::services();
        let found = match self.lookup.get(services, namespace, name) {
            Some(found) => Some(found),
            None => self.lookup.get_fresh(services, namespace, name).await.ok().flatten(),
        };
        let Some(found) = found else { return Err(Trouble::OnTheWay(format!("service \"{name}\" not found"))) };
        let service = found.value();
        if service["spec"]["type"] == "ExternalName" {
            return Ok(join(text(&service["spec"]["externalName"]), port));
        }
        let endpoint = proxy::service_endpoint(&*self.lookup, namespace, &service, &port.to_string(), &self.env);
        match endpoint {
            Ok((host, port)) => Ok(join(&host, port)),
            Err(error) => Err(Trouble::OnTheWay(error.message().to_owned())),
        }
    }

    async fn connect(&self, target: &Target, address: &str) -> Result<SendRequest<Full<Bytes>>, Trouble> {
        let trouble = |why: String| Trouble::OnTheWay(why);
        let config = target.tls.get_or_init(|| self.tls(target.authority.as_deref())).clone().map_err(trouble)?;
        let name = ServerName::try_from(target.server_name.clone()).map_err(|_| {
            trouble(format!("tls: {:?} is not a name that a certificate can be for", target.server_name))
        })?;
        let stream = dial(address).await?;
        let stream =
            TlsConnector::from(config).connect(name, stream).await.map_err(|error| trouble(tls_error(&error)))?;
        let (sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .map_err(|error| Trouble::hyper(&error))?;
        // It ends when its sender is dropped; what goes wrong with it shows in the exchange.
        tokio::spawn(connection);
        Ok(sender)
    }

    fn tls(&self, authority: Option<&[u8]>) -> Result<Arc<ClientConfig>, String> {
        let roots = match authority {
            Some(pem) => Arc::new(bundle(pem)?),
            None => self.roots.get_or_init(system_roots).clone(),
        };
        let mut config = ClientConfig::builder_with_provider(Arc::new(default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|error| format!("tls: {error}"))?
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Arc::new(config))
    }
}

/// Why there is no answer.
enum Trouble {
    /// Nothing came back; the address belongs to the message.
    OnTheWay(String),
    /// Something came back that is no success.
    Answered(Failure),
}

impl Trouble {
    fn hyper(error: &hyper::Error) -> Self {
        let closed = error.is_incomplete_message() || error.is_closed() || error.is_canceled();
        Self::OnTheWay(if closed { "EOF".to_owned() } else { error.to_string() })
    }
}

enum Sent {
    Answered(Response<Incoming>, SendRequest<Full<Bytes>>),
    Not(Request<Full<Bytes>>),
}

/// A connection that waited may have been closed meanwhile; what was not sent is sent on another.
async fn over_idle(target: &Target, address: &str, mut request: Request<Full<Bytes>>) -> Result<Sent, Trouble> {
    while let Some(mut sender) = target.take_idle(address) {
        match sender.try_send_request(request).await {
            Ok(answer) => return Ok(Sent::Answered(answer, sender)),
            Err(mut error) => match error.take_message() {
                Some(unsent) => request = unsent,
                None => return Err(Trouble::hyper(&error.into_error())),
            },
        }
    }
    Ok(Sent::Not(request))
}

impl Target {
    fn take_idle(&self, address: &str) -> Option<SendRequest<Full<Bytes>>> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        idle.retain(|idle| idle.since.elapsed() < MAX_IDLE_TIME && !idle.sender.is_closed());
        let at = idle.iter().rposition(|idle| idle.address == address && idle.sender.is_ready())?;
        Some(idle.swap_remove(at).sender)
    }

    fn keep(&self, connection: Idle) {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.len() < MAX_IDLE && !connection.sender.is_closed() {
            idle.push(connection);
        }
    }
}

fn join(host: &str, port: u16) -> String {
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

fn request(target: &Target, query: &str, body: Bytes) -> Result<Request<Full<Bytes>>, Trouble> {
    Request::post(format!("{}?{query}", target.path))
        .header(header::HOST, &target.host)
        .header(header::CONTENT_TYPE, "application/json")
        .header(header::ACCEPT, "application/json, */*")
        .header(header::USER_AGENT, "kube-apiserver-admission")
        .body(Full::new(body))
        .map_err(|error| Trouble::OnTheWay(error.to_string()))
}

async fn dial(address: &str) -> Result<TcpStream, Trouble> {
    let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
    let addresses = tokio::net::lookup_host(address).await;
    let addresses: Vec<SocketAddr> = match addresses {
        Ok(addresses) => addresses.collect(),
        Err(_) => return Err(Trouble::OnTheWay(format!("dial tcp: lookup {host}: no such host"))),
    };
    let mut last = format!("dial tcp: lookup {host}: no such host");
    for address in addresses {
        match TcpStream::connect(address).await {
            Ok(stream) => {
                let _ = stream.set_nodelay(true);
                return Ok(stream);
            }
            Err(error) => last = format!("dial tcp {address}: connect: {}", dial_error(&error)),
        }
    }
    Err(Trouble::OnTheWay(last))
}

/// What the system says, as Go's programs print it.
fn dial_error(error: &std::io::Error) -> String {
    match error.kind() {
        std::io::ErrorKind::ConnectionRefused => "connection refused".into(),
        std::io::ErrorKind::NetworkUnreachable => "network is unreachable".into(),
        std::io::ErrorKind::HostUnreachable => "no route to host".into(),
        _ => error.to_string(),
    }
}

fn tls_error(error: &std::io::Error) -> String {
    use rustls::{CertificateError, Error};
    let failed = "tls: failed to verify certificate: x509:";
    match error.get_ref().and_then(|source| source.downcast_ref::<Error>()) {
        // An authority of the same name with another key is as foreign as one that nobody has heard of.
        Some(Error::InvalidCertificate(CertificateError::UnknownIssuer | CertificateError::BadSignature)) => {
            format!("{failed} certificate signed by unknown authority")
        }
        Some(Error::InvalidCertificate(
            CertificateError::Expired
            | CertificateError::ExpiredContext { .. }
            | CertificateError::NotValidYet
            | CertificateError::NotValidYetContext { .. },
        )) => format!("{failed} certificate has expired or is not yet valid"),
        Some(Error::InvalidCertificate(other)) => format!("{failed} {other}"),
        Some(other) => format!("tls: {other}"),
        None if error.kind() == std::io::ErrorKind::UnexpectedEof => "EOF".into(),
        None => error.to_string(),
    }
}

fn bundle(pem: &[u8]) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(pem) {
        let certificate = certificate.map_err(|error| format!("unable to load root certificates: {error}"))?;
        roots.add(certificate).map_err(|error| format!("unable to load root certificates: {error}"))?;
    }
    if roots.is_empty() {
        return Err("unable to load root certificates: unable to parse bytes as PEM block".into());
    }
    Ok(roots)
}

fn system_roots() -> Arc<RootCertStore> {
    let mut roots = RootCertStore::empty();
    let found = rustls_native_certs::load_native_certs();
    for error in &found.errors {
        tracing::warn!(%error, "some of the host's certificate authorities could not be read");
    }
    roots.add_parsable_certificates(found.certs);
    Arc::new(roots)
}

async fn read(answer: Response<Incoming>, limit_bytes: usize) -> Result<Bytes, Trouble> {
    let code = answer.status();
    let limit = if code.is_success() { limit_bytes } else { MAX_ERROR_BYTES };
    let body = match Limited::new(answer.into_body(), limit).collect().await {
        Ok(body) => body.to_bytes(),
        Err(_) if !code.is_success() => Bytes::new(),
        Err(error) if error.is::<LengthLimitError>() => {
            let why = format!("the response of the webhook is longer than {limit} bytes");
            return Err(Trouble::OnTheWay(why));
        }
        Err(error) => return Err(Trouble::OnTheWay(error.to_string())),
    };
    if code.is_success() {
        return Ok(body);
    }
    let code = code.as_u16();
    Err(Trouble::Answered(Failure { why: refusal(code, String::from_utf8_lossy(&body).trim()), code }))
}

/// What client-go makes of an answer that is no success and no Status.
fn refusal(code: u16, body: &str) -> String {
    match code {
        400 => "the server rejected our request for an unknown reason".into(),
        401 => "the server has asked for the client to provide credentials".into(),
        404 => "the server could not find the requested resource".into(),
        405 => "the server does not allow this method on the requested resource".into(),
        409 => "the server reported a conflict".into(),
        422 => "the server rejected our request due to an error in our request".into(),
        429 => "the server has received too many requests and has asked us to try again later".into(),
        503 => "the server is currently unable to handle the request".into(),
        504 => "the server was unable to return a response in the time allotted, but may still be processing the \
                request"
            .into(),
        403 | 406 | 415 => {
            if body.is_empty() {
                "unknown".into()
            } else {
                body.into()
            }
        }
        500.. => format!("an error on the server ({body:?}) has prevented the request from succeeding"),
        _ => format!("the server responded with the status code {code} but did not return more information"),
    }
}
