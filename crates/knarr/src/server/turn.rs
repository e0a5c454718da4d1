//! Whose turn it is to run controllers and scheduler, where several servers share one etcd. All of them answer requests;
//! two sets of controllers would each make the pods that are missing.
//!
//! The turn is a key under a lease. Who has it puts it anew, under a new lease, again and again; who cannot stops by its
//! own clock, before the lease ends and lets another in.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use knarr_store::{Compare, KeyValue, Op, Revision, Store, StoreError, Txn, TxnReply};
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};
use tokio_util::sync::CancellationToken;

const KEY: &str = "/registry/knarr.dev/control";

/// How often, and how long.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    pub lease_seconds: u64,
    pub every: Duration,
    /// Without an answer for so long the turn is given up. One more round, that hangs, must end before the lease.
    pub given_up_after: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Self { lease_seconds: 15, every: Duration::from_secs(3), given_up_after: Duration::from_secs(8) }
    }
}

struct Turn {
    revision: Revision,
    renewed: Instant,
    /// Ends what was started.
    end: CancellationToken,
}

/// Calls `start` whenever this server's turn begins, with what ends it. `me` is like no other server's.
pub async fn keep(
    store: Arc<dyn Store>,
    me: String,
    pace: Pace,
    stop: CancellationToken,
    start: impl Fn(&CancellationToken),
) {
    let Pace { lease_seconds, every, given_up_after } = pace;
    let me = Bytes::from(me);
    let mut tick = interval(every);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut turn: Option<Turn> = None;
    loop {
        tokio::select! {
            _ = tick.tick() => {}
            () = stop.cancelled() => break,
        }
        let begun = Instant::now();
        let held = turn.as_ref().map(|turn| turn.revision);
        let put = timeout(every, put(&*store, &me, held, lease_seconds))
            .await
            .unwrap_or_else(|_| Err(StoreError::Unavailable { detail: "etcdserver: request timed out".into() }));
        turn = match (turn, put) {
            (None, Ok(Some(revision))) => {
                tracing::info!("this server runs the controllers and the scheduler from now on");
                let end = stop.child_token();
                start(&end);
                Some(Turn { revision, renewed: begun, end })
            }
            (Some(turn), Ok(Some(revision))) => Some(Turn { revision, renewed: begun, ..turn }),
            (Some(turn), Err(_)) if turn.renewed.elapsed() < given_up_after => Some(turn),
            (Some(turn), outcome) => {
                tracing::warn!(?outcome, "this server stops its controllers and its scheduler; another may run them");
                turn.end.cancel();
                None
            }
            (None, _) => None,
        };
    }
    if let Some(turn) = turn {
        let compares = vec![Compare::ModRevision(KEY.into(), turn.revision)];
        // It ends by itself where this fails.
        let _ = timeout(every, store.txn(Txn { compares, ops: vec![Op::Delete { key: KEY.into() }] })).await;
    }
}

/// Takes the turn, or keeps it. `None` where another has it.
async fn put(
    store: &dyn Store,
    me: &Bytes,
    held: Option<Revision>,
    lease_seconds: u64,
) -> Result<Option<Revision>, StoreError> {
    let lease = store.grant_lease(lease_seconds).await?;
    let compare = match held {
        Some(revision) => Compare::ModRevision(KEY.into(), revision),
        None => Compare::Absent(KEY.into()),
    };
    let op = Op::Put { key: KEY.into(), value: me.clone(), lease: Some(lease) };
    match store.txn(Txn { compares: vec![compare], ops: vec![op] }).await? {
        TxnReply::Committed { revision } => Ok(Some(revision)),
        TxnReply::Conflict { current, .. } => {
            let _ = store.revoke_lease(lease).await;
            // An answer that was lost: the key is ours, at a revision that nobody told us.
            let current: Option<KeyValue> = current.into_iter().next().flatten();
            Ok(current.filter(|kv| kv.value == me).map(|kv| kv.mod_revision))
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use knarr_store::MemoryStore;

    use super::*;

    type Started = Arc<Mutex<Vec<CancellationToken>>>;

    const PACE: Pace =
        Pace { lease_seconds: 5, every: Duration::from_millis(50), given_up_after: Duration::from_secs(3) };

    fn server(store: &MemoryStore, name: &str) -> (Started, CancellationToken) {
        let (started, stop) = (Started::default(), CancellationToken::new());
        let kept = started.clone();
        let start = move |end: &CancellationToken| kept.lock().unwrap().push(end.clone());
        tokio::spawn(keep(Arc::new(store.clone()), name.into(), PACE, stop.clone(), start));
        (started, stop)
    }

    /// Whether each turn there was goes on.
    fn turns(started: &Started) -> Vec<bool> {
        started.lock().unwrap().iter().map(|end| !end.is_cancelled()).collect()
    }

    async fn until(what: impl Fn() -> bool) {
        let reached = async {
            while !what() {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        timeout(Duration::from_secs(60), reached).await.expect("it never came to that");
    }

    #[tokio::test]
    async fn one_runs_and_the_other_follows() {
        let store = MemoryStore::default();
        let (one, stop_one) = server(&store, "one");
        until(|| turns(&one) == [true]).await;
        let (two, _stop_two) = server(&store, "two");
        let seen = store.revision().await.unwrap().0;
        // The other has asked several times by the time that the one has renewed its turn as often.
        while store.revision().await.unwrap().0 < seen + 10 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        assert_eq!((turns(&one), turns(&two)), (vec![true], vec![]));
        stop_one.cancel();
        until(|| turns(&two) == [true]).await;
        assert_eq!(turns(&one), [false]);
    }

    #[tokio::test]
    async fn who_lost_the_turn_stops() {
        let store = MemoryStore::default();
        let (one, _stop) = server(&store, "one");
        until(|| turns(&one) == [true]).await;
        let op = Op::Put { key: KEY.into(), value: "another".into(), lease: None };
        store.txn(Txn { compares: vec![], ops: vec![op] }).await.unwrap();
        until(|| turns(&one) == [false]).await;
    }
}
