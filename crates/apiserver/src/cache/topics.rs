//! Who is woken by which change.
//!
//! A cluster has a watcher of pods for each node, and each pod concerns one of them. So a watcher that selects one
//! object, one value of a label or an indexed field, or one namespace sleeps through everything else: it is woken by its
//! topic alone. Its position in the ring falls behind meanwhile, so all are woken before that could cut somebody off.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, PoisonError, Weak,
        atomic::{AtomicUsize, Ordering},
    },
};

use tokio::sync::watch;

use super::ring::MAX_EVENTS;
use crate::contract::Stored;

/// What a watcher wants to hear of.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Topic {
    Everything,
    /// One object.
    Key(Box<str>),
    /// All objects of one namespace.
    Namespace(Box<str>),
    /// The objects whose extracted field, by index, has a value.
    Field(usize, Box<str>),
    /// The objects of a namespace, or of all where it is empty, whose label has a value.
    Label {
        namespace: Box<str>,
        key: Box<str>,
        value: Box<str>,
    },
}

type Sender = watch::Sender<u64>;

/// Keeps its topic alive, and hears of it.
pub struct Subscription {
    _topic: Arc<Sender>,
    receiver: watch::Receiver<u64>,
}

impl Subscription {
    pub async fn changed(&mut self) -> bool {
        self.receiver.changed().await.is_ok()
    }

    pub fn mark_changed(&mut self) {
        self.receiver.mark_changed();
    }

    pub fn mark_unchanged(&mut self) {
        self.receiver.mark_unchanged();
    }
}

pub struct Topics {
    everything: Arc<Sender>,
    narrow: Mutex<Narrow>,
    /// Events since everybody was last woken.
    unheard: AtomicUsize,
}

#[derive(Default)]
struct Narrow {
    topics: HashMap<Topic, Weak<Sender>>,
    /// Somebody may want one value of a label. Objects have many labels, and mostly nobody does.
    by_label: bool,
}

impl Default for Topics {
    fn default() -> Self {
        Self { everything: Arc::new(Sender::new(0)), narrow: Mutex::default(), unheard: AtomicUsize::new(0) }
    }
}

impl Topics {
    pub fn subscribe(&self, topic: Topic) -> Subscription {
        let sender = match topic {
            Topic::Everything => self.everything.clone(),
            topic => self.narrow(topic),
        };
        Subscription { receiver: sender.subscribe(), _topic: sender }
    }

    fn narrow(&self, topic: Topic) -> Arc<Sender> {
        let mut narrow = self.narrow.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(sender) = narrow.topics.get(&topic).and_then(Weak::upgrade) {
            return sender;
        }
        let is_label = |topic: &Topic| matches!(topic, Topic::Label { .. });
        // Watchers come and go; their topics go when the table would grow.
        if narrow.topics.len() == narrow.topics.capacity() {
            narrow.topics.retain(|_, sender| sender.strong_count() > 0);
            narrow.by_label = narrow.topics.keys().any(is_label);
        }
        narrow.by_label |= is_label(&topic);
        let sender = Arc::new(Sender::new(0));
        narrow.topics.insert(topic, Arc::downgrade(&sender));
        sender
    }

    /// Wakes everybody.
    pub fn wake_all(&self, revision: u64) {
        self.unheard.store(0, Ordering::Relaxed);
        self.everything.send_replace(revision);
        let narrow = self.narrow.lock().unwrap_or_else(PoisonError::into_inner);
        narrow.topics.values().filter_map(Weak::upgrade).for_each(|sender| {
            sender.send_replace(revision);
        });
    }

    /// Wakes those whom one of the changed objects concerns, as it is or as it was.
    pub fn wake<'a>(&self, revision: u64, changed: impl ExactSizeIterator<Item = &'a Stored>) {
        let events = changed.len();
        if self.unheard.fetch_add(events, Ordering::Relaxed) + events > MAX_EVENTS / 2 {
            return self.wake_all(revision);
        }
        self.everything.send_replace(revision);
        let narrow = self.narrow.lock().unwrap_or_else(PoisonError::into_inner);
        if narrow.topics.is_empty() {
            return;
        }
        let wake = |topic: Topic| {
            if let Some(sender) = narrow.topics.get(&topic).and_then(Weak::upgrade) {
                sender.send_replace(revision);
            }
        };
        for object in changed {
            wake(Topic::Key(object.key.clone()));
            let namespace = object.namespace();
            if !namespace.is_empty() {
                wake(Topic::Namespace(namespace.into()));
            }
            for (key, value) in object.labels.iter().filter(|_| narrow.by_label) {
                for namespace in [namespace, ""] {
                    wake(Topic::Label { namespace: namespace.into(), key: key.clone(), value: value.clone() });
                }
            }
            for (index, value) in object.fields.iter().enumerate().filter(|(_, value)| !value.is_empty()) {
                wake(Topic::Field(index, value.clone()));
            }
        }
    }
}
