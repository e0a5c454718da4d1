//! The one connection that all calls share, made anew when it is gone.

use std::{path::PathBuf, time::Duration};

use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use knarr_cri::Result;
use knarr_grpc::client::{self, Answers, Failure, Sender, Service};
use prost::Message;
use tokio::{net::UnixStream, sync::Mutex, time::timeout};

use crate::{
    errors::{Subject, from_failure},
    methods::PACKAGE,
};

const CONNECT_LIMIT: Duration = Duration::from_secs(10);
/// How much one answer may have under way: the list of all containers, say.
const WINDOW_BYTES: u32 = 1 << 20;
const SERVICE: Service<'static> = Service { origin: "http://localhost", package: PACKAGE, metadata: &[] };

pub struct Connection {
    socket: PathBuf,
    sender: Mutex<Option<Sender>>,
}

impl Connection {
    pub fn new(socket: PathBuf) -> Self {
        Self { socket, sender: Mutex::default() }
    }

    /// One call. A runtime that was started anew meanwhile is asked on a new connection; what might have been done is
    /// not asked twice.
    pub async fn call<A: Message + Default>(
        &self,
        method: &str,
        request: &impl Message,
        limit: Duration,
        subject: Subject<'_>,
    ) -> Result<A> {
        let attempt = async {
            let mut sender = self.sender().await?;
            match client::call(&mut sender, SERVICE, method, request).await {
                Err(Failure::Unsent(_)) => {
                    let mut sender = self.renew().await?;
                    client::call(&mut sender, SERVICE, method, request).await
                }
                answered => answered,
            }
        };
        let answered = timeout(limit, attempt).await;
        let late = || Failure::Refused {
            code: knarr_grpc::code::DEADLINE_EXCEEDED,
            message: format!("the runtime's answer to {method}"),
        };
        answered.unwrap_or_else(|_| Err(late())).map_err(|failure| from_failure(failure, subject, limit))
    }

    /// One request with many answers.
    pub async fn stream(&self, method: &str, request: &impl Message) -> std::result::Result<Answers, Failure> {
        let mut sender = self.sender().await?;
        client::stream(&mut sender, SERVICE, method, request).await
    }

    async fn sender(&self) -> std::result::Result<Sender, Failure> {
        let known = self.sender.lock().await.clone().filter(|sender| !sender.is_closed());
        match known {
            Some(sender) => Ok(sender),
            None => self.renew().await,
        }
    }

    async fn renew(&self) -> std::result::Result<Sender, Failure> {
        let mut current = self.sender.lock().await;
        if let Some(sender) = current.as_ref().filter(|sender| sender.is_ready()) {
            return Ok(sender.clone());
        }
        let sender = match timeout(CONNECT_LIMIT, self.dial()).await {
            Ok(Ok(sender)) => sender,
            Ok(Err(error)) => return Err(Failure::Unsent(self.trouble(&error.to_string()))),
            Err(_) => return Err(Failure::Unsent(self.trouble("it does not answer"))),
        };
        *current = Some(sender.clone());
        Ok(sender)
    }

    fn trouble(&self, why: &str) -> String {
        format!("connection error: while dialing unix://{}: {why}", self.socket.display())
    }

    async fn dial(&self) -> std::result::Result<Sender, Box<dyn std::error::Error + Send + Sync>> {
        let stream = UnixStream::connect(&self.socket).await?;
        let (sender, connection) = hyper::client::conn::http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .initial_stream_window_size(WINDOW_BYTES)
            .initial_connection_window_size(2 * WINDOW_BYTES)
            .handshake(TokioIo::new(stream))
            .await?;
        // It ends with the last sender; what went wrong is heard by whoever waits for an answer.
        tokio::spawn(async move { drop(connection.await) });
        Ok(sender)
    }
}
