//! Watchers of the API that write down what they are told, to be compared with what really happened.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use http_body_util::BodyExt as _;
use serde_json::Value;
use std::time::Duration;

use crate::{link::Link, truth::Truth};

/// Watches one resource in all namespaces, for ever.
pub struct Watcher {
    path: &'static str,
    /// Keys of the resource in the store.
    prefix: &'static str,
    sessions: Mutex<Vec<Session>>,
}

/// One list and the watches that resumed from it.
#[derive(Default)]
struct Session {
    /// The list's revision.
    from: u64,
    /// What the list held, by key and revision.
    listed: Vec<(String, u64)>,
    seen: Vec<Seen>,
    /// Events up to here have arrived.
    until: u64,
}

#[derive(Debug, PartialEq)]
struct Seen {
    revision: u64,
    key: String,
    deleted: bool,
}

enum Ended {
    Broken,
    /// The server no longer has what is asked for.
    Expired,
}

impl Watcher {
    pub fn new(path: &'static str, prefix: &'static str) -> Self {
        Self { path, prefix, sessions: Mutex::default() }
    }

    fn sessions(&self) -> MutexGuard<'_, Vec<Session>> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub async fn run(self: Arc<Self>, link: Link) {
        loop {
            if let Some(session) = self.list(&link).await {
                self.sessions().push(session);
                while let Ended::Broken = self.watch(&link).await.unwrap_or(Ended::Broken) {
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    async fn list(&self, link: &Link) -> Option<Session> {
        let (status, body) = fetch(link, self.path).await?;
        let list: Value = serde_json::from_slice(&body).ok().filter(|_| status == 200)?;
        let from = list["metadata"]["resourceVersion"].as_str()?.parse().ok()?;
        let items = list["items"].as_array().into_iter().flatten();
        let listed = items.map(|item| (self.key(item), revision(item))).collect();
        Some(Session { from, listed, seen: Vec::new(), until: from })
    }

    /// `None` where the stream broke.
    async fn watch(&self, link: &Link) -> Option<Ended> {
        let from = self.sessions().last()?.until;
        let path = format!("{}?watch=1&allowWatchBookmarks=1&resourceVersion={from}&timeoutSeconds=120", self.path);
        let request = http::Request::get(path).body(http_body_util::Empty::new()).ok()?;
        let response = link.send(request).await.ok()?;
        if response.status() != 200 {
            return Some(if response.status() == 410 { Ended::Expired } else { Ended::Broken });
        }
        let (mut body, mut buffer) = (response.into_body(), Vec::new());
        loop {
            let frame = body.frame().await?.ok()?;
            buffer.extend_from_slice(frame.data_ref()?);
            while let Some(end) = buffer.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = buffer.drain(..=end).collect();
                let event: Value = serde_json::from_slice(&line).ok()?;
                let object = &event["object"];
                match event["type"].as_str()? {
                    "ERROR" if object["code"] == 410 => return Some(Ended::Expired),
                    "ERROR" => return Some(Ended::Broken),
                    "BOOKMARK" => self.sessions().last_mut()?.until = revision(object),
                    change => {
                        let (revision, key) = (revision(object), self.key(object));
                        let mut sessions = self.sessions();
                        let session = sessions.last_mut()?;
                        session.seen.push(Seen { revision, key, deleted: change == "DELETED" });
                        session.until = revision;
                    }
                }
            }
        }
    }

    fn key(&self, object: &Value) -> String {
        let text = |field: &str| object["metadata"][field].as_str().unwrap_or_default().to_owned();
        match text("namespace") {
            namespace if namespace.is_empty() => format!("{}{}", self.prefix, text("name")),
            namespace => format!("{}{namespace}/{}", self.prefix, text("name")),
        }
    }

    /// True once the newest change of the resource has arrived.
    pub fn is_current(&self, truth: &Truth) -> bool {
        let newest = truth.newest(self.prefix);
        self.sessions().last().is_some_and(|session| session.until >= newest)
    }

    /// Says where a watcher was told anything but the truth.
    pub fn judge(&self, truth: &Truth) -> Vec<String> {
        let history = truth.history(self.prefix);
        let mut wrong = Vec::new();
        for session in &*self.sessions() {
            let mut there = std::collections::BTreeMap::new();
            for entry in history.iter().take_while(|entry| entry.revision <= session.from) {
                match &entry.object {
                    Some(_) => there.insert(entry.key.clone(), entry.revision),
                    None => there.remove(&entry.key),
                };
            }
            let there: Vec<_> = there.into_iter().collect();
            let mut listed = session.listed.clone();
            listed.sort();
            if there != listed {
                wrong.push(format!("{} at {}: the list is {listed:?}, not {there:?}", self.path, session.from));
            }
            let between = |revision: u64| revision > session.from && revision <= session.until;
            let due = history.iter().filter(|entry| between(entry.revision)).map(|entry| Seen {
                revision: entry.revision,
                key: entry.key.clone(),
                deleted: entry.object.is_none(),
            });
            let due: Vec<_> = due.collect();
            if let Some(at) = (0..due.len().max(session.seen.len())).find(|at| due.get(*at) != session.seen.get(*at)) {
                let (told, due) = (session.seen.get(at), due.get(at));
                wrong.push(format!("{} after {}: told {told:?} where {due:?} happened", self.path, session.from));
            }
        }
        wrong
    }
}

async fn fetch(link: &Link, path: &str) -> Option<(u16, bytes::Bytes)> {
    let request = http::Request::get(path).body(http_body_util::Empty::new()).ok()?;
    let response = link.send(request).await.ok()?;
    let status = response.status().as_u16();
    Some((status, response.into_body().collect().await.ok()?.to_bytes()))
}

fn revision(object: &Value) -> u64 {
    object["metadata"]["resourceVersion"].as_str().and_then(|text| text.parse().ok()).unwrap_or(0)
}
