//! A runtime on a socket, for `crictl` and whoever else speaks CRI. The socket is root's; so is who may use it.

mod service;
mod streams;

use std::{
    fs, io,
    os::unix::{fs::PermissionsExt, net::UnixStream},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use knarr_cri::{ImageService, RuntimeService, StreamService};
use tokio::{net::UnixListener, sync::Semaphore};
use tokio_util::sync::CancellationToken;

use streams::Streams;

/// Connections at one time; more wait to be accepted.
const MAX_CONNECTIONS: usize = 64;

#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    #[error("another process answers on {path}")]
    Taken { path: PathBuf },
    #[error("cannot listen on {path}")]
    Socket {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
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
    listener: UnixListener,
    file: SocketFile,
    shared: Arc<Shared>,
}

/// Removed with its server, however that ends.
struct SocketFile(PathBuf);

impl Drop for SocketFile {
    fn drop(&mut self) {
        // Whoever starts next removes it otherwise.
        let _ = fs::remove_file(&self.0);
    }
}

struct Shared {
    runtime: Runtime,
    streams: Arc<Streams>,
}

impl Server {
    /// Takes the socket; only root may connect to it.
    pub async fn bind(path: &Path, runtime: Runtime) -> Result<Self, ListenError> {
        let failed = |source| ListenError::Socket { path: path.to_owned(), source };
        // What a former process left behind answers nobody.
        if UnixStream::connect(path).is_ok() {
            return Err(ListenError::Taken { path: path.to_owned() });
        }
        match fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
            _ => {}
        }
        let listener = UnixListener::bind(path).map_err(failed)?;
        let file = SocketFile(path.to_owned());
        fs::set_permissions(path, fs::Permissions::from_mode(0o600)).map_err(failed)?;
        let streams = Streams::bind(runtime.streams.clone()).await.map_err(ListenError::Streams)?;
        Ok(Self { listener, file, shared: Arc::new(Shared { runtime, streams: Arc::new(streams) }) })
    }

    /// Answers until `stop`.
    pub async fn serve(self, stop: CancellationToken) {
        let Self { listener, file, shared } = self;
        let room = Arc::new(Semaphore::new(MAX_CONNECTIONS));
        let accepting = async {
            loop {
                let Ok(permit) = room.clone().acquire_owned().await else { return };
                let stream = match listener.accept().await {
                    Ok((stream, _)) => stream,
                    Err(error) => {
                        // Out of descriptors, most likely: others have to end first.
                        tracing::warn!(%error, "cannot accept a connection to the runtime's socket");
                        tokio::time::sleep(Duration::from_millis(100)).await;
                        continue;
                    }
                };
                let (shared, stop) = (shared.clone(), stop.clone());
                tokio::spawn(async move {
                    let answer = move |method: String, bytes| {
                        let shared = shared.clone();
                        async move { service::answer(&shared, &method, bytes).await }
                    };
                    tokio::select! {
                        () = knarr_grpc::server::serve(stream, answer) => {}
                        () = stop.cancelled() => {}
                    }
                    drop(permit);
                });
            }
        };
        tokio::select! {
            () = accepting => {}
            () = shared.streams.clone().serve() => {}
            () = stop.cancelled() => {}
        }
        drop(file);
    }
}
