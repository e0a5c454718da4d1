//! What other servers say of themselves: kept as they last said it, and marked as stale once they say nothing more.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use arc_swap::ArcSwap;
use http::{StatusCode, header};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::{Route, backend, convert, openapi};
use crate::{
    json::{items, text},
    server::Inner,
};

const PATIENCE: Duration = Duration::from_secs(5);
/// Swagger documents are written by some servers only when they are asked for.
const PATIENCE_FOR_SWAGGER: Duration = Duration::from_secs(30);
const AGGREGATED: &str = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,application/json";

/// Of one group version.
#[derive(Clone, Debug, Default)]
pub struct Document {
    /// As in an APIGroupDiscoveryList, `freshness` included.
    pub discovery: Value,
    /// What the server's own index of OpenAPI v3 calls the group version's document by; `None` where it has none.
    pub v3_hash: Option<String>,
    /// The part of the server's Swagger document that is about the group version.
    pub v2: Option<Arc<Value>>,
    pub v2_hash: String,
}

type Key = (String, String);

/// All of one moment.
#[derive(Debug, Default)]
pub struct Documents {
    /// Grows with every change.
    pub generation: u64,
    by: BTreeMap<Key, Arc<Document>>,
}

impl Documents {
    pub fn get(&self, group: &str, version: &str) -> Option<&Arc<Document>> {
        if self.by.is_empty() {
            return None;
        }
        self.by.get(&(group.to_owned(), version.to_owned()))
    }
}

#[derive(Debug, Default)]
pub struct Kept {
    now: ArcSwap<Documents>,
    writing: Mutex<()>,
}

impl Kept {
    pub fn now(&self) -> Arc<Documents> {
        self.now.load_full()
    }

    fn change(&self, change: impl FnOnce(&mut BTreeMap<Key, Arc<Document>>)) {
        let _turn = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let before = self.now.load();
        let mut by = before.by.clone();
        change(&mut by);
        self.now.store(Arc::new(Documents { generation: before.generation + 1, by }));
    }

    pub fn put(&self, route: &Route, document: Document) {
        self.change(|by| drop(by.insert((route.group.clone(), route.version.clone()), Arc::new(document))));
    }

    pub fn forget(&self, group: &str, version: &str) {
        if self.now.load().get(group, version).is_some() {
            self.change(|by| drop(by.remove(&(group.to_owned(), version.to_owned()))));
        }
    }

    /// What was known goes on being shown, as what it is.
    pub fn mark_stale(&self, route: &Route) {
        let known = self.now.load().get(&route.group, &route.version).cloned();
        if known.as_ref().is_some_and(|known| known.discovery["freshness"] == "Stale") {
            return;
        }
        let mut document = known.map_or_else(Document::default, |known| Document::clone(&known));
        if document.discovery.is_null() {
            document.discovery = json!({ "version": route.version });
        }
        document.discovery["freshness"] = "Stale".into();
        self.put(route, document);
    }
}

/// Asks the server for everything that it says of a group version.
pub async fn fetch(server: &Inner, route: &Route, before: Option<&Document>) -> Result<Document, String> {
    let mut discovery = discovery(server, route).await?;
    discovery["freshness"] = "Current".into();
    let mut document = Document { discovery, ..Document::default() };
    document.v3_hash = v3_hash(server, route).await;
    let known = before.filter(|before| before.v3_hash.is_some() && before.v3_hash == document.v3_hash);
    if let Some(known) = known.filter(|known| known.v2.is_some()) {
        document.v2 = known.v2.clone();
        document.v2_hash = known.v2_hash.clone();
        return Ok(document);
    }
    if let Some(part) = swagger(server, route).await {
        let digest = Sha256::digest(part.to_string());
        document.v2_hash = digest.iter().take(8).map(|byte| format!("{byte:02X}")).collect();
        document.v2 = Some(Arc::new(part));
    }
    Ok(document)
}

async fn get(server: &Inner, route: &Route, path: &str, accept: &str) -> Result<backend::Answer, String> {
    backend::get(&*server.lookup, route, &server.env, path, accept, PATIENCE).await
}

async fn discovery(server: &Inner, route: &Route) -> Result<Value, String> {
    if let Ok(answer) = get(server, route, "/apis", AGGREGATED).await
        && answer.status == StatusCode::OK
        && let Some(found) = aggregated(route, &answer)
    {
        return Ok(found);
    }
    let path = route.path();
    let answer = get(server, route, &path, "application/json").await?;
    if answer.status != StatusCode::OK {
        return Err(format!("failed to download discovery for {path}: {}", answer.status));
    }
    let list: Value = serde_json::from_slice(&answer.body).map_err(|error| error.to_string())?;
    Ok(convert::version_discovery(&route.group, &route.version, &list))
}

fn aggregated(route: &Route, answer: &backend::Answer) -> Option<Value> {
    let media_type = answer.headers.get(header::CONTENT_TYPE)?.to_str().ok()?;
    if !media_type.contains("as=APIGroupDiscoveryList") {
        return None;
    }
    let list: Value = serde_json::from_slice(&answer.body).ok()?;
    let group = items(&list["items"]).iter().find(|group| group["metadata"]["name"] == route.group.as_str())?;
    let version = items(&group["versions"]).iter().find(|version| version["version"] == route.version.as_str());
    version.cloned()
}

async fn v3_hash(server: &Inner, route: &Route) -> Option<String> {
    let answer = get(server, route, "/openapi/v3", "application/json").await.ok()?;
    let index: Value = serde_json::from_slice(&answer.body).ok().filter(|_| answer.status == StatusCode::OK)?;
    let entry = &index["paths"][route.path().trim_start_matches('/')];
    let url = text(&entry["serverRelativeURL"]);
    let hash = url.split_once("hash=").map_or("", |(_, hash)| hash.split('&').next().unwrap_or_default());
    (!url.is_empty()).then(|| hash.to_owned())
}

async fn swagger(server: &Inner, route: &Route) -> Option<Value> {
    let (lookup, path) = (&*server.lookup, "/openapi/v2");
    let asked = backend::get(lookup, route, &server.env, path, "application/json", PATIENCE_FOR_SWAGGER).await;
    let answer = asked.ok().filter(|answer| answer.status == StatusCode::OK)?;
    let prefix = route.path();
    // Such documents have megabytes: reading one is work for a thread that nobody waits for.
    let cut = move || openapi::part(&serde_json::from_slice(&answer.body).ok()?, &prefix);
    tokio::task::spawn_blocking(cut).await.ok().flatten()
}
