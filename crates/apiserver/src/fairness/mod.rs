//! Priority and fairness: who is worked on now, who waits, and who is told to come back
//! (<https://kubernetes.io/docs/concepts/cluster-administration/flow-control/>).
//!
//! A request is sorted by the FlowSchemas into a level (`rules`, `snapshot`), taken to be one seat wide or more
//! (`width`), and let into the level's machine (`queues`): a free seat is taken at once, everything else waits in the
//! queues of its flow (`hand`) or hears 429. Seats that a level does not need are lent to others (`demand`, `borrow`). The
//! objects that say all this are followed, and kept as they must be, by one task (`keeper`).
//!
//! Everything but `level` and `keeper` is pure: time is given in, and whole histories are tried out under a seed
//! (`simulation`).

mod borrow;
mod counters;
mod demand;
mod hand;
mod keeper;
mod level;
mod queues;
mod rules;
#[cfg(test)]
mod simulation;
mod snapshot;
#[cfg(test)]
mod tests;
mod width;

use std::{sync::Arc, time::Duration};

use arc_swap::ArcSwap;
use http::{HeaderName, HeaderValue, StatusCode, header};
use prometheus_client::collector::Collector;

pub use keeper::start;
pub use level::Place;
pub use snapshot::Schema;
pub use width::width;

use crate::{
    codec::respond,
    contract::{Response, UserInfo},
    route::RequestInfo,
};
use snapshot::Snapshot;

/// How long a request waits for a place: a quarter of what it may take.
pub const PATIENCE: Duration = Duration::from_secs(15);

const SCHEMA_UID: HeaderName = HeaderName::from_static("x-kubernetes-pf-flowschema-uid");
const LEVEL_UID: HeaderName = HeaderName::from_static("x-kubernetes-pf-prioritylevel-uid");

pub struct Fairness {
    snapshot: Arc<ArcSwap<Snapshot>>,
}

impl Default for Fairness {
    /// With nothing but what the server cannot do without.
    fn default() -> Self {
        let snapshot = Snapshot::build(&Snapshot::default(), &[], &[]);
        Self { snapshot: Arc::new(ArcSwap::from_pointee(snapshot)) }
    }
}

/// There was no place, in time or at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooMany;

impl Fairness {
    /// The schema that a request belongs to; `None` never happens, since `catch-all` is always there.
    pub fn classify(&self, user: &UserInfo, info: &RequestInfo) -> Option<Arc<Schema>> {
        self.snapshot.load().classify(user, info).cloned()
    }

    /// What `/metrics` says of it.
    pub fn readings(&self) -> Box<dyn Collector> {
        Box::new(counters::Readings(self.snapshot.clone()))
    }
}

impl Schema {
    /// A place to work, held until it is dropped. `width` is told how many seats the level has by its shares.
    pub async fn enter(
        &self,
        user: &UserInfo,
        info: &RequestInfo,
        width: impl FnOnce(u32) -> u32,
    ) -> Result<Place, TooMany> {
        let width = width(self.level.bounds().nominal);
        let entered = self.level.enter(&self.counters, self.flow(user, info), width, PATIENCE).await;
        entered.map_err(|outcome| {
            tracing::debug!(schema = &*self.name, level = &*self.level.name, ?outcome, "a request was refused");
            TooMany
        })
    }

    /// Tells the client by which objects it was sorted; by uid, so that nobody learns names from it.
    pub fn mark(&self, response: &mut Response) {
        let headers = response.headers_mut();
        for (name, uid) in [(SCHEMA_UID, &self.uid), (LEVEL_UID, &self.level_uid)] {
            if let Some(uid) = uid {
                headers.insert(name, uid.clone());
            }
        }
    }
}

/// What a request hears that there is no place for.
pub fn too_many_requests() -> Response {
    let mut response = respond::text(StatusCode::TOO_MANY_REQUESTS, "Too many requests, please try again later.\n");
    response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
    response.headers_mut().insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}
