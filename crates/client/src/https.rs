//! HTTP/2 over TLS to an API server on another machine: one connection for everything, another only where the server
//! lets no more requests into one. A peer that has fallen silent is noticed within fifteen seconds, by pings and by the
//! kernel; requests wait a while for a server that is away, so that what goes on is quick when it is back.

use std::{
    io,
    net::IpAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderValue, Request, Response, Uri, header, uri};
use http_body::Frame;
use hyper::{body::Incoming, client::conn::http2};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use kube::client::Body;
use rand::{Rng as _, SeedableRng as _, rngs::SmallRng};
use rustix::net::sockopt;
use rustls::{ClientConfig, pki_types::ServerName};
use tokio::{
    net::TcpStream,
    sync::Mutex,
    time::{Instant, timeout, timeout_at},
};
use tokio_rustls::TlsConnector;

use crate::dial::{self, DialError};

/// What the server lets into one connection is 250; a watch holds its place for minutes.
const MAX_STREAMS: usize = 200;
const MAX_CONNECTIONS: usize = 16;
const PING_EVERY: Duration = Duration::from_secs(5);
const PING_TIMEOUT: Duration = Duration::from_secs(5);
/// For what is sent and not acknowledged: pings alone would wait for their turn behind it.
const UNACKNOWLEDGED_MS: u32 = 10_000;
const CONNECT: Duration = Duration::from_secs(5);
const HANDSHAKE: Duration = Duration::from_secs(5);
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LAST_PAUSE: Duration = Duration::from_secs(1);
const STREAM_WINDOW_BYTES: u32 = 1 << 20;
const CONNECTION_WINDOW_BYTES: u32 = 4 << 20;

/// Why there is no connection, or no answer on it.
#[derive(Debug, thiserror::Error)]
pub enum HttpsError {
    #[error("the address {url:?} is not usable; give it as https://HOST:PORT")]
    Url { url: String },
    #[error("the name {host} cannot be resolved: {why}")]
    Resolve { host: String, why: String },
    #[error("no connection to {address}")]
    Connect { address: String, source: io::Error },
    #[error("the TLS handshake with {address} failed")]
    Tls { address: String, source: io::Error },
    #[error("{address} does not answer")]
    Silent { address: String },
    #[error("the connection to {address} broke")]
    Http { address: String, source: hyper::Error },
}

impl HttpsError {
    /// What TLS has against the other side.
    pub fn tls(&self) -> Option<&rustls::Error> {
        match self {
            Self::Tls { source, .. } => source.get_ref()?.downcast_ref(),
            _ => None,
        }
    }
}

/// Where a server is, and how it is talked to.
pub struct Endpoint {
    /// `https://HOST:PORT`
    pub url: String,
    /// Whom to trust and what to show; it may change its mind with each connection.
    pub tls: ClientConfig,
    /// Sent as a bearer token where given.
    pub token: Option<String>,
    /// How long a request waits for a server that cannot be reached.
    pub patience: Duration,
    pub seed: u64,
}

/// The connections to one server. Clones are the same.
#[derive(Clone)]
pub struct Https(Arc<Shared>);

struct Shared {
    host: String,
    port: u16,
    name: ServerName<'static>,
    tls: TlsConnector,
    token: Option<HeaderValue>,
    patience: Duration,
    state: Mutex<State>,
}

struct State {
    open: Vec<Open>,
    pause: Duration,
    random: SmallRng,
}

#[derive(Clone)]
struct Open {
    sender: http2::SendRequest<Body>,
    /// One clone for each request under way.
    streams: Arc<()>,
}

impl Https {
    pub fn new(endpoint: Endpoint) -> Result<Self, HttpsError> {
        let Endpoint { url, mut tls, token, patience, seed } = endpoint;
        let wrong = || HttpsError::Url { url: url.clone() };
        let parsed: Uri = url.parse().map_err(|_| wrong())?;
        let host = parsed.host().filter(|_| parsed.scheme() == Some(&uri::Scheme::HTTPS)).ok_or_else(wrong)?;
        let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        let name = ServerName::try_from(host.clone()).map_err(|_| wrong())?;
        let token = token.map(|token| HeaderValue::try_from(format!("Bearer {token}"))).transpose();
        let mut token = token.map_err(|_| wrong())?;
        token.iter_mut().for_each(|token| token.set_sensitive(true));
        tls.alpn_protocols = vec![b"h2".to_vec()];
        Ok(Self(Arc::new(Shared {
            port: parsed.port_u16().unwrap_or(443),
            host,
            name,
            tls: TlsConnector::from(Arc::new(tls)),
            token,
            patience,
            state: Mutex::new(State { open: Vec::new(), pause: FIRST_PAUSE, random: SmallRng::seed_from_u64(seed) }),
        })))
    }

    /// A `kube::Client` on these connections. Has to be called inside a tokio runtime.
    pub fn client(&self, user_agent: &'static str) -> kube::Client {
        let https = self.clone();
        let service = tower::service_fn(move |mut request: Request<Body>| {
            request.headers_mut().entry(header::USER_AGENT).or_insert(HeaderValue::from_static(user_agent));
            let https = https.clone();
            async move { https.send(request).await }
        });
        kube::Client::new(service, "default")
    }

    /// Connects once, where there is no connection, and says what is in the way.
    pub async fn reach(&self) -> Result<(), HttpsError> {
        let mut state = self.0.state.lock().await;
        state.open.retain(|open| !open.sender.is_closed());
        if state.open.is_empty() {
            let open = self.0.connect().await?;
            state.open.push(open);
        }
        Ok(())
    }

