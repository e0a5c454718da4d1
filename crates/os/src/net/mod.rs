//! The kernel's network state, changed by netlink and read back by it: links, addresses and routes
//! ([`Links`]), nftables ([`nft`]), connection tracking ([`conntrack`]), settings ([`sysctl`]) and network
//! namespaces ([`netns`]).
//!
//! The codec is our own and small. The netlink crates know a third of the nftables expressions that a service
//! proxy needs, and build a tree of values for each message; here a message is written once, into the buffer
//! that is sent. Source: the kernel's `include/uapi/linux/{rtnetlink,netfilter/*}.h`.

#![forbid(unsafe_code)]

mod changes;
pub mod conntrack;
mod error;
mod links;
pub mod netns;
pub mod nft;
mod overlay;
mod routes;
mod socket;
pub mod sysctl;
#[cfg(test)]
mod tests;
pub mod wire;

pub use changes::LinkChanges;
pub use error::{NetError, Result};
pub use links::{Link, LinkConfig, Links, Mac};
pub use overlay::{Forwarding, Neighbour, Vxlan};
pub use routes::Route;
pub use socket::{Netlink, Protocol};
