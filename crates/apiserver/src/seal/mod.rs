//! Secrets encrypted at rest: a store that seals what goes under `/registry/secrets/` and opens it on the way back.
//! (<https://kubernetes.io/docs/tasks/administer-cluster/encrypt-data/>)
//!
//! It stands between the API server and the real store, so that nothing above it knows ciphertext and nothing below
//! knows a Secret. A record says which key sealed it, and is bound to its own place: moved to another name it does not
//! open. Keys are files ([`Keys`]); whatever is not sealed by the first of them is sealed anew at the start.

mod keys;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt;
use knarr_store::{
    Compare, KeyValue, LeaseId, Op, RangeReply, RangeRequest, Revision, Room, Store, StoreError, Txn, TxnReply,
    WatchBatch, WatchRequest, WatchStream,
};

pub use keys::{KeyError, Keys};

const SEALED: &[u8] = b"/registry/secrets/";
const SEALED_END: &[u8] = b"/registry/secrets0";
/// How many records one read of the start takes.
const PAGE: usize = 1000;

#[derive(Debug, thiserror::Error)]
pub enum SealError {
    #[error("the Secrets could not be read")]
    Store(#[from] StoreError),
    #[error(transparent)]
    Open(#[from] OpenError),
}

/// Why a record does not open. Nothing is lost by it: with the right key it opens again.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    #[error(
        "the Secret {secret} is encrypted with the key {key}, which is not among the keys of this server; put the file \
         with that key back, or name it with --encryption-key-file"
    )]
    UnknownKey { secret: String, key: String },
    #[error("the Secret {secret} does not open with the key {key} that it names: the record or the key is damaged")]
    Damaged { secret: String, key: String },
}

fn is_sealed_place(key: &[u8]) -> bool {
    key.starts_with(SEALED)
}

/// See the module.
pub struct SealedStore {
    inner: Arc<dyn Store>,
    keys: Arc<Keys>,
}

impl SealedStore {
    /// Checks that every Secret opens, and seals anew what is plain or under an older key.
    pub async fn open(inner: Arc<dyn Store>, keys: Keys) -> Result<Self, SealError> {
        let this = Self { inner, keys: Arc::new(keys) };
        let mut stale = Vec::new();
        for kv in records(&*this.inner).await? {
            let plain = this.keys.open(&kv.key, &kv.value)?;
            if !this.keys.is_current(&kv.value) {
                stale.push((kv.key, plain, kv.mod_revision));
            }
        }
        for (key, plain, revision) in stale {
            let compares = vec![Compare::ModRevision(key.clone(), revision)];
            let op = Op::Put { value: this.keys.seal(&key, &plain), key, lease: None };
            this.inner.txn(Txn { compares, ops: vec![op] }).await?;
        }
        Ok(this)
    }

    fn open_all(&self, kvs: &mut [KeyValue]) -> Result<(), StoreError> {
        kvs.iter_mut().try_for_each(|kv| open_one(&self.keys, kv))
    }
}

/// True where a Secret is there that only a key can open.
pub async fn has_sealed(store: &dyn Store) -> Result<bool, StoreError> {
    Ok(records(store).await?.iter().any(|kv| keys::is_sealed(&kv.value)))
}

/// Checks that every Secret opens with these keys, and changes nothing.
pub async fn check_opens(store: &dyn Store, keys: &Keys) -> Result<(), SealError> {
    for kv in records(store).await? {
        keys.open(&kv.key, &kv.value)?;
    }
    Ok(())
}

async fn records(store: &dyn Store) -> Result<Vec<KeyValue>, StoreError> {
    let mut all = Vec::new();
    let mut start = Bytes::from_static(SEALED);
    loop {
        let request =
            RangeRequest { start, end: Bytes::from_static(SEALED_END), revision: None, limit: PAGE, count: false };
        let RangeReply { mut kvs, more, .. } = store.range(request).await?;
        all.append(&mut kvs);
        match all.last() {
            Some(last) if more => start = Bytes::from([&last.key[..], b"\0"].concat()),
            _ => return Ok(all),
        }
    }
}

fn open_one(keys: &Keys, kv: &mut KeyValue) -> Result<(), StoreError> {
    if is_sealed_place(&kv.key) && !kv.value.is_empty() {
        let failed = |error: OpenError| StoreError::Engine { action: "decrypting", source: Arc::new(error) };
        kv.value = keys.open(&kv.key, &kv.value).map_err(failed)?;
    }
    Ok(())
}

#[async_trait]
impl Store for SealedStore {
    async fn revision(&self) -> Result<Revision, StoreError> {
        self.inner.revision().await
    }

    async fn range(&self, request: RangeRequest) -> Result<RangeReply, StoreError> {
        let mut reply = self.inner.range(request).await?;
        self.open_all(&mut reply.kvs)?;
        Ok(reply)
    }

    async fn txn(&self, mut txn: Txn) -> Result<TxnReply, StoreError> {
        for op in &mut txn.ops {
            if let Op::Put { key, value, .. } = op
                && is_sealed_place(key)
            {
                *value = self.keys.seal(key, value);
            }
        }
        let mut reply = self.inner.txn(txn).await?;
        if let TxnReply::Conflict { current, .. } = &mut reply {
            current.iter_mut().flatten().try_for_each(|kv| open_one(&self.keys, kv))?;
        }
        Ok(reply)
    }

    async fn watch(&self, request: WatchRequest) -> Result<WatchStream, StoreError> {
        let keys = self.keys.clone();
        let stream = self.inner.watch(request).await?;
        let opened = stream.map(move |batch| {
            batch.and_then(|mut batch: WatchBatch| {
                batch.events.iter_mut().try_for_each(|event| open_one(&keys, &mut event.kv))?;
                Ok(batch)
            })
        });
        Ok(Box::pin(opened))
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

    fn room(&self) -> Option<Room> {
        self.inner.room()
    }
}
