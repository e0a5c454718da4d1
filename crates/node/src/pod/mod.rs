//! Pods to containers. The pure parts ([`plan`], [`status`], [`qos`], [`cri`] and their kin) know neither time
//! nor disk; [`worker`] drives them, one task for each pod, and [`manager`] keeps the workers.

pub mod admit;
mod admitting;
pub mod backoff;
pub mod conditions;
pub mod confine;
pub mod containers;
pub mod context;
pub mod cri;
mod demand;
pub mod dns;
pub mod downward;
pub mod env;
mod env_file;
pub mod expand;
mod forget;
mod hear;
mod hooks;
pub mod hosts;
pub mod image;
pub mod labels;
mod last_words;
mod look;
pub mod manager;
pub mod observe;
pub mod plan;
mod processors;
pub mod qos;
pub mod references;
mod refuse;
pub mod resize;
mod running;
pub mod security;
mod start;
pub mod status;
mod stop;
pub mod storage;
mod tell;
pub mod track;
pub mod users;
mod volumes;
pub mod wish;
pub mod worker;
pub mod writer;

/// Static pods are told of by their mirror, and the API never deletes them.
pub fn is_static(pod: &k8s_openapi::api::core::v1::Pod) -> bool {
    let annotations = pod.metadata.annotations.as_ref();
    annotations.is_some_and(|map| map.get(labels::CONFIG_SOURCE).is_some_and(|source| source == "file"))
}

#[cfg(test)]
mod tests;
