//! What `fuzz/` calls: decoders of what clients send that are nobody else's business.

use std::path::Path;

use http::{HeaderMap, HeaderValue, Method, header};
use knarr_api::status::ApiError;

use crate::{
    codec::{self, Accept},
    handlers::{list::Token, options},
    route::{Query, RequestInfo},
    write::Validation,
};

fn of_type(media_type: &'static str) -> HeaderMap {
    HeaderMap::from_iter([(header::CONTENT_TYPE, HeaderValue::from_static(media_type))])
}

/// A create request's body, by the strictest rules.
pub fn body(gvk: (&str, &str, &str), media_type: &'static str, body: &[u8]) -> Option<serde_json::Value> {
    let mut warnings = Vec::new();
    codec::decode_object(gvk.into(), &of_type(media_type), body, Validation::Warn, &mut warnings).ok()
}

/// DeleteOptions, with a query beside them.
pub fn delete_options(media_type: &'static str, body: &[u8], query: &str) -> Result<(), ApiError> {
    let mut options = codec::decode_options(&of_type(media_type), body)?;
    options::merge_delete_query(&mut options, &Query::parse(Some(query)))
}

pub fn continue_token(text: &str) -> bool {
    Token::decode(text).is_ok()
}

/// The first line of a request, and its `Accept`.
pub fn route(path: &str, query: &str, accept: &[u8]) {
    let query = Query::parse(Some(query));
    for method in [Method::GET, Method::POST, Method::DELETE] {
        let _ = RequestInfo::parse(&method, path, &query);
    }
    let headers = HeaderValue::from_bytes(accept).ok().map(|value| HeaderMap::from_iter([(header::ACCEPT, value)]));
    let _ = Accept::negotiate(&headers.unwrap_or_default(), &query, None, true);
    let _ = options::list_freshness(&query, 1);
}

/// Files that an administrator writes: tokens, and keys for Secrets.
pub fn credential_files(text: &str) {
    let _ = crate::authn::TokenFile::parse("fuzz", text);
    let _ = crate::seal::Keys::parse(text, Path::new("fuzz"));
}

/// A token of an identity provider, and the provider's keys.
pub fn oidc(token: &str, keys: &serde_json::Value) {
    crate::authn::oidc::check(token, keys);
}
