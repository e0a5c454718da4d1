//! SPDY/3.1, as far as Kubernetes uses it: clients carry the streams of a port-forward (and, before WebSockets,
//! of exec and attach) in its frames. A client opens all streams.
//!
//! Flow control is left out on purpose: the library behind every Kubernetes client ignores windows, so a peer
//! that kept to them would wait for updates that never come. TCP's own back-pressure does the work.
//!
//! Source: the SPDY protocol drafts 3 and 3.1 (chromium.org), and client-go's use of them.

mod client;
mod dictionary;
mod frame;
mod headers;
mod session;

pub use client::Client;
pub use frame::{Frame, decode, encode};
pub use headers::{Deflater, Headers, Inflater};
pub use session::{Incoming, Sender, serve};

#[cfg(test)]
mod tests;
