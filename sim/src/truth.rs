//! What really happened: every event of the store, read from behind the API server's back, with what must hold at
//! every moment. The rest of a run is compared with this.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use futures::StreamExt as _;
use knarr_store::{Event, EventKind, Revision, Store, WatchBatch, WatchRequest};
use serde_json::Value;
use tokio::{sync::Notify, task::AbortHandle};

use crate::laws::{self, Neighbours};

const PREFIX: &str = "/registry/";
/// Many times what any run needs: more is somebody who does the same thing for ever.
const MOST_EVENTS: usize = 10_000;

/// One change of one object.
#[derive(Clone, Debug)]
pub struct Entry {
    pub revision: u64,
    /// Below the prefix: `pods/a/web-1`.
    pub key: String,
    /// `None` where it was deleted.
    pub object: Option<Arc<Value>>,
}

pub struct Truth {
    is_gentle: bool,
    flooded: Notify,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    revision: u64,
    /// The objects there are, by key.
    objects: BTreeMap<String, Arc<Value>>,
    history: Vec<Entry>,
    /// Of each ReplicaSet and StatefulSet, by uid.
    most_wanted: BTreeMap<String, u64>,
    /// Writes that were acknowledged, with the revision that the answer named.
    acknowledged: Vec<(String, u64)>,
    violations: Vec<String>,
    following: Option<AbortHandle>,
    /// False while what the store began with is read.
    is_begun: bool,
    lines: Vec<String>,
    /// FNV-1a over all events: equal for two runs that went the same way.
    digest: u64,
}

