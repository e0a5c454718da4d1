//! As much of gRPC over HTTP/2 as etcd and container runtimes speak: one request with one answer or many, both sides.
//! Connections by TCP and TLS are the caller's affair; sockets of this machine are made here ([`socket`]).
//!
//! Source: <https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md>.

pub mod client;
pub mod server;
pub mod socket;
pub mod unix;
mod wire;

pub use wire::{Metadata, code};
