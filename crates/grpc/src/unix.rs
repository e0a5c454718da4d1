//! A server behind a socket of this machine: one connection that all calls share, made anew when it is gone.

use std::{path::PathBuf, time::Duration};

use prost::Message;
use tokio::{sync::Mutex, time::timeout};

use crate::{
    client::{self, Answers, Failure, Sender, Service},
    code, socket,
};

/// As requests name any server behind a socket.
pub const ORIGIN: &str = "http://localhost";

pub struct Channel {
    socket: PathBuf,
    sender: Mutex<Option<Sender>>,
}

impl Channel {
    pub fn new(socket: PathBuf) -> Self {
        Self { socket, sender: Mutex::default() }
    }

    /// One call, which is refused as one that came too late after `limit`. A server that was started anew meanwhile is
    /// asked on a new connection; what might have been done is not asked twice.
    pub async fn call<A: Message + Default>(
        &self,
        service: Service<'_>,
        method: &str,
        request: &impl Message,
        limit: Duration,
    ) -> Result<A, Failure> {
        let attempt = async {
            let mut sender = self.sender().await?;
            match client::call(&mut sender, service, method, request).await {
                Err(Failure::Unsent(_)) => {
                    let mut sender = self.renew().await?;
                    client::call(&mut sender, service, method, request).await
                }
                answered => answered,
            }
        };
        let late = || Failure::Refused { code: code::DEADLINE_EXCEEDED, message: format!("the answer to {method}") };
        timeout(limit, attempt).await.unwrap_or_else(|_| Err(late()))
    }

    /// One request with many answers.
    pub async fn stream(&self, service: Service<'_>, method: &str, request: &impl Message) -> Result<Answers, Failure> {
        let mut sender = self.sender().await?;
        client::stream(&mut sender, service, method, request).await
    }

    async fn sender(&self) -> Result<Sender, Failure> {
        let known = self.sender.lock().await.clone().filter(|sender| !sender.is_closed());
        match known {
            Some(sender) => Ok(sender),
            None => self.renew().await,
        }
    }

    async fn renew(&self) -> Result<Sender, Failure> {
        let mut current = self.sender.lock().await;
        if let Some(sender) = current.as_ref().filter(|sender| sender.is_ready()) {
            return Ok(sender.clone());
        }
        let sender = socket::connect(&self.socket).await?;
        *current = Some(sender.clone());
        Ok(sender)
    }
}