    /// New requests go over a new connection, which shows what there is to show by then; what is under way stays where
    /// it is.
    pub async fn renew(&self) {
        self.0.state.lock().await.open.clear();
    }

    async fn send(&self, mut request: Request<Body>) -> Result<Response<Counted>, HttpsError> {
        let shared = &*self.0;
        let mut parts = std::mem::take(request.uri_mut()).into_parts();
        parts.scheme = Some(uri::Scheme::HTTPS);
        parts.authority = shared.address().parse().ok();
        *request.uri_mut() = Uri::from_parts(parts).map_err(|_| HttpsError::Url { url: shared.address() })?;
        if let Some(token) = &shared.token {
            request.headers_mut().insert(header::AUTHORIZATION, token.clone());
        }
        let Open { mut sender, streams } = shared.connection().await?;
        let answer = sender.send_request(request).await;
        let answer = answer.map_err(|source| HttpsError::Http { address: shared.address(), source })?;
        Ok(answer.map(|body| Counted { body, _stream: streams }))
    }
}

impl Shared {
    fn address(&self) -> String {
        match self.host.parse() {
            Ok(IpAddr::V6(ip)) => format!("[{ip}]:{}", self.port),
            _ => format!("{}:{}", self.host, self.port),
        }
    }

    /// One that takes another request. Whoever comes first makes it; all others wait for that, as long as for anything.
    async fn connection(&self) -> Result<Open, HttpsError> {
        let deadline = Instant::now() + self.patience;
        let silent = || HttpsError::Silent { address: self.address() };
        let mut state = timeout_at(deadline, self.state.lock()).await.map_err(|_| silent())?;
        loop {
            state.open.retain(|open| !open.sender.is_closed());
            let has_room = |open: &&Open| Arc::strong_count(&open.streams) <= MAX_STREAMS;
            if let Some(open) = state.open.iter().find(has_room) {
                return Ok(open.clone());
            }
            if state.open.len() >= MAX_CONNECTIONS {
                return Err(HttpsError::Silent {
                    address: format!("{} (too many requests are under way)", self.address()),
                });
            }
            match self.connect().await {
                Ok(open) => {
                    if state.pause != FIRST_PAUSE {
                        tracing::info!(address = self.address(), "the API server is back");
                    }
                    state.pause = FIRST_PAUSE;
                    state.open.push(open);
                }
                Err(error) => {
                    if state.pause == FIRST_PAUSE {
                        let error = &error as &dyn std::error::Error;
                        tracing::warn!(error, "the API server is out of reach; trying on");
                    }
                    let pause = state.pause.mul_f64(1.0 + state.random.random::<f64>());
                    state.pause = (state.pause * 2).min(LAST_PAUSE);
                    if Instant::now() + pause >= deadline {
                        return Err(error);
                    }
                    tokio::time::sleep(pause).await;
                }
            }
        }
    }

    async fn connect(&self) -> Result<Open, HttpsError> {
        let address = self.address();
        let silent = || HttpsError::Silent { address: address.clone() };
        let stream = timeout(CONNECT, self.dial()).await.map_err(|_| silent())??;
        let tls = timeout(HANDSHAKE, self.tls.connect(self.name.clone(), stream)).await.map_err(|_| silent())?;
        let tls = tls.map_err(|source| HttpsError::Tls { address: address.clone(), source })?;
        let mut http = http2::Builder::new(TokioExecutor::new());
        http.timer(TokioTimer::new())
            .keep_alive_interval(PING_EVERY)
            .keep_alive_timeout(PING_TIMEOUT)
            .keep_alive_while_idle(true)
            .initial_stream_window_size(STREAM_WINDOW_BYTES)
            .initial_connection_window_size(CONNECTION_WINDOW_BYTES);
        let (sender, connection) = timeout(HANDSHAKE, http.handshake(TokioIo::new(tls)))
            .await
            .map_err(|_| silent())?
            .map_err(|source| HttpsError::Http { address: address.clone(), source })?;
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(address, %error, "the connection to the API server broke");
            }
        });
        Ok(Open { sender, streams: Arc::default() })
    }

    async fn dial(&self) -> Result<TcpStream, HttpsError> {
        let unreachable = |source| HttpsError::Connect { address: self.address(), source };
        let stream = dial::connect(&self.host, self.port).await.map_err(|error| match error {
            DialError::Lookup { host, why } => HttpsError::Resolve { host, why },
            DialError::Connect(source) => unreachable(source),
        })?;
        tuned(stream).map_err(unreachable)
    }
}

/// The kernel notices a peer that is gone by itself, too.
fn tuned(stream: TcpStream) -> io::Result<TcpStream> {
    stream.set_nodelay(true)?;
    sockopt::set_socket_keepalive(&stream, true)?;
    sockopt::set_tcp_keepidle(&stream, PING_EVERY)?;
    sockopt::set_tcp_keepintvl(&stream, Duration::from_secs(2))?;
    sockopt::set_tcp_keepcnt(&stream, 3)?;
    sockopt::set_tcp_user_timeout(&stream, UNACKNOWLEDGED_MS)?;
    Ok(stream)
}

/// An answer's body, which holds its place on the connection until it is read or dropped.
struct Counted {
    body: Incoming,
    _stream: Arc<()>,
}

impl http_body::Body for Counted {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }
}
