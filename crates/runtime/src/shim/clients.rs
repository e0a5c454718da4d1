//! Connections to the shim's socket.

use std::os::fd::{BorrowedFd, OwnedFd};

use knarr_os::fds;

use super::protocol::{FrameTooLarge, Reply, Request, encode, take_frame};

/// A connection by its number: descriptors are reused, numbers are not.
pub type ClientId = u64;

#[derive(Debug)]
pub struct Client {
    pub socket: OwnedFd,
    buffer: Vec<u8>,
    /// Descriptors received with the frame that is being read.
    pub carried: Vec<OwnedFd>,
    /// Wants to hear of every container that ends.
    pub watches: bool,
}

/// What reading from a client gave.
pub enum Received {
    Requests(Vec<Request>),
    Gone,
}

impl Client {
    pub fn new(socket: OwnedFd) -> Self {
        let _ = fds::set_nonblocking(&socket);
        Self { socket, buffer: Vec::new(), carried: Vec::new(), watches: false }
    }

    /// Reads what has come. A peer that speaks something else is treated as gone.
    pub fn receive(&mut self, scratch: &mut [u8]) -> Received {
        match fds::receive(&self.socket, scratch, &mut self.carried) {
            Ok(0) => return Received::Gone,
            Ok(n) => self.buffer.extend_from_slice(&scratch[..n]),
            Err(e) if e.kind() == std::io::ErrorKind::WouldBlock => return Received::Requests(Vec::new()),
            Err(_) => return Received::Gone,
        }
        self.frames().map_or(Received::Gone, Received::Requests)
    }

    fn frames(&mut self) -> Result<Vec<Request>, FrameTooLarge> {
        let mut requests = Vec::new();
        while let Some(frame) = take_frame(&mut self.buffer)? {
            match serde_json::from_slice(&frame) {
                Ok(request) => requests.push(request),
                // A newer agent may ask what this shim does not know; saying nothing would leave it waiting.
                Err(e) => self.send(
                    &Reply::Failed {
                        kind: super::protocol::Failure::Internal,
                        message: format!("this shim does not understand the request: {e}"),
                    },
                    &[],
                ),
            }
        }
        Ok(requests)
    }

    /// Sends a reply. A client that does not read has its replies dropped: it comes back and asks for the state.
    pub fn send(&self, reply: &Reply, carried: &[BorrowedFd<'_>]) {
        let frame = encode(reply);
        let _ = fds::send(&self.socket, &frame, carried);
    }
}
