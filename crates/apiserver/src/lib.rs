//! HTTP, authentication, admission, patches, watch fan-out: the Kubernetes API over a [`knarr_store::Store`].
//! Never a controller's logic.

pub mod admission;
pub mod alloc;
pub mod authn;
pub mod authz;
pub mod bootstrap;
pub mod builtin;
pub mod contract;
mod derived;
pub mod env;
pub use env::Env;
mod json;
pub mod pki;
pub mod proxy;
mod security;
pub mod subresources;
pub mod tokens;

pub use security::{Security, SecurityConfig};
