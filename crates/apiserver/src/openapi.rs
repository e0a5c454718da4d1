//! `/openapi/v2` and `/openapi/v3`: written when asked for, and kept for as long as somebody goes on asking.
//! (<https://kubernetes.io/docs/concepts/overview/kubernetes-api/#openapi-interface-definition>)

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use knarr_api::{openapi, status::ApiError};

use serde_json::Value;

use crate::{
    aggregation::{self, View},
    codec::respond,
    contract::Response,
    custom::Snapshot,
    route::Query,
};

/// Documents are up to some megabytes long, and clients keep them themselves.
const KEPT: Duration = Duration::from_secs(60);
const JSON: &str = "application/json";
/// What the protobuf form is answered as. Clients ask for it with an `@` before the version, too, which cannot stand in
/// a media type that is parsed.
const V2_PROTOBUF: &str = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf";
const V2_PROTOBUF_ASKED: &str = "application/com.github.proto-openapi.spec.v2@v1.0+protobuf";
const V3_PROTOBUF: &str = "application/com.github.proto-openapi.spec.v3.v1.0+protobuf";
const V3_PROTOBUF_ASKED: &str = "application/com.github.proto-openapi.spec.v3@v1.0+protobuf";

/// A document that can be asked for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Document {
    V2,
    V2Protobuf,
    /// Of one group version, by its path: `apis/apps/v1`.
    V3(String),
    V3Protobuf(String),
}

impl Document {
    fn write(&self, view: &View) -> Option<Vec<u8>> {
        let customs: Vec<_> = customs(&view.snapshot).collect();
        match self {
            Self::V2 | Self::V2Protobuf if parts(view).next().is_some() => {
                // Only a cluster with such servers pays for taking the document apart.
                let mut all: Value = serde_json::from_slice(&openapi::v2_with(&customs)).ok()?;
                parts(view).for_each(|(_, part)| aggregation::merge(&mut all, part));
                let is_json = *self == Self::V2;
                Some(if is_json { all.to_string().into_bytes() } else { openapi::v2_protobuf_of(&all) })
            }
            Self::V2 => Some(openapi::v2_with(&customs)),
            Self::V2Protobuf => Some(openapi::v2_protobuf_with(&customs)),
            Self::V3(name) => written_anew(view, name).or_else(|| openapi::v3_document(name)).or_else(|| {
                let own: Vec<_> = customs.into_iter().filter(|custom| document_name(custom) == *name).collect();
                (!own.is_empty()).then(|| openapi::v3_custom_document(&own))
            }),
            Self::V3Protobuf(name) => {
                let json = Self::V3(name.clone()).write(view)?;
                Some(openapi::v3_protobuf_of(&serde_json::from_slice(&json).ok()?))
            }
        }
    }

    fn media_type(&self) -> &'static str {
        match self {
            Self::V2Protobuf => V2_PROTOBUF,
            Self::V3Protobuf(_) => V3_PROTOBUF,
            Self::V2 | Self::V3(_) => JSON,
        }
    }
}

/// What the Swagger documents of other servers add, with what each is known by.
fn parts(view: &View) -> impl Iterator<Item = (&str, &Value)> {
    let documents = view.elsewhere().filter_map(|(_, document)| document);
    documents.filter_map(|document| Some((document.v2_hash.as_str(), &**document.v2.as_ref()?)))
}

/// The document of a group version of another server that has it in Swagger only.
fn written_anew(view: &View, name: &str) -> Option<Vec<u8>> {
    let (_, document) = view.elsewhere().find(|(route, _)| route.path().trim_start_matches('/') == name)?;
    let old = document.filter(|document| document.v3_hash.is_none())?.v2.as_ref()?;
    Some(aggregation::to_v3(old).to_string().into_bytes())
}

fn customs(snapshot: &Snapshot) -> impl Iterator<Item = openapi::Custom<'_>> {
    snapshot.customs().map(|custom| openapi::Custom { resource: custom.resource, version: custom.version() })
}

fn document_name(custom: &openapi::Custom<'_>) -> String {
    openapi::document_name(custom.resource.group, custom.resource.version)
}

