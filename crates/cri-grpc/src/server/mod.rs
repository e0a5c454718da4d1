//! A runtime on a socket, for `crictl` and whoever else speaks CRI. The socket is root's; so is who may use it.

mod service;
mod streams;

use std::{io, path::Path, sync::Arc};

use knarr_cri::{ImageService, RuntimeService, StreamService};
use knarr_grpc::socket::{Socket, SocketError};
use tokio_util::sync::CancellationToken;

use streams::Streams;

#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    #[error(transparent)]
    Socket(#[from] SocketError),
    #[error("cannot listen for streams on the loopback address")]
    Streams(#[source] io::Error),
}

/// What is served.
#[derive(Clone)]
pub struct Runtime {
    pub runtime: Arc<dyn RuntimeService>,
    pub images: Arc<dyn ImageService>,
    pub streams: Arc<dyn StreamService>,
}

/// A socket that is served when [`Server::serve`] is awaited.
pub struct Server {
    socket: Socket,
    shared: Arc<Shared>,
}

struct Shared {
    runtime: Runtime,
    streams: Arc<Streams>,
}

impl Server {
    /// Takes the socket; only root may connect to it.
    pub async fn bind(path: &Path, runtime: Runtime) -> Result<Self, ListenError> {
        let socket = Socket::bind(path)?;
        let streams = Streams::bind(runtime.streams.clone()).await.map_err(ListenError::Streams)?;
        Ok(Self { socket, shared: Arc::new(Shared { runtime, streams: Arc::new(streams) }) })
    }

    /// Answers until `stop`.
    pub async fn serve(self, stop: CancellationToken) {
        let Self { socket, shared } = self;
        let streams = shared.streams.clone();
        let answer = move |method: String, bytes| {
            let shared = shared.clone();
            async move { service::answer(&shared, &method, bytes).await }
        };
        tokio::select! {
            () = socket.serve(answer) => {}
            () = streams.serve() => {}
            () = stop.cancelled() => {}
        }
    }
}
