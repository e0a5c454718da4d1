//! Pods to containers.

pub mod backoff;
pub mod conditions;
pub mod containers;
pub mod cri;
pub mod dns;
pub mod downward;
pub mod env;
pub mod expand;
pub mod hosts;
pub mod labels;
pub mod observe;
pub mod plan;
pub mod qos;
pub mod references;
pub mod security;
pub mod status;
pub mod track;

#[cfg(test)]
mod tests;
