//! The one connection that all calls share, made anew when it is gone.

use std::{path::PathBuf, time::Duration};

use knarr_cri::Result;
use knarr_grpc::{
    client::{self, Answers, Failure, Sender, Service},
    socket,
};
use prost::Message;
use tokio::{sync::Mutex, time::timeout};

use crate::{
    errors::{Subject, from_failure},
    methods::PACKAGE,
};

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
        answered.unwrap_or_else(|_| Err(late())).map_err(|failure| from_failure(&failure, subject, limit))
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
        let sender = socket::connect(&self.socket).await?;
        *current = Some(sender.clone());
        Ok(sender)
    }
}
