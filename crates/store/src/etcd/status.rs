//! What a call that failed means for the store. etcd tells its errors apart by their texts.

use std::sync::Arc;

use crate::StoreError;
use knarr_grpc::{
    client::Failure,
    code::{DEADLINE_EXCEEDED, RESOURCE_EXHAUSTED, UNAVAILABLE},
};

const COMPACTED: &str = "required revision has been compacted";
const FUTURE: &str = "required revision is a future revision";
const NO_LEASE: &str = "requested lease not found";
const TOO_MANY: &str = "too many requests";

#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Refused(String);

/// What etcd means by a failure.
pub trait EtcdFailure {
    fn is_compacted(&self) -> bool;
    fn is_future(&self) -> bool;
    fn is_no_lease(&self) -> bool;
    /// What is left when the caller has looked at what its own call may be answered with.
    fn into_error(self, action: &'static str) -> StoreError;
}

fn says(failure: &Failure, text: &str) -> bool {
    matches!(failure, Failure::Refused { message, .. } if message.contains(text))
}

impl EtcdFailure for Failure {
    fn is_compacted(&self) -> bool {
        says(self, COMPACTED)
    }

    fn is_future(&self) -> bool {
        says(self, FUTURE)
    }

    fn is_no_lease(&self) -> bool {
        says(self, NO_LEASE)
    }

    fn into_error(self, action: &'static str) -> StoreError {
        match self {
            Self::Unsent(why) => StoreError::Unavailable { detail: format!("etcd cannot be reached ({why})") },
            Self::Lost(why) => {
                StoreError::Unavailable { detail: format!("etcdserver: request timed out (while {action}: {why})") }
            }
            Self::Refused { message, .. } if message.contains(TOO_MANY) => StoreError::Overloaded,
            Self::Refused { code: UNAVAILABLE | RESOURCE_EXHAUSTED | DEADLINE_EXCEEDED, message } => {
                StoreError::Unavailable { detail: message }
            }
            Self::Refused { message, .. } => StoreError::Engine { action, source: Arc::new(Refused(message)) },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_become_errors_that_say_what_they_are() {
        let refused = |code, message: &str| Failure::Refused { code, message: message.into() };
        let rows = [
            (refused(14, "etcdserver: no leader"), "etcdserver: no leader"),
            (refused(8, "etcdserver: mvcc: database space exceeded"), "etcdserver: mvcc: database space exceeded"),
            (refused(8, "etcdserver: too many requests"), "too many writes wait; try again in a moment"),
            (refused(3, "etcdserver: request is too large"), "writing failed"),
            (Failure::Lost("gone".into()), "etcdserver: request timed out (while writing: gone)"),
            (Failure::Unsent("http://a: refused".into()), "etcd cannot be reached (http://a: refused)"),
        ];
        for (failure, text) in rows {
            assert_eq!(failure.into_error("writing").to_string(), text);
        }
    }
}
