//! Connections to backends, kept open between requests.

use std::{
    collections::{BTreeSet, HashMap},
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use http::{Request, Response, StatusCode};
use hyper::{
    body::Incoming,
    client::conn::{http1, http2},
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::{net::TcpStream, time::Instant};

use crate::{proxy::Body, table::Protocol};

/// How long a backend may take to accept a connection, before the next one is asked.
const CONNECT_DEADLINE: Duration = Duration::from_secs(2);
/// Idle connections to one endpoint.
const MAX_IDLE: usize = 64;
/// Shorter than most servers keep theirs, so that they rarely close one that is just being used.
const IDLE: Duration = Duration::from_secs(15);

/// Why a request did not get an answer.
#[derive(Debug, thiserror::Error)]
pub enum SendError {
    /// Nothing was sent: another endpoint can be asked.
    #[error("no connection")]
    Connect(#[source] Box<dyn std::error::Error + Send + Sync>, Box<Request<Body>>),
    /// It was sent, at least in part.
    #[error("the connection broke")]
    Broken(#[source] hyper::Error),
}

/// A connection, and since when nothing has been asked on it.
type Kept = (Instant, http1::SendRequest<Body>);

#[derive(Default)]
pub struct Pool {
    http1: Mutex<HashMap<SocketAddr, Vec<Kept>>>,
    http2: Mutex<HashMap<SocketAddr, http2::SendRequest<Body>>>,
}

impl Pool {
    /// Sends a request over a connection that is there or a new one.
    pub async fn send(
        self: &Arc<Self>,
        endpoint: SocketAddr,
        protocol: Protocol,
        request: Request<Body>,
    ) -> Result<Response<Incoming>, SendError> {
        match protocol {
            Protocol::Http1 => self.send_http1(endpoint, request).await,
            Protocol::H2c => self.send_http2(endpoint, request).await,
        }
    }

    async fn send_http1(
        self: &Arc<Self>,
        endpoint: SocketAddr,
        mut request: Request<Body>,
    ) -> Result<Response<Incoming>, SendError> {
        loop {
            let kept = self.take(endpoint);
            let is_new = kept.is_none();
            let mut sender = match kept {
                Some(sender) => sender,
                None => match connect(endpoint).await {
                    Ok(sender) => sender,
                    Err(error) => return Err(SendError::Connect(error, Box::new(request))),
                },
            };
            match sender.try_send_request(request).await {
                Ok(response) => {
                    if response.status() != StatusCode::SWITCHING_PROTOCOLS {
                        self.give_back(endpoint, sender);
                    }
                    return Ok(response);
                }
                Err(mut error) => match error.take_message() {
                    // It was closed before anything was sent on it: once more, over another.
                    Some(unsent) if !is_new => request = unsent,
                    Some(unsent) => return Err(SendError::Connect(error.into_error().into(), Box::new(unsent))),
                    None => return Err(SendError::Broken(error.into_error())),
                },
            }
        }
    }

    async fn send_http2(&self, endpoint: SocketAddr, request: Request<Body>) -> Result<Response<Incoming>, SendError> {
        let kept = self.http2.lock().unwrap_or_else(PoisonError::into_inner).get(&endpoint).cloned();
        let mut sender = match kept.filter(|sender| !sender.is_closed()) {
            Some(sender) => sender,
            None => match connect_h2(endpoint).await {
                Ok(sender) => {
                    let mut all = self.http2.lock().unwrap_or_else(PoisonError::into_inner);
                    all.insert(endpoint, sender.clone());
                    sender
                }
                Err(error) => return Err(SendError::Connect(error, Box::new(request))),
            },
        };
        sender.try_send_request(request).await.map_err(|mut error| match error.take_message() {
            Some(unsent) => SendError::Connect(error.into_error().into(), Box::new(unsent)),
            None => SendError::Broken(error.into_error()),
        })
    }

    fn take(&self, endpoint: SocketAddr) -> Option<http1::SendRequest<Body>> {
        let mut all = self.http1.lock().unwrap_or_else(PoisonError::into_inner);
        let idle = all.get_mut(&endpoint)?;
        // The one that was used last is the likeliest to be open.
        while let Some((since, sender)) = idle.pop() {
            if since.elapsed() < IDLE && sender.is_ready() {
                return Some(sender);
            }
        }
        all.remove(&endpoint);
        None
    }

    /// Takes a connection back once its answer was read to its end.
    fn give_back(self: &Arc<Self>, endpoint: SocketAddr, mut sender: http1::SendRequest<Body>) {
        let pool = Arc::downgrade(self);
        tokio::spawn(async move {
            if sender.ready().await.is_err() {
                return;
            }
            let Some(pool) = pool.upgrade() else { return };
            let mut all = pool.http1.lock().unwrap_or_else(PoisonError::into_inner);
            let idle = all.entry(endpoint).or_default();
            if idle.len() < MAX_IDLE {
                idle.push((Instant::now(), sender));
            }
        });
    }

    /// Drops what is too old, and all connections to endpoints that are gone.
    pub fn sweep(&self, wanted: &BTreeSet<SocketAddr>) {
        let mut all = self.http1.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|endpoint, idle| {
            idle.retain(|(since, sender)| since.elapsed() < IDLE && sender.is_ready());
            wanted.contains(endpoint) && !idle.is_empty()
        });
        drop(all);
        let mut all = self.http2.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|endpoint, sender| wanted.contains(endpoint) && !sender.is_closed());
    }
}

type Failure = Box<dyn std::error::Error + Send + Sync>;

async fn stream(endpoint: SocketAddr) -> Result<TokioIo<TcpStream>, Failure> {
    let stream = tokio::time::timeout(CONNECT_DEADLINE, TcpStream::connect(endpoint)).await??;
    stream.set_nodelay(true)?;
    Ok(TokioIo::new(stream))
}

async fn connect(endpoint: SocketAddr) -> Result<http1::SendRequest<Body>, Failure> {
    let (sender, connection) = http1::handshake(stream(endpoint).await?).await?;
    tokio::spawn(async move {
        // Either side may hang up; whoever waits for an answer is told.
        let _ = connection.with_upgrades().await;
    });
    Ok(sender)
}

async fn connect_h2(endpoint: SocketAddr) -> Result<http2::SendRequest<Body>, Failure> {
    let (sender, connection) = http2::handshake(TokioExecutor::new(), stream(endpoint).await?).await?;
    tokio::spawn(async move {
        let _ = connection.await;
    });
    Ok(sender)
}
