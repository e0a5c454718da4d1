//! Streams into containers over HTTP: exec, attach and port-forward by WebSocket and by SPDY/3.1. Both ends: a node or
//! a runtime serves them, and who drives another's runtime asks for them.
//!
//! Source: kubernetes/cri-streaming, and client-go's `remotecommand` and `portforward`.

mod answer;
pub mod channels;
pub mod client;
pub mod dialect;
pub mod portforward;
pub mod query;
pub mod session;
pub mod socket;
pub mod spdy;
pub mod upgrade;

pub use answer::{Body, Refusal, text};
