//! The one connection that all calls share.

use std::{path::PathBuf, time::Duration};

use knarr_cri::Result;
use knarr_grpc::{
    client::{Answers, Failure, Service},
    unix::{Channel, ORIGIN},
};
use prost::Message;

use crate::{
    errors::{Subject, from_failure},
    methods::PACKAGE,
};

const SERVICE: Service<'static> = Service { origin: ORIGIN, package: PACKAGE, metadata: &[] };

pub struct Connection {
    channel: Channel,
}

impl Connection {
    pub fn new(socket: PathBuf) -> Self {
        Self { channel: Channel::new(socket) }
    }

    pub async fn call<A: Message + Default>(
        &self,
        method: &str,
        request: &impl Message,
        limit: Duration,
        subject: Subject<'_>,
    ) -> Result<A> {
        let answered = self.channel.call(SERVICE, method, request, limit).await;
        answered.map_err(|failure| from_failure(&failure, subject, limit))
    }

    /// One request with many answers.
    pub async fn stream(&self, method: &str, request: &impl Message) -> std::result::Result<Answers, Failure> {
        self.channel.stream(SERVICE, method, request).await
    }
}
