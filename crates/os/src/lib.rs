//! The host's kernel, as the rest of Knarr sees it: processes, namespaces, mounts, control groups, capabilities,
//! terminals and netlink. Each module gives safe functions whose errors say what was tried on what; this is the
//! only crate that may use `unsafe`. Nothing here knows what a pod or a container is.
#![allow(unsafe_code)]

pub mod alloc;
pub mod arp;
mod aside;
pub mod caps;
pub mod cgroup;
mod entropy;
mod error;
pub mod fds;
pub mod lock;
pub mod mount;
pub mod namespace;
pub mod net;
pub mod pipe;
pub mod process;
pub mod pty;
pub mod root;
pub mod seccomp;
pub mod syscalls;
pub mod users;

pub use aside::{Lost, aside};
pub use error::{Context, OsError, Result};
