//! The node's side of the Container Storage Interface: its messages, and calls of a driver behind a socket. Who calls
//! when, and with which volume, is the node's affair.
//!
//! Source: <https://github.com/container-storage-interface/spec/blob/v1.11.0/csi.proto>, as much of it as nodes speak.

mod driver;
pub mod messages;

pub use driver::{Call, Driver};
