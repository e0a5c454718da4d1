//! Watches: a stream of events, lines of JSON or messages, until the client goes, the time is up or the reader is too slow.
//! (<https://kubernetes.io/docs/reference/using-api/api-concepts/#efficient-detection-of-changes>)

use std::{sync::Arc, time::Duration};

use bytes::{Bytes, BytesMut};
use futures::stream;
use http::{HeaderValue, StatusCode, header};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use knarr_api::{registry::Resource, status::ApiError};
use serde_json::json;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use super::{
    Context, Selection,
    options::{self, invalid},
};
use crate::{
    cache::{CachedEvent, Change, Expired, Start, Watcher, frame},
    codec::{Accept, Encoding, Form, Shown, message, respond, table_of},
    contract::{Response, Stored},
    convert,
    custom::Custom,
    env::Env,
};

/// How often a quiet watch says how far it has come.
const BOOKMARK_EVERY: Duration = Duration::from_secs(60);
/// Watches end by themselves after half an hour to an hour, so that they spread over servers.
const DEFAULT_TIMEOUT_SECONDS: u64 = 1_800;
/// Events that wait are sent together up to about this size.
const BATCH_BYTES: usize = 128 << 10;

/// What a watcher's task needs to know.
struct Session {
    watcher: Watcher,
    resource: &'static Resource,
    custom: Option<Arc<Custom>>,
    selection: Selection,
    accept: Accept,
    env: Env,
    bookmarks: bool,
    deadline: Instant,
    next_bookmark: Instant,
    caches: Arc<crate::cache::Caches>,
    shutdown: CancellationToken,
    /// What was there at the start and is still to be sent, and the bookmark that ends it.
    initial: std::vec::IntoIter<Arc<Stored>>,
    initial_bookmark: Option<u64>,
    /// What is to be sent before anything else.
    ready: BytesMut,
    events: Vec<Arc<CachedEvent>>,
    ended: bool,
}

/// How a watch begins.
struct Beginning {
    start: Start,
    /// Ends the initial objects with a bookmark that says so.
    mark_initial: bool,
}

pub async fn watch(context: Context) -> Result<Response, ApiError> {
    let selection = Selection::parse(context.resource, context.custom.as_deref(), context.namespace(), &context.query)?;
    let beginning = beginning(&context).await?;
    let timeout = timeout(&context)?;
    let caches = context.server.caches.clone();
    let cache = caches.of(context.resource).ok_or_else(ApiError::no_such_resource)?;
    // Read before the watcher starts, so that a bookmark never names what was not seen.
    let applied = caches.applied();
    let started = cache.watch(beginning.start, selection.topic(context.resource), |object| selection.matches(object));
    let mut watcher = match started {
        Ok(watcher) => watcher,
        Err(expired) => return Ok(streaming(context.accept, error_frame(&expired, context.accept))),
    };
    let now = Instant::now();
    let jitter = Duration::from_millis(context.server.env.random() % 5_000);
    let initial = watcher.take_snapshot();
    let initial_bookmark = beginning.mark_initial.then(|| applied.max(watcher.changed_at()));
    let session = Session {
        watcher,
        resource: context.resource,
        custom: context.custom.clone(),
        selection,
        accept: context.accept,
        env: context.server.env.clone(),
        bookmarks: context.query.flag("allowWatchBookmarks"),
        deadline: now + timeout,
        next_bookmark: now + BOOKMARK_EVERY + jitter,
        caches: caches.clone(),
        shutdown: context.server.shutdown.clone(),
        initial: initial.into_iter(),
        initial_bookmark,
        ready: BytesMut::new(),
        events: Vec::new(),
        ended: false,
    };
    let guard = context.server.metrics.watch_started(context.resource);
    let accept = context.accept;
    let frames = stream::unfold((session, guard), |(mut session, guard)| async move {
        let bytes = session.next().await?;
        Some((Ok(Frame::data(bytes)), (session, guard)))
    });
    let mut response = streaming(accept, Bytes::new());
    *response.body_mut() = StreamBody::new(frames).boxed_unsync();
    Ok(response)
}

fn streaming(accept: Accept, body: Bytes) -> Response {
    let mut response = respond::json(StatusCode::OK, body);
    if accept.encoding == Encoding::Protobuf {
        let frames = HeaderValue::from_static("application/vnd.kubernetes.protobuf;stream=watch");
        response.headers_mut().insert(header::CONTENT_TYPE, frames);
    }
    // Proxies must not hold events back.
    response.headers_mut().insert(header::HeaderName::from_static("x-accel-buffering"), HeaderValue::from_static("no"));
    response
}

