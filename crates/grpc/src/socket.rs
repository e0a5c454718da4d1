//! gRPC on a socket of this machine. It is root's; so is who may use it.

use std::{
    fs, io,
    os::unix::{fs::PermissionsExt, net},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use tokio::{
    net::{UnixListener, UnixStream},
    sync::Semaphore,
    task::JoinSet,
    time::timeout,
};

use crate::{
    client::{self, Failure, Sender},
    server::{self, Reply, Status},
};

/// Connections at one time; more wait to be accepted.
const MAX_CONNECTIONS: usize = 64;
const CONNECT_LIMIT: Duration = Duration::from_secs(10);

#[derive(Debug, thiserror::Error)]
pub enum SocketError {
    #[error("another process answers on {path}")]
    Taken { path: PathBuf },
    #[error("cannot listen on {path}")]
    Listen { path: PathBuf, source: io::Error },
}

/// A socket that is served when [`Socket::serve`] is awaited.
#[derive(Debug)]
pub struct Socket {
    listener: UnixListener,
    file: SocketFile,
}

/// Removed with its socket, however that ends.
#[derive(Debug)]
struct SocketFile(PathBuf);

impl Drop for SocketFile {
    fn drop(&mut self) {
        // Whoever starts next removes it otherwise.
        let _ = fs::remove_file(&self.0);
    }
}

impl Socket {
    /// Takes the socket; only root may connect to it.
    pub fn bind(path: &Path) -> Result<Self, SocketError> {
        let failed = |source| SocketError::Listen { path: path.to_owned(), source };
        // What a former process left behind answers nobody.
        if net::UnixStream::connect(path).is_ok() {
            return Err(SocketError::Taken { path: path.to_owned() });
        }
        match fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
            _ => {}
        }
        let listener = UnixListener::bind(path).map_err(failed)?;
        let file = SocketFile(path.to_owned());
        fs::set_permissions(path, fs::Permissions::from_mode(0o600)).map_err(failed)?;
        Ok(Self { listener, file })
    }

    /// Answers until it is dropped; all connections end with it.
    pub async fn serve<F, Fut>(self, answer: F)
    where
        F: Fn(String, Bytes) -> Fut + Clone + Send + 'static,
        Fut: Future<Output = Result<Reply, Status>> + Send + 'static,
    {
        let Self { listener, file: _file } = self;
        let room = Arc::new(Semaphore::new(MAX_CONNECTIONS));
        let mut connections = JoinSet::new();
        loop {
            let Ok(permit) = room.clone().acquire_owned().await else { return };
            while connections.try_join_next().is_some() {}
            match listener.accept().await {
                Ok((stream, _)) => {
                    let answer = answer.clone();
                    connections.spawn(async move {
                        server::serve(stream, answer).await;
                        drop(permit);
                    });
                }
                Err(error) => {
                    // Out of descriptors, most likely: others have to end first.
                    tracing::warn!(%error, "cannot accept a connection of a gRPC client");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        }
    }
}

/// A connection to whoever serves the socket. It ends with the last sender.
pub async fn connect(path: &Path) -> Result<Sender, Failure> {
    let dialled = async {
        let stream = UnixStream::connect(path).await.map_err(|error| error.to_string())?;
        client::over(stream).await.map_err(|error| error.to_string())
    };
    let dialled = timeout(CONNECT_LIMIT, dialled).await.unwrap_or_else(|_| Err("it does not answer".to_owned()));
    dialled.map_err(|why: String| {
        Failure::Unsent(format!("connection error: while dialing unix://{}: {why}", path.display()))
    })
}
