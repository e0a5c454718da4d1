//! Services: what the API says of them ([`view`]), which elements the table must have for that ([`plan`]), and the
//! executor that makes it so ([`proxy`]), driven by what changes in the API ([`watch`](mod@watch)).

mod catalog;
mod health;
mod ledger;
mod plan;
mod proxy;
#[cfg(test)]
mod tests;
mod topology;
mod view;
mod watch;

pub use catalog::Catalog;
pub use plan::Site;
pub use proxy::Proxy;
#[cfg(test)]
pub use view::EndpointPort;
pub use view::{Endpoint, ServicePort, ServiceView};
pub use watch::{Table, watch};
