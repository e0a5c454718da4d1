//! What a call that failed means for the store. etcd tells its errors apart by their texts.

use std::sync::Arc;

use super::grpc::{Failure, UNAVAILABLE};
use crate::StoreError;

const COMPACTED: &str = "required revision has been compacted";
const FUTURE: &str = "required revision is a future revision";
const NO_LEASE: &str = "requested lease not found";
const TOO_MANY: &str = "too many requests";
/// A code of its own: quotas, that of etcd's file among them.
const EXHAUSTED: u32 = 8;
const DEADLINE: u32 = 4;

#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Refused(String);

impl Failure {
    pub fn is_compacted(&self) -> bool {
        self.says(COMPACTED)
    }

    pub fn is_future(&self) -> bool {
        self.says(FUTURE)
    }

    pub fn is_no_lease(&self) -> bool {
        self.says(NO_LEASE)
    }

    fn says(&self, text: &str) -> bool {
        matches!(self, Self::Refused { message, .. } if message.contains(text))
    }

    /// What is left when the caller has looked at what its own call may be answered with.
    pub fn into_error(self, action: &'static str) -> StoreError {
        match self {
            Self::Unsent(why) => StoreError::Unavailable { detail: format!("etcd cannot be reached ({why})") },
            Self::Lost(why) => {
                StoreError::Unavailable { detail: format!("etcdserver: request timed out (while {action}: {why})") }
            }
            Self::Refused { message, .. } if message.contains(TOO_MANY) => StoreError::Overloaded,
            Self::Refused { code: UNAVAILABLE | EXHAUSTED | DEADLINE, message } => {
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
