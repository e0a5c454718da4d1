//! TLS connections: accepted, bounded in number and time, and drained at the end.

use std::{sync::Arc, time::Duration};

use http_body_util::BodyExt;
use hyper::{body::Incoming, service::service_fn};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::{
        conn::auto::Builder,
        graceful::{GracefulShutdown, Watcher},
    },
};
use rustls_pki_types::CertificateDer;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use super::{ApiServer, dispatch::Origin, incoming::Heard};
use crate::{audit::Peer, contract::Body, pki::ApiTls};

const MAX_CONNECTIONS: usize = 16_384;
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a connection may take to send a request's head, and stay idle between two.
const HEADER_TIMEOUT: Duration = Duration::from_secs(90);
const PING_EVERY: Duration = Duration::from_secs(30);
const DRAIN: Duration = Duration::from_secs(5);
const MAX_HEADER_BYTES: usize = 64 << 10;
/// As upstream allows; a client opens another connection for more.
const MAX_STREAMS: u32 = 250;
/// What HTTP/2 may have under way, so that a list does not wait for window updates.
const STREAM_WINDOW_BYTES: u32 = 1 << 20;
const CONNECTION_WINDOW_BYTES: u32 = 4 << 20;
/// After an accept that failed (no file descriptors left, mostly).
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

impl ApiServer {
    /// Serves HTTP/1.1 and HTTP/2 over TLS until `shutdown`, then lets what runs come to its end for a few seconds.
    pub async fn serve(&self, listener: TcpListener, tls: ApiTls, shutdown: CancellationToken) {
        let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
        let graceful = GracefulShutdown::new();
        let stop = self.inner.shutdown.clone();
        loop {
            let stream = tokio::select! {
                accepted = listener.accept() => match accepted {
                    Ok((stream, _)) => stream,
                    Err(cause) => {
                        warn!(%cause, "accepting a connection failed; going on");
                        tokio::time::sleep(ACCEPT_PAUSE).await;
                        continue;
                    }
                },
                () = shutdown.cancelled() => break,
                () = stop.cancelled() => break,
            };
            let Ok(place) = places.clone().try_acquire_owned() else {
                // Closing at once tells a client to come back; waiting would only fill the backlog.
                continue;
            };
            let (server, tls, watcher) = (self.clone(), tls.clone(), graceful.watcher());
            tokio::spawn(async move {
                server.connection(stream, tls, watcher).await;
                drop(place);
            });
        }
        stop.cancel();
        drop(listener);
        let _ = tokio::time::timeout(DRAIN, graceful.shutdown()).await;
    }

    async fn connection(&self, stream: TcpStream, api_tls: ApiTls, watcher: Watcher) {
        let _ = stream.set_nodelay(true);
        // Only the audit log wants to know.
        let peer = self.inner.audit.as_ref().and_then(|_| Some(Peer(stream.peer_addr().ok()?.ip())));
        let acceptor = TlsAcceptor::from(api_tls.config.clone());
        let tls = match tokio::time::timeout(HANDSHAKE_TIMEOUT, acceptor.accept(stream)).await {
            Ok(Ok(tls)) => tls,
            Ok(Err(cause)) => return debug!(%cause, "TLS handshake failed"),
            Err(_) => return debug!("TLS handshake took too long"),
        };
        let certificates = tls.get_ref().1.peer_certificates().unwrap_or_default();
        let certificates: Arc<Vec<CertificateDer<'static>>> =
            Arc::new(certificates.iter().map(|certificate| certificate.clone().into_owned()).collect());
        // Once for the connection: the end of a certificate's life is looked at with every request.
        let now = self.inner.env.now();
        let (is_known, proxy) = (api_tls.vouches_for(&certificates, now), api_tls.front_proxy(&certificates, now));
        let inner = self.inner.clone();
        let service = service_fn(move |request: http::Request<Incoming>| {
            let (inner, certificates, proxy) = (inner.clone(), certificates.clone(), proxy.clone());
            async move {
                let mut request = request.map(|body| -> Body { Heard::new(body).map_err(Into::into).boxed_unsync() });
                if let Some(peer) = peer {
                    request.extensions_mut().insert(peer);
                }
                let origin = match proxy.and_then(|proxy| proxy.read(request.headers())) {
                    Some(user) => Origin::Proxied(Box::new(user)),
                    None if is_known => Origin::Remote(certificates),
                    None => Origin::Stranger,
                };
                Ok::<_, std::convert::Infallible>(inner.handle(request, origin).await)
            }
        });
        let mut builder = Builder::new(TokioExecutor::new());
        builder
            .http1()
            .timer(TokioTimer::new())
            .header_read_timeout(HEADER_TIMEOUT)
            .max_buf_size(MAX_HEADER_BYTES.max(8 << 10));
        builder
            .http2()
            .timer(TokioTimer::new())
            .keep_alive_interval(PING_EVERY)
            .max_concurrent_streams(MAX_STREAMS)
            .max_header_list_size(MAX_HEADER_BYTES as u32)
            .initial_stream_window_size(STREAM_WINDOW_BYTES)
            .initial_connection_window_size(CONNECTION_WINDOW_BYTES);
        let connection = builder.serve_connection_with_upgrades(TokioIo::new(tls), service).into_owned();
        if let Err(cause) = watcher.watch(connection).await {
            debug!(%cause, "a connection ended early");
        }
    }
}
