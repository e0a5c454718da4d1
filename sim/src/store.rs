//! A store whose disk is slow and whose watches break.

use std::time::Duration;

use async_trait::async_trait;
use futures::StreamExt as _;
use knarr_store::{
    LeaseId, RangeReply, RangeRequest, Revision, Store, StoreError, Txn, TxnReply, WatchRequest, WatchStream,
};

use crate::chance::Dice;

/// How long a write may wait for its turn, and its answer after that.
const SLOW: Duration = Duration::from_millis(80);
/// By how much watchers may lag behind.
const LAG: Duration = Duration::from_millis(400);
/// Batches after which a watch breaks, on average.
const BREAKS: usize = 150;

pub struct Moody<S> {
    pub inner: S,
    pub dice: Dice,
}

#[async_trait]
impl<S: Store> Store for Moody<S> {
    async fn revision(&self) -> Result<Revision, StoreError> {
        self.inner.revision().await
    }

    async fn range(&self, request: RangeRequest) -> Result<RangeReply, StoreError> {
        self.dice.lag(SLOW).await;
        self.inner.range(request).await
    }

    async fn txn(&self, txn: Txn) -> Result<TxnReply, StoreError> {
        self.dice.lag(SLOW).await;
        let reply = self.inner.txn(txn).await;
        self.dice.lag(SLOW).await;
        reply
    }

    async fn watch(&self, request: WatchRequest) -> Result<WatchStream, StoreError> {
        let (stream, dice) = (self.inner.watch(request).await?, self.dice.clone());
        let moody = stream.then(move |batch| {
            let dice = dice.clone();
            async move {
                dice.lag(LAG).await;
                if dice.breaks(BREAKS) { Err(StoreError::SlowWatcher { bound: 0 }) } else { batch }
            }
        });
        Ok(Box::pin(moody))
    }

    async fn compact(&self, revision: Revision) -> Result<(), StoreError> {
        self.inner.compact(revision).await
    }

    async fn grant_lease(&self, ttl_seconds: u64) -> Result<LeaseId, StoreError> {
        self.inner.grant_lease(ttl_seconds).await
    }

    async fn revoke_lease(&self, lease: LeaseId) -> Result<(), StoreError> {
        self.inner.revoke_lease(lease).await
    }

    async fn size_bytes(&self) -> Result<u64, StoreError> {
        self.inner.size_bytes().await
    }
}
