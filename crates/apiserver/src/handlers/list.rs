//! Lists: from the cache where it has the revision, from the store's history where it does not.

use std::sync::Arc;

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use bytes::Bytes;
use knarr_api::status::{ApiError, Reason};
use knarr_store::{RangeRequest, Revision, StoreError};
use serde::{Deserialize, Serialize};

use super::{
    Context, Selection,
    options::{self, Freshness},
};
use crate::{
    cache::{Extract, Listing, PREFIX, object_key, store_error},
    codec::respond::{self, ListMeta},
    contract::{Response, Stored},
};

/// So many objects of the past are read together where a page is to be picked out of them.
const READ_AT_ONCE: usize = 500;

/// Where the next page begins, and of which revision it is. Opaque to clients.
#[derive(Debug, Serialize, Deserialize)]
pub struct Token {
    v: String,
    /// [`Token::LATEST`], or a revision.
    rv: i64,
    start: String,
}

impl Token {
    /// The rest of a list whose revision is gone, as it is now.
    const LATEST: i64 = -1;

    fn encode(revision: i64, last_key: &str) -> String {
        let token = Self { v: "meta.k8s.io/v1".into(), rv: revision, start: last_key.to_owned() };
        URL_SAFE_NO_PAD.encode(serde_json::to_vec(&token).unwrap_or_default())
    }

    /// `None` where it is for whatever there is now.
    fn revision(&self) -> Option<u64> {
        u64::try_from(self.rv).ok()
    }

    pub fn decode(text: &str) -> Result<Self, ApiError> {
        let bytes = URL_SAFE_NO_PAD.decode(text).ok();
        let token = bytes.and_then(|bytes| serde_json::from_slice::<Self>(&bytes).ok());
        token
            .filter(|token| token.v == "meta.k8s.io/v1")
            .ok_or_else(|| ApiError::bad_request("continue key is not valid: encoded as an unknown version"))
    }
}

pub async fn list(context: &Context) -> Result<Response, ApiError> {
    let selection = Selection::parse(context.resource, context.custom.as_deref(), context.namespace(), &context.query)?;
    let limit = parse_limit(context)?;
    let (listing, meta) = page(context, &selection, limit).await?;
    let items = context.in_versions(listing.items).await?;
    Ok(respond::list(context.shown(), items, &meta, context.accept, context.server.env.now()).await)
}

/// The objects of one page, and what the list says of those that follow.
pub async fn page(context: &Context, selection: &Selection, limit: usize) -> Result<(Listing, ListMeta), ApiError> {
    let (listing, mut meta) = select(context, selection, limit).await?;
    if listing.remaining > 0 {
        // Filtered lists do not say how much is left, as upstream's do not.
        meta.remaining = selection.is_everything().then_some(listing.remaining);
        let revision = i64::try_from(meta.revision).unwrap_or(i64::MAX);
        meta.continue_token = listing.items.last().map_or_else(String::new, |last| Token::encode(revision, &last.key));
    }
    Ok((listing, meta))
}

/// How many objects a page has; 0 for all.
pub fn parse_limit(context: &Context) -> Result<usize, ApiError> {
    match context.query.get("limit") {
        "" => Ok(0),
        text => match text.parse::<i64>() {
            Ok(limit) => Ok(usize::try_from(limit).unwrap_or(0)),
            Err(_) => Err(ApiError::bad_request(format!("strconv.ParseInt: parsing {text:?}: invalid syntax"))),
        },
    }
}

/// The objects of one page, and the revision that they are of.
async fn select(context: &Context, selection: &Selection, limit: usize) -> Result<(Listing, ListMeta), ApiError> {
    let caches = &context.server.caches;
    let freshness = options::list_freshness(&context.query, limit)?;
    let token = match context.query.get("continue") {
        "" => None,
        text => {
            if !matches!(freshness, Freshness::MostRecent | Freshness::Any) {
                return Err(ApiError::bad_request("specifying resource version is not allowed when using continue"));
            }
            Some(Token::decode(text)?)
        }
    };
    let exactly = match (&token, freshness) {
        (Some(token), _) if token.revision().is_some() => token.revision(),
        (Some(_), _) => {
            caches.fresh().await?;
            None
        }
        (None, Freshness::Exact(revision)) => Some(revision),
        (None, Freshness::NotOlderThan(revision)) => {
            caches.at_least(revision).await?;
            None
        }
        (None, Freshness::MostRecent) => {
            caches.fresh().await?;
            None
        }
        (None, Freshness::Any) => None,
    };
    let after = token.as_ref().map(|token| token.start.as_str());
    if let Some(revision) = exactly {
        caches.at_least(revision).await?;
        still_there(context, after, revision).await?;
    }
    // Read before the list is taken: the list may be newer than this, and never older.
    let applied = caches.applied();
    let (listing, changed_at) = from_cache(context, selection, after, limit);
    match exactly {
        // What is listed has not changed since, so the cache's state is that revision's.
        Some(revision) if changed_at <= revision => Ok((listing, ListMeta { revision, ..ListMeta::default() })),
        Some(revision) => {
            let listing = from_store(context, selection, after, limit, revision).await?;
            Ok((listing, ListMeta { revision, ..ListMeta::default() }))
        }
        None => Ok((listing, ListMeta { revision: applied.max(changed_at), ..ListMeta::default() })),
    }
}

