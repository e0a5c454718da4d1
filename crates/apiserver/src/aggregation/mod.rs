//! Group versions that other servers answer, under this server's roof.
//! (<https://kubernetes.io/docs/tasks/extend-kubernetes/setup-extension-api-server/>)
//!
//! An APIService says who answers `/apis/GROUP/VERSION`: this server, where it names no Service, or the server behind
//! one. What the objects mean at this moment is a table ([`Routes`]) that a request reads without waiting. Two loops
//! keep the objects true: `register` has an APIService for each group version that is defined by
//! CustomResourceDefinitions, `available` asks the other servers again and again and writes what came of it into the
//! status. What those serve is fetched beside it (`documents`), for discovery and OpenAPI.

mod available;
mod backend;
mod convert;
mod documents;
mod identity;
mod openapi;
mod priorities;
mod proxy;
mod register;
mod routes;
mod start;
mod swagger;
#[cfg(test)]
mod tests;
mod view;

pub use documents::Document;
pub use identity::RequestHeaders;
pub use openapi::merge;
pub use priorities::local_services;
pub use proxy::proxy;
pub use routes::{Route, Routes};
pub use start::{Aggregation, start};
pub use swagger::to_v3;
pub use view::View;
