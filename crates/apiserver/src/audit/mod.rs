//! The audit log: who asked for what, when, and what came of it
//! (<https://kubernetes.io/docs/tasks/debug/debug-cluster/audit/>).
//!
//! A policy (`policy`) says how much is written of which requests. What becomes known of one is gathered in its record
//! (`record`), and an event (`event`) goes to the log (`log`) at each stage. Where no policy is set none of this exists,
//! and a request costs one look at an `Option`.
//!
//! Anything on a request's way may add to its record with [`annotate`]: the record belongs to the request's task, as a
//! context does elsewhere.

mod bodies;
mod event;
mod log;
mod policy;
mod record;
#[cfg(test)]
mod tests;

use std::{net::IpAddr, path::PathBuf, sync::Arc};

pub use self::{
    log::{LogConfig, LogError},
    policy::{Policy, PolicyError},
};
use record::Stage;
pub(crate) use record::{Record, Running};

use crate::{Env, contract::UserInfo, route::RequestInfo};

tokio::task_local! {
    static CURRENT: Arc<Record>;
}

/// Adds to what the audit log says of the request that is worked on; keys are prefixed with who says it, such as
/// `authorization.k8s.io/decision`. The first value of a key stands. Without an audit log, and outside of a request's own
/// task, it does nothing.
pub fn annotate(key: &str, value: impl Into<String>) {
    let _ = CURRENT.try_with(|record| record.annotate(key, value.into()));
}

/// Does the work of a request whose record this is.
pub(crate) async fn within<F: Future>(record: Arc<Record>, work: F) -> F::Output {
    CURRENT.scope(record, work).await
}

/// The address at the other end of a connection, among a request's extensions.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Peer(pub IpAddr);

#[derive(Debug, thiserror::Error)]
pub enum AuditError {
    #[error("the audit policy {path} cannot be used")]
    Policy {
        path: PathBuf,
        #[source]
        source: PolicyError,
    },
    #[error("the audit log cannot be written")]
    Log(#[from] LogError),
}

/// Decides what is logged, and logs it.
pub struct Auditor {
    policy: Policy,
    log: log::Log,
    env: Env,
}

impl Auditor {
    /// Reads the policy and opens the log. Has to be called inside a tokio runtime.
    pub fn open(policy: PathBuf, log: LogConfig, env: Env) -> Result<Self, AuditError> {
        let read = Policy::read(&policy).map_err(|source| AuditError::Policy { path: policy, source })?;
        Ok(Self { policy: read, log: log::Log::open(log, env.clone())?, env })
    }

    /// The record of a request; `None` where the policy wants none. `user` is who asks, before any impersonation.
    pub(crate) fn begin(
        self: &Arc<Self>,
        id: &str,
        user: Option<&UserInfo>,
        info: &RequestInfo,
        request: &http::request::Parts,
    ) -> Option<Arc<Record>> {
        let verdict = self.policy.judge(user, info)?;
        Some(Arc::new(Record::new(self.clone(), verdict, id, user, info, request)))
    }
}
