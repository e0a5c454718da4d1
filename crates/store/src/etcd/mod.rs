//! The store over an etcd that others run (3.4 and later): its revisions, watches, leases and compaction are etcd's own.
//!
//! Several servers may share one etcd, each with this store over it. See `docs/decisions/0015-etcd.md`.

mod client;
mod connect;
mod keys;
mod messages;
mod status;
mod watch;

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use knarr_grpc::{client::Failure, code};

pub use self::connect::{EtcdConfig, EtcdConfigError};
use self::{
    client::{Client, Repeat},
    keys::Keys,
    messages as pb,
    status::EtcdFailure,
};
use crate::{
    Compare, KeyValue, LeaseId, Op, RangeReply, RangeRequest, Revision, Store, StoreError, Txn, TxnReply, WatchRequest,
    WatchStream,
};

/// A handle to the store; clones are handles to the same one.
#[derive(Clone)]
pub struct EtcdStore(Arc<Shared>);

pub(crate) struct Shared {
    client: Client,
    keys: Keys,
    /// The newest revision that anybody was told, so that watches can follow up to it.
    asked: tokio::sync::watch::Sender<u64>,
}

impl EtcdStore {
    /// Keys that begin with `own` lie in etcd under `there` instead; no others are kept. No endpoint is asked yet.
    pub fn open(config: &EtcdConfig, own: impl Into<Bytes>, there: impl Into<Bytes>) -> Result<Self, EtcdConfigError> {
        let client = Client::new(config.endpoints()?);
        let keys = Keys::new(own.into(), there.into());
        Ok(Self(Arc::new(Shared { client, keys, asked: tokio::sync::watch::Sender::new(0) })))
    }
}

impl EtcdStore {
    /// False from a call that had no answer until one that has.
    pub fn answers(&self) -> bool {
        self.0.client.answers()
    }
}

impl Shared {
    /// The newest revision of the whole etcd, which all of its members have agreed on.
    async fn revision(&self) -> Result<Revision, StoreError> {
        let request = pb::RangeRequest { key: self.keys.any(), limit: 1, keys_only: true, ..Default::default() };
        let answer: Result<pb::RangeResponse, _> = self.client.call("KV/Range", &request, Repeat::Harmless).await;
        let answer = answer.map_err(|failure| failure.into_error("asking etcd for its revision"))?;
        Ok(revision_of(answer.header))
    }

    /// An error where history no longer reaches back to a revision.
    async fn check_history(&self, revision: Revision) -> Result<(), StoreError> {
        if revision == Revision(0) {
            // 0 asks for the newest there. Nothing ever was at revision 0, and the first is never compacted alone.
            return Box::pin(self.check_history(Revision(1))).await;
        }
        let key = self.keys.any();
        let request =
            pb::RangeRequest { key, revision: signed(revision), limit: 1, keys_only: true, ..Default::default() };
        let answer: Result<pb::RangeResponse, _> = self.client.call("KV/Range", &request, Repeat::Harmless).await;
        match answer {
            Err(failure) if failure.is_compacted() => Err(self.compacted(revision).await),
            Err(failure) if !failure.is_future() => Err(failure.into_error("asking etcd for its history")),
            _ => Ok(()),
        }
    }

    /// The error about a revision that is compacted. A range does not say up to where; a watch does.
    async fn compacted(&self, requested: Revision) -> StoreError {
        match watch::first_kept(self).await {
            Ok(compacted) => StoreError::Compacted { requested, compacted },
            Err(error) => error,
        }
    }

    /// What an error about a revision means, or the error itself.
    async fn explain(&self, failure: Failure, requested: Revision, action: &'static str) -> StoreError {
        if failure.is_compacted() {
            return self.compacted(requested).await;
        }
        if failure.is_future() {
            return match self.revision().await {
                Ok(newest) => StoreError::FutureRevision { requested, newest },
                Err(error) => error,
            };
        }
        failure.into_error(action)
    }

    fn key_value(&self, kv: pb::KeyValue) -> KeyValue {
        KeyValue {
            key: self.keys.key(&kv.key),
            value: kv.value,
            create_revision: unsigned(kv.create_revision),
            mod_revision: unsigned(kv.mod_revision),
        }
    }

    fn operation(&self, op: Op) -> Result<pb::RequestOp, StoreError> {
        let request = match op {
            Op::Put { key, value, lease } => {
                let lease = lease.map_or(0, |lease| lease.0.cast_signed());
                pb::Request::Put(pb::PutRequest { key: self.keys.place(&key)?, value, lease })
            }
            Op::Delete { key } => pb::Request::Delete(pb::DeleteRangeRequest { key: self.keys.place(&key)? }),
        };
        Ok(pb::RequestOp { request: Some(request) })
    }

    fn transaction(&self, txn: Txn) -> Result<pb::TxnRequest, StoreError> {
        let mut request = pb::TxnRequest::default();
        for compare in txn.compares {
            let (key, revision) = match compare {
                Compare::Absent(key) => (key, 0),
                Compare::ModRevision(key, revision) => (key, signed(revision)),
            };
            let key = self.keys.place(&key)?;
            let read = pb::Request::Range(pb::RangeRequest { key: key.clone(), ..Default::default() });
            request.failure.push(pb::RequestOp { request: Some(read) });
            request.compare.push(pb::Compare { target: pb::TARGET_MOD, key, mod_revision: Some(revision) });
        }
        request.success = txn.ops.into_iter().map(|op| self.operation(op)).collect::<Result<_, _>>()?;
        Ok(request)
    }

