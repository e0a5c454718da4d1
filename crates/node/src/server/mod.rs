//! What the API server asks the node for: logs, exec, attach, port-forward; and pages about the node itself, which
//! scrapers ask for too. The API server has authorised its user already; of everybody else the node asks it.

mod auth;
mod cadvisor;
mod disks;
mod exec;
pub(crate) mod exposition;
mod logs;
mod pages;
mod portforward;
pub(crate) mod route;
mod stats;
mod summary;

use std::{
    convert::Infallible,
    sync::{Arc, Mutex},
    time::Duration,
};

use http::{Request, Response};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use knarr_cri::StreamService;
use knarr_os::cgroup::CpuRate;
pub(crate) use knarr_streaming::{Body, Refusal, text};
use rustls_pki_types::CertificateDer;
use tokio::{net::TcpListener, sync::Semaphore};
use tokio_util::sync::CancellationToken;

use crate::pod::{context::Context, manager::Manager, observe, observe::Observed};

/// Connections at one time; more wait to be accepted.
const MAX_CONNECTIONS: usize = 1024;
const HANDSHAKE_DEADLINE: Duration = Duration::from_secs(10);
const HEADER_DEADLINE: Duration = Duration::from_secs(30);

#[derive(Clone)]
pub struct Server {
    inner: Arc<Inner>,
}

pub(crate) struct Inner {
    pub ctx: Arc<Context>,
    pub manager: Manager,
    pub streams: Arc<dyn StreamService>,
    pub reviewer: auth::Reviewer,
    /// How busy the machine is, from one reading to the next.
    pub cpu_rate: Mutex<CpuRate>,
    pub disks: disks::Disks,
}

impl Server {
    pub fn new(ctx: Arc<Context>, manager: Manager, streams: Arc<dyn StreamService>) -> Self {
        let reviewer = auth::Reviewer::new(ctx.client.clone(), ctx.node_name.clone());
        let inner =
            Inner { ctx, manager, streams, reviewer, cpu_rate: Mutex::default(), disks: disks::Disks::default() };
        Self { inner: Arc::new(inner) }
    }

    /// Serves until `stop`; streams that are open then are cut.
    pub async fn serve(&self, listener: TcpListener, tls: Arc<rustls::ServerConfig>, stop: CancellationToken) {
        let mut tls = (*tls).clone();
        // Exec, attach and port-forward are upgrades, which HTTP/2 has not.
        tls.alpn_protocols = vec![b"http/1.1".to_vec()];
        let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(tls));
        let room = Arc::new(Semaphore::new(MAX_CONNECTIONS));
        loop {
            let Ok(permit) = room.clone().acquire_owned().await else { return };
            let stream = tokio::select! {
                accepted = listener.accept() => match accepted {
                    Ok((stream, _)) => stream,
                    Err(error) => {
                        // Out of descriptors, most likely: others have to end first.
                        tracing::warn!(%error, "cannot accept a connection to the node");
                        tokio::time::sleep(Duration::from_millis(100)).await;
                        continue;
                    }
                },
                () = stop.cancelled() => return,
            };
            let (server, acceptor, stop) = (self.inner.clone(), acceptor.clone(), stop.clone());
            tokio::spawn(async move {
                let _permit = permit;
                tokio::select! {
                    () = connection(server, acceptor, stream) => {}
                    () = stop.cancelled() => {}
                }
            });
        }
    }
}

async fn connection(server: Arc<Inner>, acceptor: tokio_rustls::TlsAcceptor, stream: tokio::net::TcpStream) {
    let _ = stream.set_nodelay(true);
    let stream = match tokio::time::timeout(HANDSHAKE_DEADLINE, acceptor.accept(stream)).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return tracing::debug!(%error, "a TLS handshake with the node failed"),
        Err(_) => return tracing::debug!("a TLS handshake with the node took too long"),
    };
    let certificates: Arc<[CertificateDer<'static>]> = stream
        .get_ref()
        .1
        .peer_certificates()
        .map(|chain| chain.iter().map(|certificate| certificate.clone().into_owned()).collect())
        .unwrap_or_default();
    let service = service_fn(move |request| {
        let (server, certificates) = (server.clone(), certificates.clone());
        async move { Ok::<_, Infallible>(server.answer(&certificates, request).await) }
    });
    let mut http = hyper::server::conn::http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(HEADER_DEADLINE);
    let connection = http.serve_connection(TokioIo::new(stream), service);
    if let Err(error) = connection.with_upgrades().await {
        tracing::debug!(%error, "a connection to the node broke");
    }
}

impl Inner {
    pub(crate) async fn answer(
        self: &Arc<Self>,
        certificates: &[CertificateDer<'_>],
        request: Request<Incoming>,
    ) -> Response<Body> {
        let (method, path, headers) = (request.method(), request.uri().path(), request.headers());
        let answer = match auth::check(&self.reviewer, certificates, method, path, headers).await {
            Ok(()) => route::route(self, request).await,
            Err(refusal) => Err(refusal),
        };
        answer.unwrap_or_else(Refusal::into_response)
    }

    /// The UID of a pod that this node runs.
    pub(crate) fn find_pod(
        &self,
        namespace: &str,
        name: &str,
    ) -> Result<Arc<k8s_openapi::api::core::v1::Pod>, Refusal> {
        let named = |pod: &Arc<k8s_openapi::api::core::v1::Pod>| {
            pod.metadata.namespace.as_deref() == Some(namespace) && pod.metadata.name.as_deref() == Some(name)
        };
        let mut found: Vec<_> = self.manager.pods().into_iter().filter(named).collect();
        // Of namesakes, the one that is not on its way out.
        found.sort_by_key(|pod| pod.metadata.deletion_timestamp.is_some());
        found.into_iter().next().ok_or_else(|| Refusal::not_found(format!("pod \"{name}_{namespace}\" not found")))
    }

    pub(crate) async fn observe(&self, uid: &str) -> Result<Observed, Refusal> {
        Ok(observe::observe(&*self.ctx.runtime, uid).await?)
    }
}

#[cfg(test)]
mod tests;
