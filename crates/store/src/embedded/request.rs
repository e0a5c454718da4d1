//! What the writer is asked for.

use super::group::Answer;
use crate::{LeaseId, Op, Revision, StoreError, Txn, TxnReply};

#[derive(Debug)]
pub enum Request {
    Txn(Txn, Answer<TxnReply>),
    Compact(Revision, Answer<()>),
    Grant { ttl_seconds: u64, answer: Answer<LeaseId> },
    Revoke(LeaseId, Answer<()>),
}

impl Request {
    pub fn size_bytes(&self) -> usize {
        let op_bytes = |op: &Op| match op {
            Op::Put { key, value, .. } => key.len() + value.len(),
            Op::Delete { key } => key.len(),
        };
        match self {
            Self::Txn(txn, _) => txn.ops.iter().map(op_bytes).sum(),
            Self::Compact(..) | Self::Grant { .. } | Self::Revoke(..) => 0,
        }
    }

    /// True where more is kept afterwards than before. What only deletes is how room is made, although its own row
    /// takes some until the next compaction.
    pub fn grows(&self) -> bool {
        match self {
            Self::Txn(txn, _) => txn.ops.iter().any(|op| matches!(op, Op::Put { .. })),
            Self::Grant { .. } => true,
            Self::Compact(..) | Self::Revoke(..) => false,
        }
    }

    pub fn refuse(self, error: &StoreError) {
        // Nobody may be waiting any more; that is theirs to decide.
        match self {
            Self::Txn(_, answer) => drop(answer.send(Err(error.clone()))),
            Self::Grant { answer, .. } => drop(answer.send(Err(error.clone()))),
            Self::Compact(_, answer) | Self::Revoke(_, answer) => drop(answer.send(Err(error.clone()))),
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::oneshot;

    use super::*;

    #[test]
    fn only_deletions_make_room() {
        let put = Op::Put { key: "a".into(), value: "1".into(), lease: None };
        let delete = Op::Delete { key: "a".into() };
        for (ops, grows) in
            [(vec![], false), (vec![delete.clone()], false), (vec![put.clone()], true), (vec![delete, put], true)]
        {
            let request = Request::Txn(Txn { compares: vec![], ops: ops.clone() }, oneshot::channel().0);
            assert_eq!(request.grows(), grows, "{ops:?}");
        }
        assert!(Request::Grant { ttl_seconds: 1, answer: oneshot::channel().0 }.grows());
        assert!(!Request::Compact(Revision(1), oneshot::channel().0).grows());
        assert!(!Request::Revoke(LeaseId(1), oneshot::channel().0).grows());
    }
}
