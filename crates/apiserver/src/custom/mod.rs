//! CustomResourceDefinitions, served: what they define is answered by the same handlers as every built-in.
//! (<https://kubernetes.io/docs/concepts/extend-kubernetes/api-extension/custom-resources/>)
//!
//! The [`Catalogue`] says what is served now. One loop (`establish`) follows the definitions: it decides about their
//! names, gives each established one a cache and a place in the catalogue, and writes what it decided into their
//! status. A definition that is deleted is emptied first (`cleanup`). What a definition means is `knarr_api::custom`'s.

mod catalogue;
pub mod cleanup;
mod establish;
mod intern;
mod names;
mod resource;
pub mod scale;

pub use catalogue::{Catalogue, Found, Snapshot};
pub use establish::start;
pub use names::set_condition;
pub use resource::{Custom, fields, same_fields};

use knarr_api::status::{ApiError, Reason};

/// What a client is told that creates an instance of what is going away.
pub fn terminating() -> ApiError {
    ApiError::new(Reason::MethodNotAllowed, "create not allowed while custom resource definition is terminating")
}