fn from_cache(context: &Context, selection: &Selection, after: Option<&str>, limit: usize) -> (Listing, u64) {
    let Some(cache) = context.server.caches.of(context.resource) else {
        return (Listing { items: Vec::new(), remaining: 0 }, 0);
    };
    // One name in one namespace is one lookup.
    if let Some(name) = selection.name()
        && (!selection.namespace.is_empty() || !context.resource.namespaced)
    {
        let found = cache.get(&object_key(&selection.namespace, name));
        let items = found.into_iter().filter(|object| selection.matches(object)).collect();
        return (Listing { items, remaining: 0 }, cache.changed_at());
    }
    let matches = |object: &Stored| selection.matches(object);
    let keep: Option<&dyn Fn(&Stored) -> bool> = if selection.is_everything() { None } else { Some(&matches) };
    cache.list(&selection.namespace, after, limit, keep)
}

/// A revision that history no longer has is refused even where nothing has changed since, so that clients see tokens
/// expire when upstream's do.
async fn still_there(context: &Context, after: Option<&str>, revision: u64) -> Result<(), ApiError> {
    let nothing = Bytes::from_static(PREFIX.as_bytes());
    let revision = Some(Revision(revision));
    let request = RangeRequest { start: nothing.clone(), end: nothing, revision, limit: 1, count: false };
    context.server.store.range(request).await.map(drop).map_err(|error| expired_page(&error, after))
}

/// A page of the past: read from the store's history, as much as the page takes. Where only some objects are wanted it
/// is not known beforehand how much that is, and of those that follow only whether there are any, as from the cache.
async fn from_store(
    context: &Context,
    selection: &Selection,
    after: Option<&str>,
    limit: usize,
    revision: u64,
) -> Result<Listing, ApiError> {
    let resource = context.resource.stored_as();
    let mut prefix = format!("{PREFIX}{}/", resource.storage);
    let root = prefix.len();
    if !selection.namespace.is_empty() {
        prefix.push_str(&selection.namespace);
        prefix.push('/');
    }
    let mut start = match after {
        Some(key) => Bytes::from(format!("{}{key}\0", &prefix[..root])),
        None => Bytes::from(prefix.clone()),
    };
    // `0` is the byte after `/`.
    let end = Bytes::from(format!("{}0", &prefix[..prefix.len() - 1]));
    let takes_all = selection.is_everything();
    let at_once = match limit {
        0 => 0,
        limit if takes_all => limit,
        limit => limit.max(READ_AT_ONCE),
    };
    let mut items: Vec<Arc<Stored>> = Vec::new();
    loop {
        let revision = Some(Revision(revision));
        let range = RangeRequest { start, end: end.clone(), revision, limit: at_once, count: takes_all };
        let reply = context.server.store.range(range).await.map_err(|error| expired_page(&error, after))?;
        for kv in &reply.kvs {
            let key = String::from_utf8_lossy(&kv.key[root.min(kv.key.len())..]).into_owned();
            let definition = context.custom.as_ref().map(|custom| &*custom.definition);
            let stored = Extract::parse(resource, definition, &kv.value).of_row(&key, kv);
            if !selection.matches(&stored) {
                continue;
            }
            if limit > 0 && items.len() == limit {
                return Ok(Listing { items, remaining: 1 });
            }
            items.push(Arc::new(stored));
        }
        start = match reply.kvs.last() {
            Some(_) if takes_all => return Ok(Listing { items, remaining: reply.remaining }),
            Some(last) if reply.more => Bytes::from([&last.key[..], b"\0"].concat()),
            _ => return Ok(Listing { items, remaining: 0 }),
        };
    }
}

fn expired_page(error: &StoreError, after: Option<&str>) -> ApiError {
    match (error, after) {
        (StoreError::Compacted { .. }, Some(last_key)) => ApiError::new(
            Reason::Expired,
            "The provided continue parameter is too old to display a consistent list result. You can start a new list \
             without the continue parameter, or use the continue token in this response to retrieve the remainder of \
             the results. Continuing with the provided token results in an inconsistent list - objects that were \
             created, modified, or deleted between the time the first chunk was returned and now may show up in the \
             list.",
        )
        .with_continue(Token::encode(Token::LATEST, last_key)),
        (StoreError::Compacted { requested, compacted }, None) => ApiError::expired(format!(
            "The resourceVersion for the provided list is too old: {requested} ({compacted})."
        )),
        (other, _) => store_error(other),
    }
}