/// What each document is known by while the same is served. Made from all schemas, so once for each catalogue.
#[derive(Default)]
struct Hashes {
    /// Of what is served, here and elsewhere.
    generation: (u64, u64, u64),
    v2: String,
    /// Of custom resources, by the name of their group-version. Where built-ins are in it too, theirs is the document.
    v3: BTreeMap<String, String>,
    /// What another server answers that has no such document.
    undocumented: BTreeSet<String>,
}

impl Hashes {
    fn of(view: &View) -> Self {
        let snapshot = &*view.snapshot;
        let mut groups: BTreeMap<String, Vec<openapi::Custom<'_>>> = BTreeMap::new();
        for custom in customs(snapshot) {
            groups.entry(document_name(&custom)).or_default().push(custom);
        }
        let mut v3: BTreeMap<_, _> =
            groups.iter().map(|(name, own)| (name.clone(), openapi::custom_hash(own))).collect();
        let mut v2 = openapi::v3_hash("v2");
        if !v3.is_empty() {
            let all: Vec<_> = customs(snapshot).collect();
            v2 = format!("{v2}-{}", openapi::custom_hash(&all));
        }
        for (hash, _) in parts(view) {
            v2 = format!("{v2}-{hash}");
        }
        let built_in = openapi::group_versions();
        v3.retain(|name, _| !built_in.contains(name));
        let mut undocumented = BTreeSet::new();
        for (route, document) in view.elsewhere() {
            let name = route.path().trim_start_matches('/').to_owned();
            let written_anew =
                |document: &aggregation::Document| document.v2.as_ref().map(|_| document.v2_hash.clone());
            let hash = document.and_then(|document| document.v3_hash.clone().or_else(|| written_anew(document)));
            match hash {
                Some(hash) => drop(v3.insert(name, hash)),
                None => drop(undocumented.insert(name)),
            }
        }
        v3.retain(|name, _| !undocumented.contains(name));
        Self { generation: view.generation(), v2, v3, undocumented }
    }

    /// `None` where there is no such document.
    fn v3(&self, name: &str) -> Option<String> {
        // What another server answers is not what is built in, though it may be called so.
        let known = self.v3.get(name).cloned();
        let is_built_in = || !self.undocumented.contains(name) && openapi::group_versions().contains(name);
        known.or_else(|| is_built_in().then(|| openapi::v3_hash(name)))
    }
}

/// Documents with what they are known by.
type Kept = BTreeMap<Document, (String, Bytes)>;

#[derive(Clone, Default)]
pub struct OpenApi {
    kept: Arc<Mutex<Kept>>,
    hashes: Arc<Mutex<Option<Arc<Hashes>>>>,
}

impl OpenApi {
    /// Answers below `/openapi/`; `None` where there is no such document.
    pub async fn answer(
        &self,
        view: &View,
        path: &str,
        query: &Query,
        headers: &HeaderMap,
    ) -> Result<Option<Response>, ApiError> {
        let hashes = self.hashes(view);
        let name = match path.strip_prefix("/openapi/") {
            Some("v2") => {
                let is_protobuf = wants_protobuf(headers, [V2_PROTOBUF, V2_PROTOBUF_ASKED])?;
                let document = if is_protobuf { Document::V2Protobuf } else { Document::V2 };
                let hash = entity(&hashes.v2, is_protobuf);
                return Ok(self.document(view, document, &hash, headers).await);
            }
            Some(name) => name,
            None => return Ok(None),
        };
        if name == "v3" {
            if !accepted(headers).any(is_json) {
                return Err(ApiError::not_acceptable(&[JSON]));
            }
            return Ok(Some(respond::json(StatusCode::OK, openapi::v3_index_of(&hashes.v3, &hashes.undocumented))));
        }
        let name = name.strip_prefix("v3/").unwrap_or_default();
        let Some(hash) = hashes.v3(name) else { return Ok(None) };
        let is_protobuf = wants_protobuf(headers, [V3_PROTOBUF, V3_PROTOBUF_ASKED])?;
        let form = if is_protobuf { Document::V3Protobuf } else { Document::V3 };
        let (document, tag) = (form(name.to_owned()), entity(&hash, is_protobuf));
        match query.find("hash") {
            // What the index named is forever; an old name leads to the new one.
            Some(asked) if asked == hash => {
                let Some(mut response) = self.document(view, document, &tag, headers).await else {
                    return Ok(None);
                };
                let forever = HeaderValue::from_static("public, max-age=31536000, immutable");
                response.headers_mut().insert(header::CACHE_CONTROL, forever);
                Ok(Some(response))
            }
            Some(_) => {
                let mut response = respond::text(StatusCode::MOVED_PERMANENTLY, "");
                if let Ok(location) = HeaderValue::from_str(&format!("/openapi/v3/{name}?hash={hash}")) {
                    response.headers_mut().insert(header::LOCATION, location);
                }
                Ok(Some(response))
            }
            None => Ok(self.document(view, document, &tag, headers).await),
        }
    }

