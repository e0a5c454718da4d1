//! `/openapi/v2` and `/openapi/v3`: written when asked for, and kept for as long as somebody goes on asking.
//! (<https://kubernetes.io/docs/concepts/overview/kubernetes-api/#openapi-interface-definition>)

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use knarr_api::{openapi, status::ApiError};

use crate::{codec::respond, contract::Response, route::Query};

/// Documents are up to some megabytes long, and clients keep them themselves.
const KEPT: Duration = Duration::from_secs(60);
const JSON: [&str; 1] = ["application/json"];

#[derive(Clone, Default)]
pub struct OpenApi {
    kept: Arc<Mutex<BTreeMap<String, Bytes>>>,
}

impl OpenApi {
    /// Answers below `/openapi/`; `None` where there is no such document.
    pub async fn answer(&self, path: &str, query: &Query, headers: &HeaderMap) -> Result<Option<Response>, ApiError> {
        if !takes_json(headers) {
            return Err(ApiError::not_acceptable(&JSON));
        }
        let name = match path.strip_prefix("/openapi/") {
            Some("v2") => {
                return Ok(self.document("v2").await.map(|body| answer(body, &openapi::v3_hash("v2"), headers)));
            }
            Some("v3") => return Ok(Some(respond::json(StatusCode::OK, openapi::v3_index()))),
            Some(name) => name.strip_prefix("v3/").unwrap_or_default(),
            None => return Ok(None),
        };
        if !openapi::group_versions().contains(name) {
            return Ok(None);
        }
        let hash = openapi::v3_hash(name);
        match query.find("hash") {
            // What the index named is forever; an old name leads to the new one.
            Some(asked) if asked == hash => {
                let Some(body) = self.document(name).await else { return Ok(None) };
                let mut response = answer(body, &hash, headers);
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
            None => Ok(self.document(name).await.map(|body| answer(body, &hash, headers))),
        }
    }

    async fn document(&self, name: &str) -> Option<Bytes> {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner).get(name).cloned();
        if kept.is_some() {
            return kept;
        }
        let owned = name.to_owned();
        let made = tokio::task::spawn_blocking(move || match owned.as_str() {
            "v2" => Some(openapi::v2()),
            name => openapi::v3_document(name),
        });
        let body = Bytes::from(made.await.ok().flatten()?);
        self.kept.lock().unwrap_or_else(PoisonError::into_inner).insert(name.to_owned(), body.clone());
        let (kept, name) = (Arc::downgrade(&self.kept), name.to_owned());
        tokio::spawn(async move {
            tokio::time::sleep(KEPT).await;
            if let Some(kept) = kept.upgrade() {
                kept.lock().unwrap_or_else(PoisonError::into_inner).remove(&name);
            }
        });
        Some(body)
    }
}

fn takes_json(headers: &HeaderMap) -> bool {
    let mut accepts = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok()).peekable();
    if accepts.peek().is_none() {
        return true;
    }
    accepts.flat_map(|value| value.split(',')).any(|clause| {
        matches!(clause.split(';').next().unwrap_or_default().trim(), "*/*" | "application/*" | "application/json")
    })
}

fn answer(body: Bytes, hash: &str, headers: &HeaderMap) -> Response {
    let etag = format!("\"{hash}\"");
    let known = headers.get(header::IF_NONE_MATCH).is_some_and(|known| known.as_bytes() == etag.as_bytes());
    let mut response = respond::conditional(known, JSON[0], body);
    if let Ok(etag) = HeaderValue::from_str(&etag) {
        response.headers_mut().insert(header::ETAG, etag);
    }
    response
}
