//! The Kubernetes API as data and pure functions: no async, no I/O, no clock, no randomness of its own.

pub mod address_range;
pub mod apply;
pub mod bootstrap_token;
pub mod cidr;
pub mod custom;
pub mod device;
pub mod field;
pub mod host_port;
pub mod jsonpath;
pub mod meta;
pub mod openapi;
pub mod patch;
pub mod placement;
pub mod policy;
pub mod print;
pub mod protobuf;
pub mod quantity;
pub mod quota;
pub mod registry;
pub mod schema;
pub mod selector;
pub mod status;
pub mod strategy;
pub mod time;
mod value;
pub mod version;
pub mod volume;