async fn beginning(context: &Context) -> Result<Beginning, ApiError> {
    let revision = options::revision(&context.query)?;
    let matching = context.query.get("resourceVersionMatch");
    let initial = match context.query.find("sendInitialEvents") {
        None => {
            if !matching.is_empty() {
                let why = "resourceVersionMatch: Forbidden: resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided";
                return Err(invalid("ListOptions", why));
            }
            None
        }
        Some(_) if matching != "NotOlderThan" => {
            let why = "resourceVersionMatch: Forbidden: sendInitialEvents requires setting resourceVersionMatch to NotOlderThan";
            return Err(invalid("ListOptions", why));
        }
        Some(_) => Some(context.query.flag("sendInitialEvents")),
    };
    let caches = &context.server.caches;
    match (initial, revision) {
        (Some(true), None) | (None, None) => {
            caches.fresh().await?;
        }
        // A revision that is not there yet is waited for, so that nothing before it is ever sent.
        (_, Some(revision)) => caches.at_least(revision).await?,
        (Some(false), None) => {}
    }
    let start = match (initial, revision) {
        (Some(true), _) | (None, None | Some(0)) => Start::Now { snapshot: true },
        (Some(false), None | Some(0)) => Start::Now { snapshot: false },
        (_, Some(revision)) => Start::After(revision),
    };
    Ok(Beginning { start, mark_initial: initial == Some(true) })
}

/// When the definition of what is watched is no longer what it was; never, for a built-in.
async fn replaced(custom: Option<&Custom>) {
    match custom {
        Some(custom) => custom.replaced.cancelled().await,
        None => std::future::pending().await,
    }
}

fn timeout(context: &Context) -> Result<Duration, ApiError> {
    let asked = match context.query.get("timeoutSeconds") {
        "" => 0,
        text => text
            .parse::<u64>()
            .map_err(|_| ApiError::bad_request(format!("strconv.ParseInt: parsing {text:?}: invalid syntax")))?,
    };
    let seconds = match asked {
        0 => DEFAULT_TIMEOUT_SECONDS + context.server.env.random() % DEFAULT_TIMEOUT_SECONDS,
        asked => asked.min(24 * 3_600),
    };
    Ok(Duration::from_secs(seconds))
}

fn error_frame(expired: &Expired, accept: Accept) -> Bytes {
    let error = ApiError::expired(expired.to_string());
    match accept.encoding {
        Encoding::Protobuf => message::error_event(&error),
        _ => frame("ERROR", error.to_value().to_string().as_bytes()),
    }
}

impl Session {
    /// Encodes the next of the initial objects, a chunk at a time.
    fn take_initial(&mut self) {
        while self.ready.len() < BATCH_BYTES
            && let Some(object) = self.initial.next()
        {
            let bytes = self.encode(Change::Added, &object);
            self.ready.extend_from_slice(&bytes);
        }
        if self.initial.as_slice().is_empty()
            && let Some(revision) = self.initial_bookmark.take()
        {
            self.bookmark(revision, true);
        }
    }

    /// The next piece to send; `None` ends the watch.
    async fn next(&mut self) -> Option<Bytes> {
        loop {
            self.take_initial();
            if !self.ready.is_empty() {
                return Some(self.ready.split().freeze());
            }
            if self.ended {
                return None;
            }
            if let Some(bytes) = self.take_events() {
                return Some(bytes);
            }
            if self.ended || !self.ready.is_empty() {
                continue;
            }
            let bookmark_at = if self.bookmarks { self.next_bookmark } else { self.deadline };
            tokio::select! {
                changed = self.watcher.wait() => self.ended |= !changed,
                () = sleep_until(bookmark_at.min(self.deadline)) => self.tick(),
                () = self.shutdown.cancelled() => self.ended = true,
                () = replaced(self.custom.as_deref()) => self.finish(),
            }
        }
    }

    /// Sends what is there already, and no more.
    fn finish(&mut self) {
        while !self.ended
            && let Some(bytes) = self.take_events()
        {
            self.ready.extend_from_slice(&bytes);
        }
        self.ended = true;
    }

    fn tick(&mut self) {
        let now = Instant::now();
        self.ended |= now >= self.deadline;
        if self.bookmarks {
            // Everything up to this revision is in the ring; what is there is sent first.
            let applied = self.caches.applied();
            if let Some(bytes) = self.take_events() {
                self.ready.extend_from_slice(&bytes);
            }
            self.bookmark(applied, false);
            self.next_bookmark = now + BOOKMARK_EVERY;
        }
    }