impl Truth {
    pub fn new(is_gentle: bool) -> Self {
        Self { is_gentle, flooded: Notify::new(), state: Mutex::default() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Follows a store from where the last one ended; returns once it has read what is there.
    pub async fn follow(self: &Arc<Self>, store: impl Store) {
        if let Some(previous) = self.state().following.take() {
            previous.abort();
        }
        let seen = self.revision();
        let newest = store.revision().await.map_or(0, |revision| revision.0);
        let request = WatchRequest { prefix: PREFIX.into(), from: Some(Revision(seen)) };
        let mut stream = match store.watch(request).await {
            Ok(stream) => stream,
            Err(error) => return self.violated(format!("the store lost what was visible up to {seen}: {error}")),
        };
        while self.revision() < newest {
            match stream.next().await {
                Some(Ok(batch)) => self.take(batch),
                other => return self.violated(format!("the store's history breaks off: {other:?}")),
            }
        }
        self.state().is_begun = true;
        let truth = self.clone();
        let task = tokio::spawn(async move {
            while let Some(Ok(batch)) = stream.next().await {
                truth.take(batch);
            }
        });
        self.state().following = Some(task.abort_handle());
    }

    /// Waits until more has happened than ever should.
    pub async fn flooded(&self) {
        self.flooded.notified().await;
        let lines = self.lines();
        self.violated(format!("there is no end to it: {:#?}", &lines[lines.len().saturating_sub(40)..]));
    }

    pub fn revision(&self) -> u64 {
        self.state().revision
    }

    pub fn violated(&self, law: String) {
        let at = self.revision();
        self.state().violations.push(format!("at revision {at}: {law}"));
    }

    /// An answer said that this was written.
    pub fn acknowledged(&self, key: String, revision: u64) {
        self.state().acknowledged.push((key, revision));
    }

    pub fn get(&self, key: &str) -> Option<Arc<Value>> {
        self.state().objects.get(key).cloned()
    }

    /// The objects under a prefix (`pods/`), with their keys.
    pub fn list(&self, prefix: &str) -> Vec<(String, Arc<Value>)> {
        let state = self.state();
        let range = state.objects.range(prefix.to_owned()..).take_while(|(key, _)| key.starts_with(prefix));
        range.map(|(key, object)| (key.clone(), object.clone())).collect()
    }

    /// What happened to the objects under a prefix.
    pub fn history(&self, prefix: &str) -> Vec<Entry> {
        self.state().history.iter().filter(|entry| entry.key.starts_with(prefix)).cloned().collect()
    }

    /// The history in short, a line an event, each with the digest of all before it.
    pub fn lines(&self) -> Vec<String> {
        self.state().lines.clone()
    }

    /// The revision of the newest change under a prefix.
    pub fn newest(&self, prefix: &str) -> u64 {
        let state = self.state();
        state.history.iter().rfind(|entry| entry.key.starts_with(prefix)).map_or(0, |entry| entry.revision)
    }

    /// Everything that was ever wrong, with the acknowledged writes that are not in the history.
    pub fn violations(&self) -> Vec<String> {
        let state = self.state();
        let happened = |key: &str, revision: u64| {
            let from = state.history.partition_point(|entry| entry.revision < revision);
            state.history[from..].iter().take_while(|entry| entry.revision == revision).any(|entry| entry.key == key)
        };
        let lost = state.acknowledged.iter().filter(|(key, revision)| !happened(key, *revision));
        let lost = lost.map(|(key, revision)| format!("{key}: acknowledged at revision {revision}, and not there"));
        state.violations.iter().cloned().chain(lost).collect()
    }

    fn take(&self, batch: WatchBatch) {
        let mut state = self.state();
        for event in batch.events {
            state.apply(event, self.is_gentle);
        }
        state.revision = state.revision.max(batch.revision.0);
        if state.history.len() > MOST_EVENTS {
            self.flooded.notify_one();
        }
    }
}

impl State {
    fn apply(&mut self, event: Event, is_gentle: bool) {
        let Event { kind, kv } = event;
        let revision = kv.mod_revision.0;
        if self.is_begun {
            self.mix(&kv.key);
            self.mix(&kv.value);
        }
        let key = String::from_utf8_lossy(&kv.key).trim_start_matches(PREFIX).to_owned();
        let gap = if self.revision == 0 { None } else { revision.checked_sub(self.revision) };
        // One transaction may change several keys at its one revision; otherwise each has the next.
        if gap.is_some_and(|gap| gap > 1) || revision < self.revision {
            self.violations.push(format!("revision {revision} follows {}", self.revision));
        }
        self.revision = revision;
        let object = match kind {
            EventKind::Delete => None,
            EventKind::Put => match serde_json::from_slice::<Value>(&kv.value) {
                Ok(object) => Some(Arc::new(object)),
                Err(error) => return self.violations.push(format!("{key} is no JSON: {error}")),
            },
        };
        let before = self.objects.get(&key).cloned();
        if let Some(broken) = laws::of_change(&key, before.as_deref(), object.as_deref()) {
            self.violations.push(format!("at revision {revision}: {key}: {broken}"));
        }
        match &object {
            Some(object) => self.objects.insert(key.clone(), object.clone()),
            None => self.objects.remove(&key),
        };
        if self.is_begun {
            let verb = if object.is_some() { "put" } else { "delete" };
            self.lines.push(format!("{revision} {verb} {key} {:016x}", self.digest));
        }
        let is_counted = key.starts_with("replicasets.apps/") || key.starts_with("statefulsets.apps/");
        if let Some(object) = object.as_deref().filter(|_| is_counted) {
            let uid = object["metadata"]["uid"].as_str().unwrap_or_default().to_owned();
            let most = self.most_wanted.entry(uid).or_default();
            *most = object["spec"]["replicas"].as_u64().unwrap_or(0).max(*most);
        }
        let neighbours = Neighbours { objects: &self.objects, most_wanted: &self.most_wanted };
        if let Some(object) = object.as_deref().filter(|_| is_gentle && key.starts_with("pods/"))
            && let Some(broken) = neighbours.judge(object, before.as_deref())
        {
            self.violations.push(format!("at revision {revision}: {key}: {broken}"));
        }
        self.history.push(Entry { revision, key, object });
    }

    fn mix(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.digest = (self.digest ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
}
