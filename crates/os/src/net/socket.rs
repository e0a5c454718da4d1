//! A netlink socket. The kernel answers a request within the system call that sends it, so a blocking socket
//! needs no event loop and no thread: it is used from a blocking task, or directly where a few microseconds
//! do not matter.

use std::{
    io,
    os::fd::{AsRawFd, OwnedFd},
    path::Path,
    sync::{Mutex, PoisonError},
};

use nix::{
    errno::Errno,
    sys::socket::{
        AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recv, send, setsockopt, socket,
        sockopt::{RcvBufForce, SndBufForce},
    },
};

use super::{
    NetError, Result,
    netns::in_namespace,
    wire::{Message, Request, messages},
};

/// What a request and the answers to it may take in the kernel: 1,000 services of 10 endpoints take about 1 MB.
const BUFFER_BYTES: usize = 16 << 20;
/// No datagram of a dump is larger.
const DATAGRAM_BYTES: usize = 64 << 10;

const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;

/// Which part of the kernel a socket talks to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    Route,
    Netfilter,
}

/// A netlink socket; bound for its whole life to the network namespace in which it was opened.
#[derive(Debug)]
pub struct Netlink {
    socket: Mutex<OwnedFd>,
}

impl Netlink {
    /// Opens a socket in the calling thread's network namespace.
    pub fn open(protocol: Protocol) -> Result<Self> {
        let open = || -> nix::Result<OwnedFd> {
            let protocol = match protocol {
                Protocol::Route => SockProtocol::NetlinkRoute,
                Protocol::Netfilter => SockProtocol::NetlinkNetFilter,
            };
            let socket = socket(AddressFamily::Netlink, SockType::Raw, SockFlag::SOCK_CLOEXEC, protocol)?;
            bind(socket.as_raw_fd(), &NetlinkAddr::new(0, 0))?;
            // Without CAP_NET_ADMIN in the first user namespace the usual sizes have to do.
            let _ = setsockopt(&socket, SndBufForce, &BUFFER_BYTES);
            let _ = setsockopt(&socket, RcvBufForce, &BUFFER_BYTES);
            Ok(socket)
        };
        let socket = open().map_err(|source| NetError::Open { source: source.into() })?;
        Ok(Self { socket: Mutex::new(socket) })
    }

    /// Opens a socket in the network namespace that a file holds.
    pub fn open_in(netns: &Path, protocol: Protocol) -> Result<Self> {
        in_namespace(netns, move || Self::open(protocol))?
    }

    /// Sends a request and waits for the kernel's verdict on each message that asks for one. The first refusal is
    /// the error; messages after it may have been applied, unless the request is an nftables batch.
    pub fn execute(&self, request: &Request) -> Result<()> {
        let mut refusal = None;
        self.exchange(request, |message| {
            if refusal.is_none()
                && let Some(code) = error_code(&message)
                && code != 0
            {
                refusal = Some(refused(request, message.sequence, code));
            }
        })?;
        refusal.map_or(Ok(()), Err)
    }

    /// Like [`Self::execute`], with the refusals that `forgive` accepts taken as success: what is being removed
    /// is gone already, what is being made is there.
    pub fn execute_forgiving(&self, request: &Request, forgive: impl Fn(&NetError) -> bool) -> Result<()> {
        let mut refusal = None;
        self.exchange(request, |message| {
            if refusal.is_none()
                && let Some(code) = error_code(&message)
                && code != 0
            {
                refusal = Some(refused(request, message.sequence, code)).filter(|error| !forgive(error));
            }
        })?;
        refusal.map_or(Ok(()), Err)
    }

    /// Sends a request that reads, and hands each message of the answer to `each`.
    pub fn query(&self, request: &Request, mut each: impl FnMut(Message<'_>)) -> Result<()> {
        let mut refusal = None;
        self.exchange(request, |message| match error_code(&message) {
            Some(0) => {}
            Some(code) => refusal = Some(refused(request, message.sequence, code)),
            None => each(message),
        })?;
        refusal.map_or(Ok(()), Err)
    }

    fn exchange(&self, request: &Request, mut each: impl FnMut(Message<'_>)) -> Result<()> {
        let fail = |source: Errno| NetError::Socket { source: source.into() };
        let socket = self.socket.lock().unwrap_or_else(PoisonError::into_inner);
        let fd = socket.as_raw_fd();
        send(fd, request.bytes(), MsgFlags::empty()).map_err(fail)?;
        // Verdicts are queued before `send` returns; a dump is continued by each read, until DONE.
        let mut datagram = vec![0; DATAGRAM_BYTES];
        loop {
            let length = match recv(fd, &mut datagram, MsgFlags::MSG_DONTWAIT) {
                Ok(length) => length,
                Err(Errno::EAGAIN) => return Ok(()),
                Err(Errno::EINTR) => continue,
                Err(source) => return Err(fail(source)),
            };
            for message in messages(&datagram[..length]).filter(|message| message.kind != NLMSG_DONE) {
                each(message);
            }
        }
    }
}

/// The (positive) error number of an error message, 0 for an acknowledgement, `None` for anything else.
fn error_code(message: &Message<'_>) -> Option<i32> {
    let code = message.payload.get(..4).filter(|_| message.kind == NLMSG_ERROR)?;
    Some(-i32::from_ne_bytes(code.try_into().ok()?))
}

fn refused(request: &Request, sequence: u32, code: i32) -> NetError {
    let source = io::Error::from_raw_os_error(code);
    match request.label(sequence) {
        Some(label) => NetError::Refused { action: label.action, name: label.name.clone(), source },
        None => NetError::Socket { source },
    }
}
