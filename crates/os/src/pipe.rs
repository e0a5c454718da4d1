//! Pipes and terminals as asynchronous streams.

use std::{
    fs::File,
    io::{self, Read, Write},
    os::fd::OwnedFd,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf, unix::AsyncFd};

use crate::fds;

/// One end of a pipe or terminal.
#[derive(Clone, Debug)]
pub struct Pipe(Arc<AsyncFd<File>>);

impl Pipe {
    pub fn new(fd: OwnedFd) -> io::Result<Self> {
        fds::set_nonblocking(&fd)?;
        let file = File::from(fd);
        // SAFETY: the file is moved into the registration and never lent out mutably, so its descriptor stays open
        // and the same for as long as it is registered.
        let registered = unsafe { AsyncFd::register(file) }?;
        Ok(Self(Arc::new(registered)))
    }
}

impl AsyncRead for Pipe {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        loop {
            let mut guard = ready!(self.0.poll_read_ready(cx))?;
            match guard.try_io(|fd| fd.get_ref().read(buffer.initialize_unfilled())) {
                Ok(Ok(n)) => {
                    buffer.advance(n);
                    return Poll::Ready(Ok(()));
                }
                // A terminal whose other side has closed says so with EIO.
                Ok(Err(e)) if e.raw_os_error() == Some(nix::libc::EIO) => return Poll::Ready(Ok(())),
                Ok(Err(e)) => return Poll::Ready(Err(e)),
                Err(_) => continue,
            }
        }
    }
}

impl AsyncWrite for Pipe {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        loop {
            let mut guard = ready!(self.0.poll_write_ready(cx))?;
            match guard.try_io(|fd| fd.get_ref().write(bytes)) {
                Ok(outcome) => return Poll::Ready(outcome),
                Err(_) => continue,
            }
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
