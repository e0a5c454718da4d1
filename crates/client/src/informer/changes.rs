//! A stream of changes for one subscriber. What it has not taken yet is merged per object, so a slow subscriber
//! costs memory for each object that changed, never for each change.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
};

use futures::Stream;
use tokio::sync::Notify;

use super::{
    Object,
    cache::{Cache, Change},
};

/// Changes as they come, in the order in which each object first changed. Ends when the informer does.
pub struct Changes<K> {
    mailbox: Arc<Mailbox<K>>,
}

struct Mailbox<K> {
    pending: Mutex<Pending<K>>,
    wake: Notify,
}

struct Pending<K> {
    /// Keys of `changes` in order; a key whose change cancelled out may be left over.
    order: VecDeque<String>,
    changes: HashMap<String, Change<K>>,
    closed: bool,
}

/// Lives inside the handler; dropped when the cache closes.
struct Sender<K>(Weak<Mailbox<K>>);

impl<K> Drop for Sender<K> {
    fn drop(&mut self) {
        if let Some(mailbox) = self.0.upgrade() {
            mailbox.pending().closed = true;
            mailbox.wake.notify_one();
        }
    }
}

pub(super) fn subscribe<K: Object>(cache: &Cache<K>) -> Changes<K> {
    let pending = Pending { order: VecDeque::new(), changes: HashMap::new(), closed: false };
    let mailbox = Arc::new(Mailbox { pending: Mutex::new(pending), wake: Notify::new() });
    let sender = Sender(Arc::downgrade(&mailbox));
    cache.on_change(Box::new(move |change| match sender.0.upgrade() {
        Some(mailbox) => {
            mailbox.pending().push(change);
            mailbox.wake.notify_one();
            true
        }
        None => false,
    }));
    Changes { mailbox }
}

impl<K: Object> Changes<K> {
    pub async fn next(&mut self) -> Option<Change<K>> {
        loop {
            {
                let mut pending = self.mailbox.pending();
                if let Some(change) = pending.pop() {
                    return Some(change);
                }
                if pending.closed {
                    return None;
                }
            }
            self.mailbox.wake.notified().await;
        }
    }

    /// What is there now, without waiting.
    pub fn try_next(&mut self) -> Option<Change<K>> {
        self.mailbox.pending().pop()
    }

    pub fn into_stream(self) -> impl Stream<Item = Change<K>> + Send {
        futures::stream::unfold(self, |mut changes| async move {
            let change = changes.next().await?;
            Some((change, changes))
        })
    }
}

impl<K> Mailbox<K> {
    fn pending(&self) -> MutexGuard<'_, Pending<K>> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<K: Object> Pending<K> {
    fn push(&mut self, change: &Change<K>) {
        // Keyed by uid, so that an object and its successor of the same name stay apart.
        let meta = change.latest().meta();
        let key = meta.uid.clone().unwrap_or_else(|| super::cache::describe(&**change.latest()));
        match self.changes.get_mut(&key) {
            None => {
                self.changes.insert(key.clone(), change.clone());
                self.order.push_back(key);
            }
            Some(earlier) if earlier.is_addition() && change.is_deletion() => {
                self.changes.remove(&key);
                self.drop_left_overs();
            }
            Some(earlier) => earlier.new.clone_from(&change.new),
        }
    }

    fn pop(&mut self) -> Option<Change<K>> {
        loop {
            let key = self.order.pop_front()?;
            if let Some(change) = self.changes.remove(&key) {
                return Some(change);
            }
        }
    }

    fn drop_left_overs(&mut self) {
        if self.order.len() > 2 * self.changes.len() + 64 {
            let changes = &self.changes;
            self.order.retain(|key| changes.contains_key(key));
        }
    }
}
