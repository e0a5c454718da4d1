//! HTTP, authentication, admission, patches, watch fan-out: the Kubernetes API over a [`knarr_store::Store`].
//! Never a controller's logic.
//!
//! A request is routed by its path (`route`), goes through the contract's authenticators and authorisers
//! (`server::dispatch`), and meets one handler a verb that is the same for every resource (`handlers`). Reads come
//! from the watch cache (`cache`), writes take one path (`write`) into the store.

pub mod admission;
pub mod aggregation;
pub mod alloc;
pub mod audit;
pub mod authn;
pub mod authz;
pub mod bootstrap;
pub mod builtin;
mod cache;
mod codec;
pub mod contract;
mod convert;
mod custom;
mod derived;
mod discovery;
pub mod env;
mod fairness;
#[cfg(fuzzing)]
pub mod fuzzing;
mod handlers;
mod health;
mod json;
mod matching;
mod metrics;
mod openapi;
pub mod pki;
mod policy;
pub mod proxy;
mod route;
pub mod seal;
mod security;
mod server;
pub mod subresources;
#[cfg(test)]
mod testing;
pub mod tokens;
mod webhook;
mod write;

pub use env::Env;
pub use metrics::Reading;
pub use security::{Security, SecurityConfig};
pub use server::{ApiServer, ApiServerBuilder, LocalService, PathHandler, Plugins, StartError};
