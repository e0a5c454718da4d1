//! The node's ports.

use std::{convert::Infallible, net::SocketAddr, sync::Arc, time::Duration};

use hyper::service::service_fn;
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto,
};
use rustls::ServerConfig;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
    sync::Semaphore,
};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use crate::proxy::{Arrival, Proxy};

/// Connections to one port at a time; more wait to be accepted.
const MAX_CONNECTIONS: usize = 8192;
const HANDSHAKE_DEADLINE: Duration = Duration::from_secs(10);
const HEADER_DEADLINE: Duration = Duration::from_secs(30);
/// How long to wait for a port that somebody else has.
const BIND_PAUSE: Duration = Duration::from_secs(5);
/// What one client may have under way on one HTTP/2 connection.
const MAX_STREAMS: u32 = 250;

/// Serves one port; none where it is 0.
pub async fn serve(proxy: Arc<Proxy>, address: SocketAddr, tls: Option<Arc<ServerConfig>>, cancel: CancellationToken) {
    if address.port() == 0 {
        return;
    }
    accept_all(bind(address).await, proxy, address.port(), tls, cancel).await;
}

/// Serves whoever connects to a listener. `port` is what the ingress says of itself to the services behind it.
pub async fn accept_all(
    listener: TcpListener,
    proxy: Arc<Proxy>,
    port: u16,
    tls: Option<Arc<ServerConfig>>,
    cancel: CancellationToken,
) {
    let acceptor = tls.map(TlsAcceptor::from);
    let room = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        let Ok(permit) = room.clone().acquire_owned().await else { return };
        let (stream, client) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                // Out of descriptors, most likely: others have to end first.
                tracing::warn!(%error, "cannot accept a connection to the ingress");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let arrival = Arrival { client: client.ip(), is_tls: acceptor.is_some(), port };
        let (proxy, acceptor, cancel) = (proxy.clone(), acceptor.clone(), cancel.clone());
        tokio::spawn(async move {
            let _permit = permit;
            let _ = stream.set_nodelay(true);
            match acceptor {
                None => http(proxy, stream, arrival, cancel).await,
                Some(acceptor) => encrypted(proxy, acceptor, stream, arrival, cancel).await,
            }
        });
    }
}

/// The port may be somebody else's for now; that is said, and tried again.
async fn bind(address: SocketAddr) -> TcpListener {
    let mut is_said = false;
    loop {
        match TcpListener::bind(address).await {
            Ok(listener) => return listener,
            Err(error) => {
                if !is_said {
                    tracing::warn!(%address, %error, "the ingress cannot listen: free the port, or choose another by --ingress-http-port and --ingress-https-port");
                    is_said = true;
                }
                tokio::time::sleep(BIND_PAUSE).await;
            }
        }
    }
}

async fn encrypted(
    proxy: Arc<Proxy>,
    acceptor: TlsAcceptor,
    stream: TcpStream,
    arrival: Arrival,
    cancel: CancellationToken,
) {
    match tokio::time::timeout(HANDSHAKE_DEADLINE, acceptor.accept(stream)).await {
        Ok(Ok(stream)) => http(proxy, stream, arrival, cancel).await,
        Ok(Err(error)) => tracing::debug!(%error, "a TLS handshake with the ingress failed"),
        Err(_) => tracing::debug!("a TLS handshake with the ingress took too long"),
    }
}

async fn http<S>(proxy: Arc<Proxy>, stream: S, arrival: Arrival, cancel: CancellationToken)
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let service = service_fn(move |request| {
        let proxy = proxy.clone();
        async move { Ok::<_, Infallible>(proxy.answer(request, arrival).await) }
    });
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(HEADER_DEADLINE);
    builder.http2().timer(TokioTimer::new()).max_concurrent_streams(MAX_STREAMS);
    let connection = builder.serve_connection_with_upgrades(TokioIo::new(stream), service);
    tokio::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = cancel.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection to the ingress broke");
    }
}
