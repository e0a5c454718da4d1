//! The API server: what it is made of, and how a request goes through it.

mod builder;
mod compaction;
mod deadline;
mod dispatch;
mod incoming;
mod listen;
mod local;
mod lookup;

use std::sync::Arc;

use knarr_store::Store;
use tokio_util::sync::CancellationToken;

pub use builder::{ApiServer, ApiServerBuilder, PathHandler, Plugins, StartError};
pub use local::LocalService;
pub use lookup::ServerLookup;

use crate::{
    aggregation::Aggregation,
    audit::Auditor,
    cache::Caches,
    custom::Catalogue,
    discovery::Discovery,
    env::Env,
    fairness::Fairness,
    health::Health,
    metrics::Metrics,
    openapi::OpenApi,
    policy::Policies,
    webhook::Webhooks,
    write::{EventLeases, Twins},
};

/// Everything that handlers share.
pub struct Inner {
    pub store: Arc<dyn Store>,
    pub caches: Arc<Caches>,
    /// What is served.
    pub catalogue: Arc<Catalogue>,
    pub plugins: Plugins,
    pub lookup: Arc<ServerLookup>,
    pub env: Env,
    pub metrics: Metrics,
    pub health: Health,
    pub discovery: Discovery,
    pub openapi: OpenApi,
    /// Other API servers under this one's roof.
    pub aggregation: Aggregation,
    pub event_leases: EventLeases,
    pub(crate) twins: Twins,
    pub(crate) webhooks: Webhooks,
    pub(crate) policies: Policies,
    /// `None` where nothing is logged.
    pub audit: Option<Arc<Auditor>>,
    /// Who is worked on, and who waits.
    pub fairness: Fairness,
    /// Cancelled once the server stops: watches end, connections drain.
    pub shutdown: CancellationToken,
}