    /// Encodes the events that are there; one alone is sent without being copied.
    fn take_events(&mut self) -> Option<Bytes> {
        let mut only: Option<Bytes> = None;
        let mut many = BytesMut::new();
        loop {
            let mut events = std::mem::take(&mut self.events);
            if let Err(expired) = self.watcher.poll_now(&mut events) {
                self.ready.extend_from_slice(&error_frame(&expired, self.accept));
                self.ended = true;
                break;
            }
            let drained = events.is_empty();
            for event in events.drain(..) {
                let Some(bytes) = self.event(&event) else { continue };
                match only.take() {
                    None if many.is_empty() => only = Some(bytes),
                    None => many.extend_from_slice(&bytes),
                    Some(first) => {
                        many.extend_from_slice(&first);
                        many.extend_from_slice(&bytes);
                    }
                }
            }
            self.events = events;
            if drained || many.len() >= BATCH_BYTES {
                break;
            }
        }
        if many.is_empty() { only } else { Some(many.freeze()) }
    }

    /// An event as this watcher sees it: an object that leaves its selection is deleted, one that enters is added.
    fn event(&self, event: &CachedEvent) -> Option<Bytes> {
        let everything = self.selection.is_everything();
        let selects =
            |object: &Stored| if everything { self.in_namespace(object) } else { self.selection.matches(object) };
        let now = event.change != Change::Deleted && selects(&event.object);
        let before = event.before.as_deref().is_some_and(&selects);
        let change = match (before, now) {
            (false, false) => return None,
            (false, true) => Change::Added,
            (true, true) => Change::Modified,
            (true, false) => Change::Deleted,
        };
        if change == event.change && self.is_plain() {
            return Some(match self.accept.encoding {
                Encoding::Protobuf => event.message_frame(|kind, object| self.message(kind, object)),
                _ => event.frame(),
            });
        }
        if change == Change::Deleted && event.change != Change::Deleted {
            // As the selection last saw it, under the revision of the change that took it away.
            let last = event.before.as_deref().unwrap_or(&event.object);
            return Some(self.encode(change, &crate::cache::at_revision(last, event.revision)));
        }
        Some(self.encode(change, &event.object))
    }

    fn in_namespace(&self, object: &Stored) -> bool {
        self.selection.namespace.is_empty() || object.namespace() == self.selection.namespace
    }

    fn is_plain(&self) -> bool {
        self.accept.form == Form::Whole && convert::is_served_as_stored(self.resource, self.custom.as_deref())
    }

    fn message(&self, kind: &str, object: &Stored) -> Bytes {
        message::event(self.resource, self.accept.form, kind, object)
    }

    fn encode(&self, change: Change, object: &Stored) -> Bytes {
        let converted;
        let custom = self.custom.as_deref();
        let object = match convert::converted(self.resource, custom, object) {
            None => object,
            Some(other) => {
                converted = other;
                &*converted
            }
        };
        if self.accept.encoding == Encoding::Protobuf {
            return self.message(change.as_str(), object);
        }
        let json = match self.accept.form {
            Form::Whole => object.json.clone(),
            Form::Metadata { version } => respond::partial(&object.json, version),
            Form::Table { version, include } => {
                let printer = custom.map(|custom| custom.version().columns());
                let shown = Shown { resource: self.resource, printer };
                table_of(shown, std::slice::from_ref(object), "{}", version, include, self.env.now())
            }
        };
        frame(change.as_str(), json.trim_ascii_end())
    }

    fn bookmark(&mut self, revision: u64, ends_initial: bool) {
        let mut metadata = json!({"resourceVersion": revision.to_string(), "creationTimestamp": null});
        if ends_initial {
            metadata["annotations"] = json!({"k8s.io/initial-events-end": "true"});
        }
        let object = match self.accept.form {
            Form::Whole => {
                json!({"kind": self.resource.kind, "apiVersion": self.resource.api_version(), "metadata": metadata})
            }
            Form::Metadata { version } => {
                json!({"kind": "PartialObjectMetadata", "apiVersion": format!("meta.k8s.io/{version}"), "metadata": metadata})
            }
            Form::Table { version, .. } => {
                let object = json!({"kind": "PartialObjectMetadata", "apiVersion": format!("meta.k8s.io/{version}"), "metadata": metadata});
                json!({"kind": "Table", "apiVersion": format!("meta.k8s.io/{version}"),
                       "metadata": {"resourceVersion": revision.to_string()}, "columnDefinitions": [],
                       "rows": [{"cells": [], "object": object}]})
            }
        };
        let json = object.to_string();
        let bytes = match self.accept.encoding {
            Encoding::Protobuf => message::bookmark(self.resource, self.accept.form, json.as_bytes()),
            _ => frame("BOOKMARK", json.as_bytes()),
        };
        self.ready.extend_from_slice(&bytes);
    }
}
