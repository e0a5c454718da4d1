//! Events are kept for an hour: they are put with a lease, and many share one, so that leases stay few.

use std::time::Duration;

use knarr_api::{registry::Resource, status::ApiError};
use knarr_store::{LeaseId, Store};
use tokio::{sync::Mutex, time::Instant};

use crate::cache::store_error;

const KEPT_SECONDS: u64 = 3_600;
/// For so long, new events get the same lease; it outlives the last of them by the time they are kept.
const SHARED_SECONDS: u64 = 60;

#[derive(Debug, Default)]
pub struct EventLeases(Mutex<Option<(LeaseId, Instant)>>);

impl EventLeases {
    pub async fn for_resource(&self, resource: &Resource, store: &dyn Store) -> Result<Option<LeaseId>, ApiError> {
        if resource.storage != "events" {
            return Ok(None);
        }
        let mut current = self.0.lock().await;
        let now = Instant::now();
        if let Some((lease, until)) = *current
            && now < until
        {
            return Ok(Some(lease));
        }
        let lease = store.grant_lease(KEPT_SECONDS + SHARED_SECONDS).await.map_err(|error| store_error(&error))?;
        *current = Some((lease, now + Duration::from_secs(SHARED_SECONDS)));
        Ok(Some(lease))
    }
}