    fn hashes(&self, view: &View) -> Arc<Hashes> {
        let mut kept = self.hashes.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(hashes) = kept.as_ref().filter(|hashes| hashes.generation == view.generation()) {
            return hashes.clone();
        }
        kept.insert(Arc::new(Hashes::of(view))).clone()
    }

    async fn document(&self, view: &View, document: Document, hash: &str, headers: &HeaderMap) -> Option<Response> {
        let media_type = document.media_type();
        let etag = format!("\"{hash}\"");
        let known = headers.get(header::IF_NONE_MATCH).is_some_and(|known| known.as_bytes() == etag.as_bytes());
        // Whoever has it needs none written.
        let body = if known { Bytes::new() } else { self.bytes(view, document, hash).await? };
        let mut response = respond::conditional(known, media_type, body);
        if let Ok(etag) = HeaderValue::from_str(&etag) {
            response.headers_mut().insert(header::ETAG, etag);
        }
        response.headers_mut().append(header::VARY, HeaderValue::from_static("Accept"));
        Some(response)
    }

    async fn bytes(&self, view: &View, document: Document, hash: &str) -> Option<Bytes> {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner).get(&document).cloned();
        if let Some((_, body)) = kept.filter(|(known, _)| known == hash) {
            return Some(body);
        }
        let (wanted, view) = (document.clone(), view.clone());
        let made = tokio::task::spawn_blocking(move || wanted.write(&view));
        let body = Bytes::from(made.await.ok().flatten()?);
        let entry = (hash.to_owned(), body.clone());
        self.kept.lock().unwrap_or_else(PoisonError::into_inner).insert(document.clone(), entry);
        let kept = Arc::downgrade(&self.kept);
        tokio::spawn(async move {
            tokio::time::sleep(KEPT).await;
            if let Some(kept) = kept.upgrade() {
                kept.lock().unwrap_or_else(PoisonError::into_inner).remove(&document);
            }
        });
        Some(body)
    }
}

/// Whether the first form that the client lists, and that there is, is the one in protobuf.
fn wants_protobuf(headers: &HeaderMap, protobuf: [&'static str; 2]) -> Result<bool, ApiError> {
    let form = |media_type: &str| {
        let is_protobuf = protobuf.contains(&media_type);
        (is_protobuf || is_json(media_type)).then_some(is_protobuf)
    };
    accepted(headers).find_map(form).ok_or_else(|| ApiError::not_acceptable(&[JSON, protobuf[0]]))
}

/// Two forms are two entities, and must not pass for each other in a cache.
fn entity(hash: &str, is_protobuf: bool) -> String {
    format!("{hash}{}", if is_protobuf { "-PROTOBUF" } else { "" })
}

fn is_json(media_type: &str) -> bool {
    matches!(media_type, "*/*" | "application/*" | JSON)
}

/// The media types that a client accepts, without their parameters; anything where it does not say.
fn accepted(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    let said = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok());
    let silent = !headers.contains_key(header::ACCEPT);
    let clauses = said.flat_map(|value| value.split(',')).chain(silent.then_some("*/*"));
    clauses.map(|clause| clause.split(';').next().unwrap_or_default().trim())
}
