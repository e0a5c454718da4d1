//! As much of gRPC over HTTP/2 as etcd and container runtimes speak: one request with one answer or many, both sides.
//! Connections are the caller's affair: TCP with TLS, or a socket of this machine.
//!
//! Source: <https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md>.

pub mod client;
pub mod server;
pub mod unix;
mod wire;

pub use wire::{Metadata, code};