    async fn range(&self, request: &RangeRequest) -> Result<pb::RangeResponse, StoreError> {
        let range = pb::RangeRequest {
            key: self.keys.place(&request.start)?,
            range_end: self.keys.place(&request.end)?,
            limit: i64::try_from(request.limit).unwrap_or(0),
            revision: request.revision.map_or(0, signed),
            keys_only: false,
        };
        match self.client.call("KV/Range", &range, Repeat::Harmless).await {
            Ok(answer) => Ok(answer),
            Err(failure) => Err(self.explain(failure, request.revision.unwrap_or_default(), "reading from etcd").await),
        }
    }
}

#[async_trait]
impl Store for EtcdStore {
    async fn revision(&self) -> Result<Revision, StoreError> {
        let newest = self.0.revision().await?;
        self.0.asked.send_if_modified(|asked| {
            let newer = newest.0 > *asked;
            *asked = (*asked).max(newest.0);
            newer
        });
        Ok(newest)
    }

    async fn range(&self, mut request: RangeRequest) -> Result<RangeReply, StoreError> {
        loop {
            let mut answer = self.0.range(&request).await?;
            let last = answer.kvs.last().map(|kv| kv.key.clone());
            let all = if request.count { usize::try_from(answer.count).unwrap_or(0) } else { 0 };
            let remaining = all.saturating_sub(answer.kvs.len());
            answer.kvs.retain(|kv| !keys::is_fence(&kv.key));
            // A page of nothing but a fence would pass for the end.
            if let (true, true, Some(last)) = (answer.kvs.is_empty(), answer.more, last) {
                request.start = [&self.0.keys.key(&last)[..], b"\0"].concat().into();
                continue;
            }
            let kvs = answer.kvs.into_iter().map(|kv| self.0.key_value(kv)).collect();
            return Ok(RangeReply { revision: revision_of(answer.header), kvs, more: answer.more, remaining });
        }
    }

    async fn txn(&self, txn: Txn) -> Result<TxnReply, StoreError> {
        let lease = txn.ops.iter().find_map(|op| match op {
            Op::Put { lease, .. } => *lease,
            Op::Delete { .. } => None,
        });
        let request = self.0.transaction(txn)?;
        let answer: pb::TxnResponse = match self.0.client.call("KV/Txn", &request, Repeat::Never).await {
            Ok(answer) => answer,
            Err(failure) if failure.is_no_lease() => {
                return Err(StoreError::LeaseNotFound { lease: lease.unwrap_or(LeaseId(0)) });
            }
            Err(failure) => return Err(failure.into_error("writing to etcd")),
        };
        let revision = revision_of(answer.header);
        if answer.succeeded {
            return Ok(TxnReply::Committed { revision });
        }
        let current = answer.responses.into_iter().map(|response| {
            let kv = response.range.and_then(|range| range.kvs.into_iter().next());
            kv.map(|kv| self.0.key_value(kv))
        });
        Ok(TxnReply::Conflict { revision, current: current.collect() })
    }

    async fn watch(&self, request: WatchRequest) -> Result<WatchStream, StoreError> {
        watch::open(self.0.clone(), request).await
    }

    async fn compact(&self, revision: Revision) -> Result<(), StoreError> {
        let request = pb::CompactionRequest { revision: signed(revision) };
        let answer: Result<pb::Done, _> = self.0.client.call("KV/Compact", &request, Repeat::Harmless).await;
        match answer {
            Ok(_) => Ok(()),
            // Another server was faster, or asked for more.
            Err(failure) if failure.is_compacted() => Ok(()),
            Err(failure) => Err(self.0.explain(failure, revision, "compacting etcd").await),
        }
    }

    async fn grant_lease(&self, ttl_seconds: u64) -> Result<LeaseId, StoreError> {
        let request = pb::LeaseGrantRequest { ttl: i64::try_from(ttl_seconds).unwrap_or(i64::MAX) };
        // One that is granted twice holds nothing and ends by itself.
        let answer: Result<pb::LeaseGrantResponse, _> =
            self.0.client.call("Lease/LeaseGrant", &request, Repeat::Harmless).await;
        let action = "asking etcd for a lease";
        match answer.map_err(|failure| failure.into_error(action))? {
            pb::LeaseGrantResponse { id, error } if error.is_empty() => Ok(LeaseId(id.cast_unsigned())),
            pb::LeaseGrantResponse { error, .. } => {
                Err(Failure::Refused { code: code::UNKNOWN, message: error }.into_error(action))
            }
        }
    }

    async fn revoke_lease(&self, lease: LeaseId) -> Result<(), StoreError> {
        let request = pb::LeaseRevokeRequest { id: lease.0.cast_signed() };
        let answer: Result<pb::Done, _> = self.0.client.call("Lease/LeaseRevoke", &request, Repeat::Harmless).await;
        match answer {
            Err(failure) if !failure.is_no_lease() => Err(failure.into_error("revoking a lease of etcd's")),
            _ => Ok(()),
        }
    }

    async fn size_bytes(&self) -> Result<u64, StoreError> {
        let answer: Result<pb::StatusResponse, _> =
            self.0.client.call("Maintenance/Status", &pb::StatusRequest {}, Repeat::Harmless).await;
        let status = answer.map_err(|failure| failure.into_error("asking etcd for its size"))?;
        Ok(u64::try_from(status.db_size).unwrap_or(0))
    }
}

fn revision_of(header: Option<pb::Header>) -> Revision {
    unsigned(header.map_or(0, |header| header.revision))
}

fn unsigned(revision: i64) -> Revision {
    Revision(u64::try_from(revision).unwrap_or(0))
}

fn signed(revision: Revision) -> i64 {
    i64::try_from(revision.0).unwrap_or(i64::MAX)
}
