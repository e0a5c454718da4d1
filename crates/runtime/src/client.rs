//! The runtime's side of the conversation with a shim.

use std::{
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::Path,
    time::Duration,
};

use knarr_os::{fds, root::magic_path};
use tokio::{io::Interest, net::UnixStream};

use crate::shim::{
    SOCKET_FILE,
    protocol::{Failure, Reply, Request, encode, take_frame},
};

/// Why a shim did not do what it was asked to.
#[derive(Debug, thiserror::Error)]
pub enum ShimError {
    #[error("the pod's shim does not answer")]
    Unreachable(#[source] io::Error),
    #[error("the pod's shim closed the connection without an answer")]
    Closed,
    #[error("the pod's shim took longer than {0:?} to answer")]
    Timeout(Duration),
    #[error("{message}")]
    Refused { kind: Failure, message: String },
    #[error("the pod's shim answered something else than was asked: {0}")]
    Unexpected(String),
}

/// The longest a shim may take for anything but waiting for a process to end; creating a container on a slow disk is
/// what takes longest.
const ANSWER_WITHIN: Duration = Duration::from_secs(120);

/// One conversation.
pub struct Connection {
    stream: UnixStream,
    buffer: Vec<u8>,
    /// Descriptors that came with replies, in order.
    pub carried: Vec<OwnedFd>,
}

impl Connection {
    /// Connects to the shim of a sandbox's directory. Paths of sockets are limited to 107 bytes, so the directory is
    /// opened and named by its descriptor.
    pub async fn open(directory: &Path) -> Result<Self, ShimError> {
        let opened = std::fs::File::open(directory).map_err(ShimError::Unreachable)?;
        let path = magic_path(&opened).join(SOCKET_FILE);
        let stream = UnixStream::connect(path).await.map_err(ShimError::Unreachable)?;
        Ok(Self { stream, buffer: Vec::new(), carried: Vec::new() })
    }

    pub async fn send(&self, request: &Request, carried: &[BorrowedFd<'_>]) -> Result<(), ShimError> {
        let frame = encode(request);
        let mut sent = 0;
        while sent < frame.len() {
            let carried = if sent == 0 { carried } else { &[] };
            let once = || fds::send(&self.stream, &frame[sent..], carried);
            sent += self.stream.async_io(Interest::WRITABLE, once).await.map_err(ShimError::Unreachable)?;
        }
        Ok(())
    }

    /// The next reply, however long it takes.
    pub async fn next(&mut self) -> Result<Reply, ShimError> {
        loop {
            if let Some(frame) = take_frame(&mut self.buffer).map_err(|e| ShimError::Unexpected(e.to_string()))? {
                let reply = serde_json::from_slice(&frame).map_err(|e| ShimError::Unexpected(e.to_string()))?;
                return match reply {
                    Reply::Failed { kind, message } => Err(ShimError::Refused { kind, message }),
                    reply => Ok(reply),
                };
            }
            let mut part = [0u8; 4096];
            let (stream, carried) = (&self.stream, &mut self.carried);
            let received =
                stream.async_io(Interest::READABLE, || fds::receive(stream.as_fd(), &mut part, carried)).await;
            match received.map_err(ShimError::Unreachable)? {
                0 => return Err(ShimError::Closed),
                n => self.buffer.extend_from_slice(&part[..n]),
            }
        }
    }

    /// The next reply, which should come soon.
    pub async fn answer(&mut self) -> Result<Reply, ShimError> {
        tokio::time::timeout(ANSWER_WITHIN, self.next()).await.map_err(|_| ShimError::Timeout(ANSWER_WITHIN))?
    }
}

/// Asks one thing and gives the answer.
pub async fn ask(directory: &Path, request: &Request) -> Result<Reply, ShimError> {
    let mut connection = Connection::open(directory).await?;
    connection.send(request, &[]).await?;
    connection.answer().await
}

/// Asks for something whose only answer is that it is done.
pub async fn tell(directory: &Path, request: &Request) -> Result<(), ShimError> {
    match ask(directory, request).await? {
        Reply::Done => Ok(()),
        other => Err(ShimError::Unexpected(format!("{other:?}"))),
    }
}
