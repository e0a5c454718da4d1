//! Streams at URLs of the loopback address, each for one use, by a token that nobody can guess.

use std::{
    collections::HashMap,
    convert::Infallible,
    io,
    net::{Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use http::{Request, Response, StatusCode};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use knarr_cri::{
    StreamService,
    v1::{AttachRequest, ExecRequest},
};
use knarr_grpc::{code, server::Status};
use knarr_streaming::{
    Body, Refusal, portforward,
    session::{self, Streams as Asked},
};
use tokio::{net::TcpListener, sync::Semaphore, time::Instant};

/// As containerd has them: who was told a URL uses it soon, and not more of them wait.
const TOKEN_LIFE: Duration = Duration::from_secs(60);
const MAX_WAITING: usize = 1000;
const MAX_CONNECTIONS: usize = 1024;
const HEADER_LIMIT: Duration = Duration::from_secs(30);

/// What a URL stands for.
#[derive(Clone, Debug, PartialEq)]
pub enum Wanted {
    Exec(ExecRequest),
    Attach(AttachRequest),
    /// Of a sandbox; the ports are named by the streams.
    PortForward(String),
}

pub struct Streams {
    runtime: Arc<dyn StreamService>,
    listener: TcpListener,
    address: SocketAddr,
    waiting: Mutex<HashMap<String, (Wanted, Instant)>>,
}

impl Streams {
    pub async fn bind(runtime: Arc<dyn StreamService>) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        Ok(Self { runtime, listener, address, waiting: Mutex::default() })
    }

    /// Where the streams will be.
    pub fn url(&self, wanted: Wanted) -> Result<String, Status> {
        let kind = match &wanted {
            Wanted::Exec(_) => "exec",
            Wanted::Attach(_) => "attach",
            Wanted::PortForward(_) => "portforward",
        };
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        waiting.retain(|_, (_, until)| *until > now);
        if waiting.len() >= MAX_WAITING {
            let message = "maximum number of in-flight requests exceeded".to_owned();
            return Err(Status { code: code::RESOURCE_EXHAUSTED, message });
        }
        let token = uuid::Uuid::new_v4().simple().to_string();
        let url = format!("http://{}/{kind}/{token}", self.address);
        waiting.insert(token, (wanted, now + TOKEN_LIFE));
        Ok(url)
    }

    /// What a path stands for; no second time.
    fn take(&self, path: &str) -> Option<Wanted> {
        let token = path.rsplit_once('/')?.1;
        let (wanted, until) = self.waiting.lock().unwrap_or_else(PoisonError::into_inner).remove(token)?;
        (until > Instant::now()).then_some(wanted)
    }

    pub async fn serve(self: Arc<Self>) {
        let room = Arc::new(Semaphore::new(MAX_CONNECTIONS));
        loop {
            let Ok(permit) = room.clone().acquire_owned().await else { return };
            let stream = match self.listener.accept().await {
                Ok((stream, _)) => stream,
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a connection to the runtime's streams");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    continue;
                }
            };
            let streams = self.clone();
            tokio::spawn(async move {
                let service = service_fn(move |request| {
                    let answer = streams.answer(request).unwrap_or_else(Refusal::into_response);
                    async move { Ok::<_, Infallible>(answer) }
                });
                let mut http = hyper::server::conn::http1::Builder::new();
                http.timer(TokioTimer::new()).header_read_timeout(HEADER_LIMIT);
                if let Err(error) = http.serve_connection(TokioIo::new(stream), service).with_upgrades().await {
                    tracing::debug!(%error, "a connection of a stream broke");
                }
                drop(permit);
            });
        }
    }

    fn answer(&self, request: Request<Incoming>) -> Result<Response<Body>, Refusal> {
        let gone = || Refusal::new(StatusCode::NOT_FOUND, "404 page not found");
        let wanted = self.take(request.uri().path()).ok_or_else(gone)?;
        let runtime = self.runtime.clone();
        match wanted {
            Wanted::Exec(exec) => {
                let ExecRequest { stdin, stdout, stderr, tty, .. } = exec;
                let asked = Asked { stdin, stdout, stderr, tty };
                let begin = move || async move { runtime.exec(exec).await };
                session::connect(request, asked, "error executing command in container", begin)
            }
            Wanted::Attach(attach) => {
                let AttachRequest { stdin, stdout, stderr, tty, .. } = attach;
                let asked = Asked { stdin, stdout, stderr, tty };
                let begin = move || async move { runtime.attach(attach).await.map(session::without_code) };
                session::connect(request, asked, "error attaching to container", begin)
            }
            Wanted::PortForward(sandbox) => portforward::serve(runtime, sandbox, request),
        }
    }
}

#[cfg(test)]
mod tests {
    use knarr_cri::{CriError, ExecSession, Result, Tunnel};

    use super::*;

    struct Nothing;

    #[async_trait::async_trait]
    impl StreamService for Nothing {
        async fn exec(&self, _: ExecRequest) -> Result<ExecSession> {
            Err(CriError::Unavailable { message: "nothing here".into() })
        }

        async fn attach(&self, _: AttachRequest) -> Result<ExecSession> {
            Err(CriError::Unavailable { message: "nothing here".into() })
        }

        async fn port_forward(&self, _: &str, _: u16) -> Result<Tunnel> {
            Err(CriError::Unavailable { message: "nothing here".into() })
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_url_is_good_once_and_for_a_minute() {
        let streams = Streams::bind(Arc::new(Nothing)).await.unwrap();
        let wanted = Wanted::PortForward("sandbox".into());
        let path = |url: String| url.strip_prefix(&format!("http://{}", streams.address)).unwrap().to_owned();
        let first = path(streams.url(wanted.clone()).unwrap());
        assert!(first.starts_with("/portforward/"), "{first}");
        assert_eq!(streams.take("/portforward/guessed"), None);
        assert_eq!(streams.take(&first), Some(wanted.clone()));
        assert_eq!(streams.take(&first), None);
        let late = path(streams.url(wanted.clone()).unwrap());
        tokio::time::advance(TOKEN_LIFE).await;
        assert_eq!(streams.take(&late), None);
    }

    #[tokio::test(start_paused = true)]
    async fn urls_that_nobody_uses_are_bounded() {
        let streams = Streams::bind(Arc::new(Nothing)).await.unwrap();
        let wanted = || Wanted::PortForward("sandbox".into());
        for _ in 0..MAX_WAITING {
            streams.url(wanted()).unwrap();
        }
        assert_eq!(streams.url(wanted()).unwrap_err().code, code::RESOURCE_EXHAUSTED);
        tokio::time::advance(TOKEN_LIFE).await;
        streams.url(wanted()).unwrap();
    }
}
